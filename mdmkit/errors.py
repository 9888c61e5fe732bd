"""The one exception family: what a user can mend, said in words a user can act on.

Every message says where, what was found, what was expected and what to do about it. The command
line prints the message alone, without a traceback, and leaves with ``exit_code``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

_SAID = 200  # problems of a recipe; whoever mends so many sees the others then


class MdmkitError(Exception):
    """Base of every error that the user can mend.

    Attributes:
        exit_code: the status with which the command line leaves.
        everywhere: whether all processes of a run raise it, so that the first alone says it.
    """

    exit_code: ClassVar[int] = 2
    everywhere: bool = False


class RecipeError(MdmkitError):
    """A recipe that cannot be used; carries every problem that was found, one line each."""

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems: tuple[str, ...] = (
            (problems,) if isinstance(problems, str) else tuple(problems)
        )
        more = len(self.problems) - _SAID
        last = (f"and {more:,} more problems",) if more > 0 else ()
        super().__init__("\n".join((*self.problems[:_SAID], *last)))


class MissingPackageError(RecipeError):
    """A recipe asks for something that needs a package that is not installed.

    Args:
        what: asks for it.
        package: that is missing.
        extra: of mdmkit that brings it; None where it is to be installed by itself.
    """

    def __init__(self, what: str, package: str, *, extra: str | None = None) -> None:
        wanted = package if extra is None else f"'mdmkit[{extra}]'"
        super().__init__(
            f"{what}: the package {package} is not installed; run: pip install {wanted}"
        )


class PluginError(MdmkitError):
    """A plugin that cannot be loaded, breaks its contract, or collides with another."""


class DataError(MdmkitError):
    """A corpus, tokenizer or token file that is missing, empty, too short or does not fit.

    Attributes:
        fact: what is wrong, without the remedy where that was given apart; what a list of many
            shows, which has a remedy of its own.
    """

    def __init__(self, message: str, *, remedy: str = "") -> None:
        self.fact = message
        super().__init__(f"{message}. {remedy}" if remedy else message)


class CheckpointError(MdmkitError):
    """A run directory or checkpoint that cannot be written, read or continued."""

    exit_code: ClassVar[int] = 1


class TrainingError(MdmkitError):
    """Training that cannot go on, such as too many non-finite steps."""

    exit_code: ClassVar[int] = 1


class RunInterrupted(MdmkitError):  # noqa: N818 - being asked to stop is no error
    """A run that was asked to stop: it has saved, and says how to go on."""

    exit_code: ClassVar[int] = 130
    everywhere = True
