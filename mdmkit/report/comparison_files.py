"""A comparison as files: its numbers, a picture of its curves, and a page to look into them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

from mdmkit.comparison.results import Comparison
from mdmkit.errors import MdmkitError
from mdmkit.files import explained, write_atomic, write_json

REMEDY = "make room, or choose another place with --out"
NUMBERS, PICTURES, PAGE = "compare.json", ("curves.svg", "curves.png"), "curves.html"


def write_comparison(folder: Path, found: Comparison) -> Iterator[Path]:
    """Write everything into `folder`, replacing what an earlier comparison wrote there.

    The numbers come first, so that they are there whatever happens to the pictures.

    Yields:
        The path of each file that has been written.

    Raises:
        MdmkitError: where the pictures need libraries that are not installed.
        CheckpointError: where a file cannot be written.
    """
    with explained(folder, REMEDY):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / NUMBERS, found.to_json())
    yield folder / NUMBERS
    missing = [name for name in ("matplotlib", "plotly") if find_spec(name) is None]
    if missing:
        raise MdmkitError(
            f"{folder / NUMBERS} is written, but the pictures need {' and '.join(missing)}: "
            "pip install 'mdmkit[plot]'"
        )
    from mdmkit.report.comparison_figure import picture
    from mdmkit.report.comparison_page import page

    makers: list[tuple[str, Callable[[], bytes]]] = [
        *((name, lambda name=name: picture(found, Path(name).suffix[1:])) for name in PICTURES),
        (PAGE, lambda: page(found).encode()),
    ]
    for name, make in makers:
        content = make()
        with explained(folder / name, REMEDY):
            write_atomic(folder / name, content)
        yield folder / name
