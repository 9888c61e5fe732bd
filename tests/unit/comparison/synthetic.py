"""Run directories whose curves are known, without any training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mdmkit.data.blocks import build_tokenizer
from mdmkit.files import write_json
from mdmkit.recipe import dump_recipe, load_recipe
from mdmkit.validation_log import write_validation
from mdmkit.values import BlockTable

DOCUMENTS, PER_DOCUMENT, TOKENS = 12, 2, 10
BLOCKS = DOCUMENTS * PER_DOCUMENT
DATA = {"corpus": {"source": "somewhere"}, "corpus_fingerprint": "abc", "length": 16}
START, LEVEL, END = 6.0, 5.0, 3.0


def curve(step: float, *, speed: float = 1.0) -> float:
    """6 at the start, a plateau at 5 from step 50 to 200, then a line down to 3 at step 600."""
    place = step * speed
    return float(np.interp(place, [0, 50, 200, 600], [START, LEVEL, LEVEL, END]))


def make_tokenizer(folder: Path) -> None:
    """Write the tokenizer of bytes into `folder`."""
    text = folder / "text.txt"
    text.write_text("one two three")
    corpus = [f'data.corpus.{split}="{text}"' for split in ("train", "validation", "test")]
    use = ["data.corpus.use=text", "data.tokenizer.vocab_size=258"]
    data = load_recipe("quickstart_bell", [*use, *corpus]).data
    build_tokenizer(data, cache_dir=folder / "cache").save(folder / "tokenizer.json")


def write_run(
    folder: Path,
    name: str,
    *,
    seed: int = 1,
    nelbo: Callable[[float], float] = curve,
    steps: Sequence[int] = tuple(range(0, 601, 50)),
    overrides: Sequence[str] = (),
    by_document: Sequence[float] = (0.0,) * DOCUMENTS,
    by_mask: Callable[[np.ndarray], np.ndarray] | None = None,
    exact: bool = False,
    draws: int = 1,
    data: Mapping[str, Any] | None = None,
    mask_shift: int = 0,
    seconds_a_step: float = 0.5,
    lines: Sequence[Mapping[str, float]] = (),
    tokenizer: Path | None = None,
    directory: str | None = None,
) -> Path:
    """A run directory whose NELBO at a step is `nelbo(step)`.

    Args:
        folder: of all runs.
        name, seed: of the run.
        nelbo: the mean over all tokens, nats per token.
        steps: of the validations.
        overrides: of the recipe, as for ``--set``.
        by_document: what is added in each document; keep its mean 0.
        by_mask: what is added at each mask ratio.
        exact: an exact NLL, without masks.
        draws: of each block.
        data: the provenance of the blocks.
        mask_shift: changes the masks.
        seconds_a_step: on the clock.
        lines: more lines of metrics.
        tokenizer: a folder to copy one from.
        directory: the run directory's name.
    """
    keys = [
        f"run.name={name}", f"run.seed={seed}", "train.steps=600", "train.global_batch_size=4",
        "data.length=16", "denoiser.width=8", "denoiser.depth=1", "denoiser.heads=2",
        "data.tokenizer.vocab_size=258",
    ]  # fmt: skip
    recipe = dump_recipe(load_recipe("quickstart_bell", [*keys, *overrides]))
    run = folder / (directory or f"{name}-{seed:08x}")
    run.mkdir(parents=True)
    write_json(run / "resolved.json", recipe)
    if tokenizer is not None:
        for file in tokenizer.glob("tokenizer*.json"):
            shutil.copy(file, run)
    masked = (torch.arange(BLOCKS * draws).view(BLOCKS, draws) + mask_shift) % TOKENS + 1.0
    documents = torch.arange(BLOCKS) // PER_DOCUMENT
    added = np.repeat(np.asarray(by_document, dtype=float), PER_DOCUMENT)[:, None]
    if by_mask is not None:
        added = added + by_mask(masked.numpy() / TOKENS)
    told = {
        "split": "validation", "data": dict(data or DATA), "seed": 0, "draws": draws,
        "exact": exact, "ema": True,
    }  # fmt: skip
    for step in steps:
        table = BlockTable(
            blocks=torch.arange(BLOCKS) * 3,
            documents=documents,
            nats=torch.from_numpy(TOKENS * np.broadcast_to(nelbo(step) + added, masked.shape)),
            tokens=torch.full(masked.shape, float(TOKENS), dtype=torch.float64),
            masked=torch.zeros_like(masked).double() if exact else masked.double(),
        )
        write_validation(run, step, table, told)
    logged = [
        {"step": step, "tokens": step * 4 * 16, "seconds": step * seconds_a_step} for step in steps
    ]
    everything = sorted([*logged, *map(dict, lines)], key=lambda line: line["step"])
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in everything))
    return run
