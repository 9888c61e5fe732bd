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


def write_frontier(folder: Path, found: Frontier, plain: dict[str, Any]) -> Iterator[Path]:
    """Write ``<suite>.json``, ``<suite>.svg`` and ``<suite>.png`` into `folder`.

    The numbers come first, so that they are there whatever happens to the pictures.

    Args:
        folder: made where it is missing; what an earlier frontier wrote there is replaced.
        found: the frontier.
        plain: what the first of the files holds.

    Yields:
        The path of each file that has been written.

    Raises:
        MdmkitError: where the pictures need a library that is not installed.
        CheckpointError: where a file cannot be written.
    """
    numbers = folder / f"{found.suite}.json"
    with explained(folder, REMEDY):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(numbers, plain)
    yield numbers
    if find_spec("matplotlib") is None:
        raise MdmkitError(
            f"{numbers} is written, but the pictures need matplotlib: pip install 'mdmkit[plot]'"
        )
    from mdmkit.report.frontier_figure import picture

    for kind in KINDS:
        path, content = folder / f"{found.suite}.{kind}", picture(found, kind)
        with explained(path, REMEDY):
            write_atomic(path, content)
        yield path
