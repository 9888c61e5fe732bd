"""``mdmkit export``: a run as a folder for transformers and safetensors."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mdmkit import DataError, TrainedRun, open_run
from mdmkit.files import explained, whole_folder, write_json
from mdmkit_hf.exporting.card import Facts, card, read_imported
from mdmkit_hf.exporting.model import Exported, exported_model
from mdmkit_hf.exporting.tokenizer import special_tokens, write_tokenizer
from mdmkit_hf.importing.exported import FORMAT, KIND, MANIFEST

_SIZE = re.compile(r"\d+(\.\d+)?\s*[KMGT]?i?B", re.IGNORECASE)


def export_run(
    run: str | Path,
    out: str | Path,
    *,
    checkpoint: int | None = None,
    ema: bool = True,
    dtype: str = "fp32",
    shard_size: str = "5GB",
    runs_dir: str | Path | None = None,
) -> Path:
    """Make a folder of a run: weights, configuration, tokenizer, recipe and card.

    The folder is there as a whole or not at all.

    Args:
        run: a path or a name.
        out: the folder that is made.
        checkpoint: the step; the newest whole checkpoint by default.
        ema: the averaged weights, where the run has them.
        dtype: of the weights, ``fp32`` or ``bf16``.
        shard_size: of the largest file of weights, such as ``5GB``.
        runs_dir: the folder of runs; else ``MDMKIT_RUNS_DIR``, else ``runs``.

    Returns:
        The folder.

    Raises:
        DataError: where `out` is there already, or an argument is not valid.
        CheckpointError: where the run cannot be read, or the folder cannot be written.
    """
    target = Path(out)
    if target.exists():
        raise DataError(f"--out: {target} is there already; choose another place, or remove it")
    if not _SIZE.fullmatch(shard_size):
        raise DataError(f'--shard-size: expected a size such as 5GB, got "{shard_size}"')
    trained = open_run(
        run, runs_dir=runs_dir, checkpoint=checkpoint, ema=ema, device="cpu", precision="fp32"
    )
    resolved = json.loads((trained.directory / "resolved.json").read_text(encoding="utf-8"))
    exported = exported_model(trained, resolved["denoiser"], dtype)
    place = "make room, or choose another place"
    with explained(target, place), whole_folder(target) as folder:
        with _quiet():
            # Under the names that the model has: by default some would get those of old.
            exported.model.save_pretrained(
                folder, max_shard_size=shard_size, save_original_format=False
            )
        _add(folder, trained, resolved, exported, dtype, target.name)
    return target


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No bars of transformers inside."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _add(
    folder: Path,
    trained: TrainedRun,
    resolved: Mapping[str, Any],
    exported: Exported,
    dtype: str,
    name: str,
) -> None:
    """Write what is beside the weights and their configuration."""
    recipe_toml = (trained.directory / "recipe.toml").read_text(encoding="utf-8")
    imported = read_imported(trained.directory)
    write_tokenizer(folder, trained)
    (folder / "recipe.toml").write_text(recipe_toml, encoding="utf-8")
    write_json(folder / MANIFEST, _manifest(trained, exported, dtype, imported))
    facts = Facts(
        recipe_toml=recipe_toml,
        data=resolved["data"],
        auto=_auto(exported),
        own=exported.own,
        dtype=dtype,
        parameters=sum(parameter.numel() for parameter in exported.model.parameters()),
        logits=exported.model.config.vocab_size,
        place=name,
        imported=imported,
    )
    (folder / "README.md").write_text(card(trained, facts), encoding="utf-8")


def _manifest(trained: TrainedRun, exported: Exported, dtype: str, imported: Any) -> dict[str, Any]:
    """What `mdmkit import` needs to make a run of the folder again."""
    return {
        "kind": KIND,
        "format": FORMAT,
        "run": trained.recipe.run.name,
        "recipe_hash": trained.recipe_hash,
        "step": trained.step,
        "ema": trained.ema,
        "dtype": dtype,
        "weights": {"prefix": exported.prefix, "own": exported.own},
        "special_tokens": special_tokens(trained),
        "imported": imported,
    }


def _auto(exported: Exported) -> str:
    """The class of transformers that loads the folder."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    causal = type(exported.model).__name__ in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()
    return "AutoModelForCausalLM" if causal else "AutoModelForMaskedLM"
