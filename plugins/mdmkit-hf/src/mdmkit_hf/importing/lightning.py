"""Checkpoints of MDLM's own training, which Lightning writes: raw weights and their average."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from mdmkit import DataError
from mdmkit_hf.importing.mdlm import PREFIX, ROTARY, Architecture, read_weights
from mdmkit_hf.importing.published import pointed
from mdmkit_hf.importing.recipes import Origin
from mdmkit_hf.importing.tensors import Shape, StoredTensors
from mdmkit_hf.importing.torch_zip import Stub, TorchFile, shown

LENGTH = 1024
"""Of a checkpoint whose configuration cannot be read."""


def read_lightning(path: Path, *, ema: bool) -> Origin:
    """Weights and recipe of a checkpoint.

    Args:
        path: the file.
        ema: the average over training, which the numbers of the paper are of; else the raw ones.

    Raises:
        DataError: where it is no such file, or holds another network.
    """
    file = TorchFile.open(path)
    content = file.content
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise DataError(f"{path}: has no state_dict; expected a checkpoint that Lightning wrote")
    config = _Config(content.get("hyper_parameters"))
    config.require(path)
    raw = pointed(file, content["state_dict"], where=f"{path}, state_dict")
    architecture = _architecture(raw)
    weights = read_weights(raw, architecture)
    if ema:
        weights = _average(file, content.get("ema"), architecture)
    step, length = content.get("global_step"), config.at("model", "length")
    return Origin(
        weights=weights,
        architecture=architecture,
        length=length if type(length) is int and length > 1 else LENGTH,
        time_conditioning=config.at("time_conditioning") is True,
        step=step if type(step) is int and step > 0 else 0,
        ema=ema,
        files=(path,),
        where=str(path),
    )


class _Config:
    """Single values of the configuration that is pickled along, out of stubs."""

    def __init__(self, hyper_parameters: object) -> None:
        """Hold what Lightning calls the hyperparameters."""
        self._top = _within(hyper_parameters, "config")

    def at(self, *keys: str) -> object:
        """The value under these keys, or None."""
        found = self._top
        for key in keys:
            found = _within(found, key)
        return _plain(found)

    def require(self, path: Path) -> None:
        """Refuse what is known to be another network, or to mean another thing.

        Raises:
            DataError: where it is.
        """
        for key, expected in (("backbone", ("dit", "hf_dit")), ("parameterization", ("subs",))):
            found = self.at(key)
            if found is not None and found not in expected:
                raise DataError(
                    f"{path}: its configuration says {key}: {shown(found)}; expected "
                    f"{expected[0]!r}"
                )


def _plain(value: object) -> object:
    """A value of omegaconf: its nodes keep theirs in the attributes _content and _val."""
    if isinstance(value, Stub) and value.state and isinstance(value.state[-1], dict):
        attributes = value.state[-1]
        return attributes.get("_content", attributes.get("_val"))
    return value


def _within(value: object, key: str) -> object:
    plain = _plain(value)
    if isinstance(plain, Stub):
        plain = plain.items
    return plain.get(key) if isinstance(plain, dict) else None


def _architecture(raw: StoredTensors) -> Architecture:
    """What the shapes of the weights say.

    Raises:
        DataError: where those that say it are missing.
    """

    def shape(name: str, dimensions: int) -> Shape:
        found = raw.shapes.get(f"{PREFIX}{name}", ())
        if len(found) != dimensions or 0 in found:
            raise DataError(
                f"{raw.where}: {PREFIX}{name} is {list(found) if found else 'missing'}; expected "
                "the weights of an MDLM network"
            )
        return found

    vocab_size, width = shape("vocab_embed.embedding", 2)
    (frequencies,) = shape(ROTARY, 1)
    first = len(f"{PREFIX}blocks.")
    numbers = {
        name[first:].partition(".")[0] for name in raw.shapes if name.startswith(f"{PREFIX}blocks.")
    }
    return Architecture(
        vocab_size=vocab_size,
        width=width,
        depth=len(numbers),
        heads=max(width // (2 * frequencies), 1),
        conditioning_width=shape("sigma_map.mlp.2.bias", 1)[0],
    )


def _average(file: TorchFile, ema: object, architecture: Architecture) -> dict[str, Tensor]:
    """The average, a list in the order of ``parameters()``, by name.

    Raises:
        DataError: where there is none, or it is not of this network.
    """
    listed = ema.get("shadow_params") if isinstance(ema, Mapping) else None
    if not isinstance(listed, list):
        raise DataError(
            f"{file.path}: keeps no average over training (ema.shadow_params); add --no-ema for "
            "the raw weights"
        )
    wanted = architecture.parameters()
    if len(listed) != len(wanted):
        raise DataError(
            f"{file.path}: the average has {len(listed)} tensors, the network {len(wanted)} "
            "parameters; add --no-ema for the raw weights"
        )
    stored = pointed(
        file, dict(zip(wanted, listed, strict=True)), where=f"{file.path}, ema.shadow_params"
    )
    stored.require(wanted)
    return {name: stored.read(name).float() for name in wanted}
