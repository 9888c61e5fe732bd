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


@frozen(kw_only=True)
class Failure:
    """Why a training ended.

    Attributes:
        error: the kind of the error.
        message: what it says, in one line.
        step: optimizer steps done; None where it had not begun.
        time: when, in UTC, as ISO 8601.
    """

    error: str
    message: str
    step: int | None
    time: str

    @property
    def line(self) -> str:
        """Kind and message."""
        return f"{self.error}: {self.message}" if self.message else self.error


@define
class Watched:
    """A training that is watched; `step` is asked for when it fails."""

    step: Callable[[], int] | None = None


@contextlib.contextmanager
def recorded(run_dir: Path, *, writes: bool = True) -> Iterator[Watched]:
    """Leave ``failure.json`` where the body fails, and forget an older one when it begins.

    An interruption is no failure. Whatever goes wrong here, the error of the body is the one that
    is raised.

    Args:
        run_dir: of the run.
        writes: whether this process is the one of its ranks that writes.
    """
    if writes:
        with contextlib.suppress(OSError):
            (run_dir / FAILURE).unlink(missing_ok=True)
    watched = Watched()
    try:
        yield watched
    except RunInterrupted:
        raise
    except Exception as error:
        if writes:
            with contextlib.suppress(Exception):  # the disk may be full: that may be why
                write_json(run_dir / FAILURE, attrs.asdict(_failure(error, watched)))
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


def _failure(error: Exception, watched: Watched) -> Failure:
    message = " ".join(str(error).split()).encode(errors="replace").decode()
    if len(message) > _LONGEST:
        message = message[: _LONGEST - 1] + "…"
    return Failure(
        error=type(error).__name__,
        message=message,
        step=None if watched.step is None else watched.step(),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _checked(plain: Any) -> Failure:
    names = [field.name for field in attrs.fields(Failure)]
    if not isinstance(plain, dict) or not set(names) <= plain.keys():
        raise ValueError(f"expected the keys {', '.join(names)}")
    failure = Failure(**{name: plain[name] for name in names})
    texts = (failure.error, failure.message, failure.time)
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("error, message and time are no texts")
    if failure.step is not None and (type(failure.step) is not int or failure.step < 0):
        raise ValueError("step is no whole number")
    return failure
