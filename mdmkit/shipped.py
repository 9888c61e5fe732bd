"""The files that are shipped, to be named without a path: recipes, suites and their presets."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

import mdmkit
from mdmkit.errors import RecipeError
from mdmkit.suggest import did_you_mean

SUFFIX = ".toml"


@frozen(kw_only=True)
class Shelf:
    """A folder of shipped files of one kind.

    Attributes:
        kind: what the files are, in words.
        folder: under the folder of recipes.
        instead: what else a folder that is given for a file may have meant.
    """

    kind: str
    folder: str = ""
    instead: str = ""

    def directory(self) -> Path:
        """Where they are: in the installed package, or beside it in a checkout."""
        package = Path(mdmkit.__file__).parent
        installed = package / "recipes"
        root = installed if installed.is_dir() else package.parent / "recipes"
        return root / self.folder

    def names(self) -> list[str]:
        """Their names, in alphabetical order."""
        return sorted(path.stem for path in self.directory().glob(f"*{SUFFIX}"))

    def path(self, name: str) -> Path:
        """The file of that name.

        Raises:
            RecipeError: where none has it.
        """
        names = self.names()
        if name not in names:
            known = f"known: {', '.join(names)} (the name of a file ends in {SUFFIX})"
            hint = did_you_mean(name, names) or ";"
            raise RecipeError(f'no shipped {self.kind} "{name}"{hint} {known}')
        return self.directory() / f"{name}{SUFFIX}"

    def find(self, source: str | Path) -> Path:
        """The file that `source` means: a path, or a bare name.

        Raises:
            RecipeError: where there is no such file or name.
        """
        path = Path(source)
        try:
            if path.is_file():
                return path
            return self._named(path)
        except OSError as error:  # a folder that may not be looked into, a name that is too long
            raise RecipeError(f"{path}: cannot be read: {error.strerror}") from error

    def _named(self, path: Path) -> Path:
        """What a path that is no file means."""
        bare = is_bare(path)
        if bare and (path.name in self.names() or not path.is_dir()):
            return self.path(path.name)
        if path.is_dir():
            instead = f"; {self.instead.format(path=path)}" if self.instead else ""
            raise RecipeError(f"{path}: is a folder, expected a {self.kind} file{instead}")
        shipped = path.stem in self.names()
        hint = f'; the shipped {self.kind} is called "{path.stem}", without a path'
        raise RecipeError(f"{path}: there is no such file{hint if shipped else ''}")

    def copy(self, name: str, to: Path) -> Path:
        """Copy the file of that name; an existing file is never overwritten.

        Args:
            name: of the file.
            to: the new file, or a directory in which it gets its own name.

        Returns:
            The new file.

        Raises:
            RecipeError: where none has that name, or the file exists or cannot be written.
        """
        source = self.path(name)
        target = to / source.name if to.is_dir() else to
        try:
            with target.open("xb") as file:
                file.write(source.read_bytes())
        except FileExistsError as error:
            raise RecipeError(f"{target}: exists already; choose another with --to") from error
        except OSError as error:
            raise RecipeError(f"{target}: cannot be written: {error.strerror}") from error
        return target


def is_bare(path: Path) -> bool:
    """Whether this is a name and not a path."""
    return path.suffix != SUFFIX and len(path.parts) == 1


RECIPES = Shelf(kind="recipe", instead="a run goes on with `mdmkit run --resume {path}`")
SUITES = Shelf(kind="suite", folder="suites")
PRESETS = Shelf(kind="preset", folder="suites/presets")
