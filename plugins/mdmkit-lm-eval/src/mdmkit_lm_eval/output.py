"""What was found, as a table and as JSON."""

from __future__ import annotations

import json
import math
import platform
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from mdmkit import MdmkitError, RecipeError
from mdmkit.files import write_atomic
from mdmkit_lm_eval.harness import Number, Outcome
from mdmkit_lm_eval.model import MdmkitLM
from mdmkit_lm_eval.tasks import FEWSHOT_SEED

if TYPE_CHECKING:
    from rich.console import Console

HEADER = ("task", "metric", "filter", "value ± stderr", "of draws", "documents")
PACKAGES = ("mdmkit", "mdmkit-lm-eval", "lm_eval", "datasets", "torch")


def require_place(path: Path) -> None:
    """Refuse a place to write to that is none, before there is work to lose.

    Raises:
        RecipeError: naming it.
    """
    try:
        if path.is_dir():
            raise RecipeError(f"--out: {path} is a folder; expected a file such as results.json")
        if path.exists() and not path.is_file():
            raise RecipeError(f"--out: {path} is no plain file; expected one such as results.json")
        if not path.parent.is_dir():
            raise RecipeError(f"--out: there is no folder {path.parent}")
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise RecipeError(
            f"--out: {path} cannot be written ({error.strerror or error}); choose another place"
        ) from error


def as_document(
    lm: MdmkitLM,
    outcome: Outcome,
    *,
    limit: float | None,
    log_samples: bool = False,
) -> dict[str, Any]:
    """Numbers, their provenance, and what each request got; plain JSON."""
    found: dict[str, Any] = {
        "numbers": [attrs.asdict(number) for number in outcome.numbers],
        "tasks": {name: dict(facts) for name, facts in outcome.tasks.items()},
        "requests": [
            {**attrs.asdict(key), **attrs.asdict(answer)} for key, answer in lm.answers.items()
        ],
        "generated": [
            {**attrs.asdict(key), "repetition": repetition, **attrs.asdict(text)}
            for key, texts in lm.texts.items()
            for repetition, text in enumerate(texts)
        ],
        "provenance": {
            **lm.provenance(),
            "limit": limit,
            "fewshot_seed": FEWSHOT_SEED,
            "draws_stderr": "between halves of the draws: at most so much",
            "versions": {name: version(name) for name in PACKAGES},
            "platform": f"{platform.system()} {platform.machine()}",
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    }
    if log_samples:
        found["samples"] = outcome.samples
    plain: dict[str, Any] = _plain(found)
    return plain


def to_text(found: Mapping[str, Any]) -> str:
    """JSON, indented."""
    return json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False)


def write_json(path: Path, found: Mapping[str, Any]) -> None:
    """Write it whole, or leave what is there.

    Raises:
        MdmkitError: where it cannot be written.
    """
    try:
        write_atomic(path, f"{to_text(found)}\n")
    except OSError as error:
        raise MdmkitError(
            f"--out: {path} cannot be written ({error.strerror or error}); what was found is "
            "printed"
        ) from error


def print_numbers(console: Console, outcome: Outcome) -> None:
    """The numbers with their errors, one a line, nothing cut off."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in HEADER:
        table.add_column(name, no_wrap=True, overflow="ignore")
    for number in outcome.numbers:
        table.add_row(
            number.task,
            number.metric,
            number.filter,
            _with_error(number),
            "not known" if number.draws_stderr is None else _short(number.draws_stderr),
            str(number.documents),
        )
    console.print(table, soft_wrap=True)


def _with_error(number: Number) -> str:
    """``value ± stderr``, to two digits of the error."""
    if number.value is None:
        return "not finite"
    if number.stderr is None:
        return f"{number.value:.4f}, no error"
    digits = 4 if number.stderr <= 0 else max(1 - math.floor(math.log10(number.stderr)), 0)
    return f"{number.value:.{digits}f} ± {number.stderr:.{digits}f}"


def _short(error: float) -> str:
    return f"{error:.2g}" if error else "0"


def _plain(value: Any) -> Any:
    """The same without what JSON does not have: numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return _plain(value.tolist()) if hasattr(value, "tolist") else str(value)
