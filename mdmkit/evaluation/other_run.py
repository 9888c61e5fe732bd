"""Another run, opened beside the one that is measured."""

from __future__ import annotations

from pathlib import Path

import torch

from mdmkit.data.cache import Notify, ignore
from mdmkit.evaluation.find_run import find_run
from mdmkit.evaluation.run import open_trained
from mdmkit.protocols import OtherRun


def other_run(
    run: str,
    *,
    runs_dir: str | Path | None,
    device: torch.device,
    notify: Notify = ignore,
    cache_dir: Path | None = None,
) -> OtherRun:
    """A run that helps to measure one; see `mdmkit.protocols.EvaluationContext`.

    Args:
        run: a run directory, or its name in the folder of runs.
        runs_dir: the folder of runs.
        device: where its network goes.
        notify: is told what takes long, and of checkpoints that are damaged.
        cache_dir: where tokenized text is kept, instead of ``MDMKIT_CACHE_DIR``.

    Raises:
        CheckpointError: where there is none, or it cannot be read.
    """
    opened = open_trained(
        find_run(run, runs_dir), device=str(device), notify=notify, cache_dir=cache_dir
    )
    return OtherRun(
        call=opened.call,
        objective=opened.live.objective,
        tokenizer=opened.tokenizer,
        prediction=opened.recipe.objective.prediction,
        length=opened.recipe.data.length,
        provenance={**opened.facts, "weights_sha256": opened.weights_sha256()},
    )
