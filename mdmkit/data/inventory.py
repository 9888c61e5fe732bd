"""What is in the cache: token stores, whole, damaged or unfinished."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from attrs import frozen

from mdmkit.data.cache import is_locked
from mdmkit.data.hashed_file import DamagedError
from mdmkit.data.store import stores_folder
from mdmkit.data.token_files import MANIFEST, PROGRESS, Filled, checked

State = Literal["whole", "being made", "unfinished", "damaged"]


@frozen(kw_only=True)
class Stored:
    """A folder in the cache.

    Attributes:
        folder: its path.
        state: ``whole``; ``being made`` by a process that is alive; ``unfinished``, where none
            is: the same recipe goes on with it; or ``damaged``: whoever needs it makes it anew.
        problem: what is damaged, or None.
        size: bytes on disk.
        changed: when it was last written to, in seconds since 1970.
        filled: what its manifest says, or None where there is none that can be read.
    """

    folder: Path
    state: State
    problem: str | None
    size: int
    changed: float
    filled: Filled | None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        facts: dict[str, Any] = {
            "folder": str(self.folder),
            "state": self.state,
            "problem": self.problem,
            "bytes": self.size,
            "changed": self.changed,
        }
        if self.filled is None:
            return facts
        counts = self.filled.counts
        return {
            **facts,
            **self.filled.about,
            "documents": counts.documents,
            "documents_without_tokens": counts.without_tokens,
            "tokens": counts.tokens,
            "utf8_bytes": counts.utf8_bytes,
            "made_from": dict(self.filled.made_from),
        }


def inventory(root: Path, *, verify: bool = False) -> list[Stored]:
    """All token stores in the cache `root`, the one that changed last first.

    Args:
        root: the cache folder.
        verify: hash all bytes of every store; otherwise what a run would do when it opens it is
            left out, and only manifests and sizes are compared.
    """
    parent = stores_folder(root)
    folders = [f for f in parent.iterdir() if f.is_dir()] if parent.is_dir() else []
    return sorted(_found(folders, verify), key=lambda stored: -stored.changed)


def _found(folders: list[Path], verify: bool) -> Iterator[Stored]:
    for folder in folders:
        try:
            looked = [(f, f.stat()) for f in (folder, *folder.rglob("*"))]
        except FileNotFoundError:  # published or removed just now
            continue
        facts: dict[str, Any] = {
            "folder": folder,
            "size": sum(status.st_size for f, status in looked if f.is_file()),
            "changed": max(status.st_mtime for _, status in looked),
        }
        if folder.name.startswith(".work-"):
            yield _unfinished(folder, facts)
        elif folder.name.startswith(".tmp-"):
            yield Stored(state="damaged", problem="set aside", filled=None, **facts)
        else:
            yield _whole(folder, facts, verify)


def _unfinished(folder: Path, facts: Mapping[str, Any]) -> Stored:
    lock = folder.with_name(f".lock-{folder.name.removeprefix('.work-')}")
    state: State = "being made" if is_locked(lock) else "unfinished"
    try:
        filled = Filled.read(folder / PROGRESS)
    except DamagedError:  # nothing is written down yet
        filled = None
    return Stored(state=state, problem=None, filled=filled, **facts)


def _whole(folder: Path, facts: Mapping[str, Any], verify: bool) -> Stored:
    filled = None
    try:
        filled = Filled.read(folder / MANIFEST)
        if verify:
            checked(folder, filled.made_from, thorough=True)
        for name, content in filled.files.items():
            size = (folder / name).stat().st_size
            if size != content.size:
                raise DamagedError(f"{name} has {size} bytes, expected {content.size}")
    except (DamagedError, OSError) as error:
        return Stored(state="damaged", problem=str(error), filled=filled, **facts)
    return Stored(state="whole", problem=None, filled=filled, **facts)
