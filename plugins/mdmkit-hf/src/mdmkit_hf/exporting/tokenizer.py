"""A run's tokenizer in the files that transformers reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from mdmkit import TrainedRun
from mdmkit.files import write_json


def special_tokens(trained: TrainedRun) -> dict[str, str]:
    """By role: ``mask``, and ``bos``, ``eos``, ``pad`` where there are such."""
    return attrs.asdict(trained.tokenizer.special, filter=lambda _, value: value is not None)


def write_tokenizer(folder: Path, trained: TrainedRun) -> None:
    """Write tokenizer.json, tokenizer_config.json and special_tokens_map.json."""
    named = {f"{role}_token": token for role, token in special_tokens(trained).items()}
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": trained.recipe.data.length,
        **named,
    }
    (folder / "tokenizer.json").write_text(trained.tokenizer.backend.to_str(), encoding="utf-8")
    write_json(folder / "tokenizer_config.json", config)
    write_json(folder / "special_tokens_map.json", named)
