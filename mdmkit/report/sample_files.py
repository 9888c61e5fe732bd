"""Generated text in files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs

from mdmkit.errors import MdmkitError
from mdmkit.evaluation.samples import Sample
from mdmkit.files import explained, write_atomic


def require_place(path: Path) -> None:
    """Refuse a file that cannot or must not be written, before anything is generated.

    Raises:
        MdmkitError: for another ending than those known, a file that exists, or a missing folder.
    """
    if path.suffix not in WRITERS:
        raise MdmkitError(f"--out: expected a file that ends in {_ENDINGS}, got {path}")
    if path.exists():
        raise MdmkitError(f"--out: {path} exists already; choose another name, or remove it")
    if not path.parent.is_dir():
        raise MdmkitError(f"--out: there is no folder {path.parent}; make it first")


def write_samples(path: Path, samples: Sequence[Sample]) -> None:
    """Write them whole: ``.jsonl`` has one JSON object a line, ``.txt`` the texts under headings.

    Raises:
        CheckpointError: where the file cannot be written.
    """
    content = "".join(map(WRITERS[path.suffix], samples))
    with explained(path, "make room, or choose another place with --out"):
        write_atomic(path, content)


def heading(sample: Sample) -> str:
    """What tells a text from the others.

    >>> heading(Sample(text="", ids=(), row=3, seed=1, sampler="a", network_evaluations=2))
    'sample 3 · seed 1'
    """
    of = "" if sample.template_id is None else f" · template {sample.template_id}"
    return f"sample {sample.row}{of} · seed {sample.seed}"


def _json_line(sample: Sample) -> str:
    return json.dumps(attrs.asdict(sample), ensure_ascii=False, allow_nan=False) + "\n"


def _plain(sample: Sample) -> str:
    return f"======== {heading(sample)}\n{sample.text}\n\n"


WRITERS: Mapping[str, Callable[[Sample], str]] = {".jsonl": _json_line, ".txt": _plain}
"""How a text is written, by the ending of the file's name."""
_ENDINGS = " or ".join(WRITERS)
