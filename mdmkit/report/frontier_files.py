"""A generation frontier as files: its numbers and a picture."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mdmkit.comparison.frontier import Frontier
from mdmkit.errors import MdmkitError
from mdmkit.files import explained, write_atomic, write_json

REMEDY = "make room, or choose another place with --out"
KINDS = ("svg", "png")
ENDINGS = (".json", *(f".{kind}" for kind in KINDS))


def require_folder(folder: Path) -> None:
    """Refuse, before anything is measured, what a frontier cannot be written into.

    Raises:
        MdmkitError: saying what to do.
    """
    above = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    if not folder.is_dir() and folder.suffix in ENDINGS:
        raise MdmkitError(
            f"--out: {folder} is the name of a file; expected a folder, in which "
            f"{', '.join(ENDINGS)} are written"
        )
    if above.exists() and not above.is_dir():
        raise MdmkitError(f"--out: {above} is a file; expected a folder")
    if find_spec("matplotlib") is None:
        raise MdmkitError(
            "--out: the pictures need matplotlib: pip install 'mdmkit[plot]' (the numbers alone: "
            "--json)"
        )


def write_frontier(
    folder: Path, stem: str, found: Frontier, plain: dict[str, Any]
) -> Iterator[Path]:
    """Write ``<stem>.json``, ``<stem>.svg`` and ``<stem>.png`` into `folder`.

    Args:
        folder: made where it is missing; what an earlier frontier wrote there is replaced.
        stem: of the files.
        found: the frontier.
        plain: what the first of the files holds.

    Yields:
        The path of each file that has been written.

    Raises:
        CheckpointError: where a file cannot be written.
    """
    from mdmkit.report.frontier_figure import picture

    numbers = folder / f"{stem}.json"
    with explained(folder, REMEDY):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(numbers, plain)
    yield numbers
    for kind in KINDS:
        path, content = folder / f"{stem}.{kind}", picture(found, kind)
        with explained(path, REMEDY):
            write_atomic(path, content)
        yield path
