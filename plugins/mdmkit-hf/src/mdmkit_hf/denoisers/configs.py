"""What the config classes of ``transformers`` know, and what in a recipe's table does not fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mdmkit import RecipeError
from mdmkit.suggest import did_you_mean
from mdmkit_hf.denoisers.masks import FULL, SLIDING

_OF_THE_FILE = frozenset({
    "_name_or_path", "architectures", "auto_map", "dtype", "is_decoder", "is_encoder_decoder",
    "model_type", "torch_dtype", "transformers_version", "use_cache",
})  # fmt: skip
"""Keys of a config.json that say how it was written and used, not what the network is."""


_OF_THE_RUN = frozenset({"bos_token_id", "cls_token_id", "eos_token_id", "pad_token_id",
                         "sep_token_id"})  # fmt: skip
"""Keys that `make_config` has a value for, whatever the file says."""

MOST_LAYERS, MOST_ROWS = 1024, 2**24


def known_values(architecture: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """What of a config.json makes the network, in the words of its class, and no dropout.

    None is only what is null in the file, and something else by default: no window, say.

    The class itself reads the file, since older files have other words for the same (Llama's
    ``rope_theta`` has become a part of ``rope_parameters``).

    Raises:
        RecipeError: where ``transformers`` has no such architecture, or it refuses the values.
    """
    cls = _class(architecture)
    if cls is None:
        raise RecipeError(f"[denoiser] pretrained: {_unknown(architecture)}")
    kept = {key: value for key, value in values.items() if key not in _OF_THE_FILE}
    try:
        read, default = cls(**kept).to_dict(), cls().to_dict()
    except Exception as error:  # whatever a config class raises, it is the values that it refuses
        raise RecipeError(
            f'[denoiser] pretrained: config.json refused by "{architecture}": {first_line(error)}'
        ) from error
    return {
        key: _said(value)
        for key, value in read.items()
        if (key in kept or value != default.get(key))
        and key in _names(cls) - _OF_THE_FILE
        and (value is not None or (default.get(key) is not None and key not in _OF_THE_RUN))
        and not _is_dropout(key, value)
    }


def _said(value: Any) -> Any:
    """A value of JSON as a recipe holds it: without null, and arrays as they are read."""
    if isinstance(value, Mapping):
        return {key: _said(entry) for key, entry in value.items() if entry is not None}
    return tuple(map(_said, value)) if isinstance(value, list) else value


def _arguments(values: Mapping[str, Any]) -> dict[str, Any]:
    """And back: as a config class takes it."""
    return {key: _argument(value) for key, value in values.items()}


def _argument(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _arguments(value)
    return list(map(_argument, value)) if isinstance(value, tuple) else value


def problems(architecture: str, values: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a table of values, one line each, without making the network."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    cls = _class(architecture)
    if cls is None:
        yield f"architecture: {_unknown(architecture)}"
        return
    if architecture not in {
        **MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        **MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    }:
        yield (
            f'architecture: "{architecture}" is neither a masked nor a causal language model; '
            "expected one that is"
        )
        return
    names = _names(cls)
    unknown = [key for key in values if key not in names or key in _OF_THE_FILE]
    for key in unknown:
        yield f'config: "{architecture}" has no {key}{did_you_mean(key, names - _OF_THE_FILE)}'
    if unknown:
        return
    try:
        config = cls(**_arguments(values))
    except Exception as error:  # whatever a config class raises, it is the values that it refuses
        yield f'config: refused by "{architecture}": {first_line(error)}'
        return
    yield from _size_problems(config)
    heads = getattr(config, "num_attention_heads", 0)
    keys = getattr(config, "num_key_value_heads", None)
    if keys and heads % keys:
        yield (
            f"config: {heads} attention heads do not share {keys} heads of keys and values; set "
            f"num_key_value_heads to a divisor of {heads}"
        )
    others = sorted(set(layer_kinds(config)) - {FULL, SLIDING})
    if others:
        yield (
            f'architecture: "{architecture}" has layers of {", ".join(others)}; expected attention '
            "to all positions, or in a window"
        )


def _size_problems(config: Any) -> Iterator[str]:
    """Depth and rows that no network has, which would take for ever to be made."""
    for key, most in (("num_hidden_layers", MOST_LAYERS), ("vocab_size", MOST_ROWS)):
        value = getattr(config, key, None)
        if isinstance(value, int) and not 1 <= value <= most:
            yield f"config: {key} is {value}; expected 1 to {most}"


def length_problems(most: int | None, *, length: int) -> Iterator[str]:
    """Whether so many positions are more than the network has."""
    if most is not None and length > most:
        yield (
            f"config: the network has {most} positions, and data.length is {length}; set "
            "data.length, or config.max_position_embeddings where the weights are new"
        )


def make_config(architecture: str, values: Mapping[str, Any], **more: Any) -> Any:
    """The config object: dropout off, no padding token.

    A padding token would have a row of the table that is never trained; here padding is hidden by
    the mask, and any id may be text.

    Raises:
        RecipeError: where the values do not make one.
    """
    found = list(problems(architecture, values))
    if found:
        raise RecipeError([f"[denoiser] {line}" for line in found])
    cls = _class(architecture)
    assert cls is not None
    default = cls()
    names = _names(cls)
    off = {key: 0.0 for key in names if _is_dropout(key, getattr(default, key, None))}
    none = dict.fromkeys(names & {"pad_token_id", "cls_token_id", "sep_token_id"})
    try:
        config = cls(**{**off, **_arguments(values), **none, **more})
        config.use_cache = False
    except Exception as error:  # whatever a config class raises, it is the values that it refuses
        raise RecipeError(
            f'[denoiser] config: refused by "{architecture}": {first_line(error)}'
        ) from error
    return config


def layer_kinds(config: Any) -> list[str]:
    """The kind of each layer, or of all of them, in the words of ``layer_types``."""
    listed = getattr(config, "layer_types", None)
    if listed:
        return list(listed)
    return [FULL if getattr(config, "sliding_window", None) is None else SLIDING]


def _class(architecture: str) -> Any:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    known = architecture in CONFIG_MAPPING
    return CONFIG_MAPPING[architecture] if known else None  # its `get` finds nothing: it is lazy


def _names(cls: Any) -> set[str]:
    """The names that a config class gives a meaning to."""
    default = cls()
    return {*vars(default), *getattr(cls, "attribute_map", {}), *_properties(cls)} - {
        name for name in vars(default) if name.startswith("_")
    }


def _properties(cls: Any) -> set[str]:
    """Parameters that its constructor turns into something else."""
    import inspect

    parameters = inspect.signature(cls.__init__).parameters.values()
    return {p.name for p in parameters if p.kind is not p.VAR_KEYWORD} - {"self"}


def _is_dropout(key: str, value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and ("dropout" in key or "pdrop" in key)


def _unknown(architecture: str) -> str:
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    return (
        f'transformers {transformers.__version__} has no architecture "{architecture}"'
        f"{did_you_mean(architecture, CONFIG_MAPPING)}"
    )


def first_line(error: Exception) -> str:
    """What an error of ``transformers`` says, in one line."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(line.strip() for line in lines[:3])
