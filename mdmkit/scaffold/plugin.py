"""The files of a new plugin, and how they come to stand in a folder: all of them, or none."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath

import mdmkit
from mdmkit import hookspecs
from mdmkit.errors import PluginError
from mdmkit.files import whole_folder, write_atomic
from mdmkit.scaffold.names import Names

TEMPLATES = Path(__file__).parent / "templates"
FILES = Path(__file__).parent / "files"
_FOLDERS = {
    "gitignore": ".gitignore",
    "workflow.yml": ".github/workflows/test.yml",
    "test_plugin.py": "tests/test_{module}.py",
}
"""Where files of `FILES` go, if not to the top."""


def plugin_files(names: Names) -> dict[str, str]:
    """The text of every file of a plugin, by its path in the folder."""
    words = placeholders(names)
    files = {}
    for source in sorted(FILES.glob("*.in")):
        place = _FOLDERS.get(source.stem, source.stem).format(module=names.module)
        text = source.read_text(encoding="utf-8")
        files[place] = re.sub(r"@(\w+)@", lambda word: words[word[1]], text)
    files[f"src/{names.module}/__init__.py"] = module_text(names)
    files[f"src/{names.module}/py.typed"] = ""
    return files


def module_text(names: Names) -> str:
    """The template of the kind, with the plugin's own names."""
    text = template(names.kind)
    cls = _class_name(names)
    text = re.sub(r"\b(Live)?Example(Network)?\b", rf"\g<1>{cls}\g<2>", text)
    return re.sub(r"\bexample\b", names.component, text)


def template(kind: str) -> str:
    """The module that a plugin of this kind starts from."""
    return (TEMPLATES / f"{kind}.py").read_text(encoding="utf-8")


def recipe_text(names: Names) -> str:
    """A small recipe that uses the component."""
    return "\n".join(
        (
            'extends = "quickstart_bell"',
            "",
            "[run]",
            f'name = "{names.component}"',
            "",
            f"[{'.'.join(table(names))}]",
            f'use = "{names.component}"',
        )
    )


def table(names: Names) -> tuple[str, ...]:
    """The table of a recipe that chooses the component, as its hook says: ``("sampler",)``."""
    about = inspect.getdoc(getattr(hookspecs, names.hook)) or ""
    (path,) = re.findall(r"``\[([a-z_.<>]+)\]``", about.splitlines()[0])
    label = names.component.replace(".", "_")
    return tuple(label if part == "<label>" else part for part in path.split("."))


def placeholders(names: Names) -> Mapping[str, str]:
    """What stands in the files for each ``@word@``."""
    first, *inner = table(names)
    labelled = first in ("evaluators", "trackers")
    inside = [f'["{key}"]' if labelled else f".{key}" for key in inner]
    article = "an" if names.words[0] in "aeiou" else "a"
    return {
        "distribution": names.distribution,
        "module": names.module,
        "entry": names.entry,
        "component": names.component,
        "class": _class_name(names),
        "kind": names.words,
        "a_kind": f"{article} {names.words}",
        "A_kind": f"{article} {names.words}".capitalize(),
        "recipe": recipe_text(names),
        "place": "".join(["recipe.", first, *inside]),
        "range": version_range(mdmkit.__version__),
    }


def version_range(version: str) -> str:
    """The versions of mdmkit that promise what `version` does: ``>=0.1,<0.2``, ``>=1.4,<2``.

    >>> version_range("0.1.3"), version_range("1.4.0rc1")
    ('>=0.1,<0.2', '>=1.4,<2')
    """
    major, minor = (int(part) for part in re.findall(r"\d+", version)[:2])
    return f">={major}.{minor},<" + (f"{major + 1}" if major else f"0.{minor + 1}")


def write_folder(directory: Path, files: Mapping[str, str]) -> None:
    """Make a folder with these files; it appears when it is complete.

    Args:
        directory: the folder, which may be there if it is empty.
        files: their text by path.

    Raises:
        PluginError: where the folder has something in it, or cannot be written.
    """
    target = directory.resolve()
    try:
        for problem in _objections(target):
            raise PluginError(f"{directory}: {problem}; choose another folder with --directory")
        with whole_folder(target) as folder:
            for name, text in files.items():
                _write(folder / PurePath(name), text)
    except OSError as error:
        raise PluginError(f"{directory}: cannot be written ({error.strerror})") from error


def _objections(target: Path) -> Iterator[str]:
    if target == Path.cwd():
        yield "is the working directory"
    elif target.is_dir():
        if any(target.iterdir()):
            yield "is there already and not empty"
    elif target.exists():
        yield "is a file"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text)


def _class_name(names: Names) -> str:
    return names.class_name(set(re.findall(r"\w+", template(names.kind))) - {"Example"})
