"""A whole run with each way of filling blocks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .commands import changed, mdmkit, run_directory

SHORT = ("train.steps=2", "learning_rate.warmup_steps=1")
LINES = ("a short line", "no", "a line that is so long that it does not fit into one block of text")
CAUSAL = ("objective.use=autoregressive", "sampler.use=autoregressive")


@pytest.mark.parametrize(
    ("packing", "choices", "facts"),
    [
        ({"use": "document"}, (), ()),
        ({"use": "wrapped", "score_bos": False}, (), ()),
        ({"use": "padded", "overflow": "split"}, (), ("split_documents", "padding")),
        ({"use": "padded", "score_bos": False}, CAUSAL, ("truncated_documents", "padding")),
    ],
)
def test_a_run(
    recipe: Path, tmp_path: Path, packing: dict[str, Any], choices: Any, facts: Any
) -> None:
    text = tmp_path / "lines.txt"
    text.write_text("".join(f"{n} {LINES[n % 3]}\n" for n in range(60)))
    splits = tuple(f"data.corpus.{split}={text}" for split in ("train", "validation", "test"))
    choices += ("data.corpus.document=line", *splits)
    keys = [f"data.packing.{key}={json.dumps(value)}" for key, value in packing.items()]
    said = mdmkit("run", recipe, *changed(*SHORT, *choices, *keys))
    assert (said.code, said.err) == (0, "")
    saved = json.loads((run_directory(said) / "eval" / "held_out.json").read_text())
    data = saved["provenance"]["data"]
    assert packing.items() <= data["packing"].items()
    assert all(data[fact] > 0 for fact in facts)
    scored = saved["provenance"]["tokens_scored"]
    whole = data["blocks"] * data["length"]
    if packing["use"] == "document":
        assert scored == whole == data["tokens"] - data["dropped_tokens"]
    elif packing["use"] == "wrapped":
        assert scored == whole - data["blocks"]
    else:
        apart = 0 if packing.get("score_bos", True) else data["blocks"]
        assert scored == whole - data["padding"] - apart
