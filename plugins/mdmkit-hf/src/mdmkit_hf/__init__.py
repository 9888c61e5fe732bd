"""Hugging Face for mdmkit: the networks of ``transformers`` as denoisers, and what goes with them.

``transformers`` itself is imported when a network is built or a recipe that names one is checked,
not with this module.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mdmkit import hookimpl
from mdmkit_hf.denoisers.options import Transformers
from mdmkit_hf.opening import OpeningAttention

__all__ = ["OpeningAttention", "Transformers", "mdmkit_denoisers", "mdmkit_objectives"]

MDMKIT_API = 1


@hookimpl
def mdmkit_denoisers() -> Mapping[str, type]:
    """The denoisers of this plugin."""
    return {"transformers": Transformers}


@hookimpl
def mdmkit_objectives() -> Mapping[str, type]:
    """The objectives of this plugin."""
    return {"opening_attention": OpeningAttention}


_SMALL: Mapping[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}
_WIDE: Mapping[str, Any] = {**_SMALL, "intermediate_size": 32}
_GROUPED: Mapping[str, Any] = {**_WIDE, "num_key_value_heads": 1}


def contract_examples(directory: Path) -> Iterator[Transformers]:  # noqa: ARG001 - needs no files
    """What ``pytest --mdmkit-contract mdmkit-hf`` tries: small networks of several families."""
    yield Transformers(architecture="bert", config=_WIDE)
    yield Transformers(architecture="modernbert", config={**_WIDE, "local_attention": 6})
    yield Transformers(architecture="gpt2", config=_SMALL)
    yield Transformers(architecture="llama", config=_GROUPED)
    yield Transformers(architecture="llama", config=_GROUPED, shift=True)
    yield Transformers(architecture="qwen2", config={**_GROUPED, "tie_word_embeddings": True})
    yield Transformers(architecture="qwen3", config={**_GROUPED, "head_dim": 8})
