"""``failure.json``: what ended a training that nobody wanted to end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
from attrs import define, frozen

from mdmkit.errors import RunInterrupted
from mdmkit.files import write_json
from mdmkit.plain_files import read_json

FAILURE = "failure.json"
_LONGEST = 500
"""Characters of the message."""
_LARGEST = 2**63


@frozen(kw_only=True)
class Failure:
    """Why a training ended.

    Attributes:
        error: the kind of the error.
        message: what it says, in one line.
        step: optimizer steps done; None where it had not begun.
        time: when, in UTC, as ISO 8601.
        rank: of the process that failed first, 0-based.
    """

    error: str
    message: str
    step: int | None
    time: str
    rank: int = 0

    @property
    def line(self) -> str:
        """Kind and message, behind the rank of a process that is not the first."""
        line = f"{self.error}: {self.message}" if self.message else self.error
        return f"rank {self.rank}: {line}" if self.rank else line


@define
class Watched:
    """A training that is watched; `step` is asked for when it fails."""

    step: Callable[[], int] | None = None


@contextlib.contextmanager
def recorded(run_dir: Path, *, rank: int = 0) -> Iterator[Watched]:
    """Leave ``failure.json`` where the body fails; rank 0 forgets an older one when it begins.

    The rank that fails first has the say: what the others then meet is that it is gone. An
    interruption is no failure. Whatever goes wrong here, the error of the body is the one that is
    raised.

    Args:
        run_dir: of the run.
        rank: of this process.
    """
    if rank == 0:
        with contextlib.suppress(OSError):
            (run_dir / FAILURE).unlink(missing_ok=True)
    watched = Watched()
    try:
        yield watched
    except RunInterrupted:
        raise
    except Exception as error:
        with contextlib.suppress(Exception):  # the disk may be full: that may be why
            _leave(run_dir, _failure(error, watched, rank))
        raise


def read_failure(run_dir: Path) -> Failure | None:
    """What ended the training, or None where nothing did.

    Raises:
        ValueError, OSError: where it cannot be read.
    """
    try:
        plain = read_json(run_dir / FAILURE)
    except FileNotFoundError:
        return None
    return _checked(plain)


def _leave(run_dir: Path, failure: Failure) -> None:
    """Write the record, unless another rank has: a link, unlike a look, sees that everywhere."""
    path, own = run_dir / FAILURE, run_dir / f".tmp-{failure.rank}-{FAILURE}"
    write_json(own, attrs.asdict(failure))
    try:
        path.hardlink_to(own)
    except FileExistsError:
        pass
    except OSError:  # this file system has no links
        own.replace(path)
    own.unlink(missing_ok=True)


def _failure(error: Exception, watched: Watched, rank: int) -> Failure:
    message = " ".join(str(error).split()).encode(errors="replace").decode()
    if len(message) > _LONGEST:
        message = message[: _LONGEST - 1] + "…"
    return Failure(
        error=type(error).__name__,
        message=message,
        step=None if watched.step is None else watched.step(),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        rank=rank,
    )


def _checked(plain: Any) -> Failure:
    names = [field.name for field in attrs.fields(Failure) if field.default is attrs.NOTHING]
    if not isinstance(plain, dict) or not set(names) <= plain.keys():
        raise ValueError(f"expected the keys {', '.join(names)}")
    failure = Failure(**{name: plain[name] for name in names}, rank=plain.get("rank", 0))
    texts = (failure.error, failure.message, failure.time)
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("error, message and time are no texts")
    for name, number in (("step", failure.step), ("rank", failure.rank)):
        if name == "step" and number is None:  # it had not begun
            continue
        if type(number) is not int or not 0 <= number < _LARGEST:
            raise ValueError(f"{name} is no whole number from 0 to {_LARGEST}")
    return failure
