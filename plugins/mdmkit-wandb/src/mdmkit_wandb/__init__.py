"""Weights & Biases for mdmkit: a tracker that never stops a run.

The package ``wandb`` is imported when a run begins, and not before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal

from attrs import frozen

from mdmkit import RecipeError, hookimpl, option
from mdmkit.errors import MissingPackageError
from mdmkit.protocols import RunInfo

if TYPE_CHECKING:
    from mdmkit import Recipe
    from mdmkit_wandb.log import WandbLog

MDMKIT_API = 1

_INSIDE = "expected a path inside the run directory"
_LONGEST_TAG = 64  # characters, as wandb has it


@frozen(kw_only=True)
class Wandb:
    """Weights & Biases: a row for each line of metrics over its ``step``; the recipe as config.

    What fails on the way there is said once, and the training goes on: ``metrics.jsonl`` has
    every line, and what wandb has not is handed over when the run is started again.
    """

    project: str = option("mdmkit", doc="the project that the run goes to")
    entity: str | None = option(None, doc="the user or team; unset: the user's own default")
    group: str | None = option(None, doc="runs that belong together, such as seeds of a recipe")
    tags: Sequence[str] = option((), doc="words to find the run by")
    mode: Literal["online", "offline", "disabled"] = option(
        "online", doc="offline keeps everything in files for `wandb sync`; disabled does nothing"
    )
    directory: str = option("", doc="where wandb's files go, inside the run directory")
    finish_seconds: float = option(
        60.0, gt=0, doc="how long the end of a run waits for what is still to be sent, seconds"
    )

    def check(self, recipe: Recipe) -> Iterator[str]:
        """A directory or tags that wandb cannot have, and another tracker with the same files."""
        if self._leads_out():
            yield f"directory: {_INSIDE}, got {self.directory!r}"
        odd = [tag for tag in self.tags if not 1 <= len(tag) <= _LONGEST_TAG]
        if odd:
            yield f"tags: wandb takes 1 to {_LONGEST_TAG} characters; not {len(odd)} of these"
        twins = [other for other in recipe.trackers.values() if isinstance(other, Wandb)]
        if [twin.directory for twin in twins].count(self.directory) > 1:
            yield (
                f'directory: several trackers keep their files in "{self.directory}"; give each '
                "its own"
            )

    def build(self, run: RunInfo) -> WandbLog:
        """The live tracker. Nothing is sent yet.

        Raises:
            RecipeError: where the package is missing, and for a directory that leads out of the
                run directory.
        """
        if self._leads_out():
            raise RecipeError(f'tracker "wandb", directory: {_INSIDE}, got {self.directory!r}')
        if self.mode != "disabled" and not _installed():
            raise MissingPackageError('tracker "wandb"', "wandb")
        from mdmkit_wandb.log import WandbLog

        return WandbLog(self, run)

    def _leads_out(self) -> bool:
        path = PurePath(self.directory)
        return path.is_absolute() or ".." in path.parts


def _installed() -> bool:
    """Whether the package is there; a folder of that name where the program runs is none."""
    found = find_spec("wandb")
    return found is not None and found.origin is not None


@hookimpl
def mdmkit_trackers() -> Mapping[str, type]:
    """The tracker of this plugin."""
    return {"wandb": Wandb}


def contract_examples(directory: Path) -> Iterator[tuple[Wandb, dict[str, Any]]]:  # noqa: ARG001
    """What ``pytest --mdmkit-contract mdmkit-wandb`` tries; nothing of it leaves the machine."""
    from mdmkit_wandb.offline import rows

    yield Wandb(mode="offline", directory="deeper"), {"read": lambda run: rows(run / "deeper")}
    yield Wandb(mode="disabled"), {}
