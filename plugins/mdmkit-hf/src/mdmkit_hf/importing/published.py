"""A folder in the layout of ``kuleshov-group/mdlm-owt``: ``config.json`` and the weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from attrs import frozen

from mdmkit import DataError
from mdmkit_hf.importing.mdlm import Architecture, read_weights
from mdmkit_hf.importing.recipes import Origin
from mdmkit_hf.importing.tensors import StoredTensors, open_safetensors, read_json
from mdmkit_hf.importing.torch_zip import Pointer, TorchFile, shown

MODEL_TYPE = "mdlm"
PICKLED = "pytorch_model.bin"


@frozen(kw_only=True)
class PublishedConfig:
    """What ``config.json`` says of the network; other keys are left alone.

    Attributes:
        vocab_size, hidden_dim, n_blocks, n_heads, cond_dim: its size.
        model_length: L, on which it was trained.
        time_conditioning: whether it is told sigma_t, instead of 0.
        dropout: in training.
    """

    vocab_size: int
    hidden_dim: int
    n_blocks: int
    n_heads: int
    cond_dim: int
    model_length: int
    time_conditioning: bool
    dropout: float

    @classmethod
    def read(cls, path: Path) -> PublishedConfig:
        """The file's content.

        Raises:
            DataError: where it cannot be read, or is not MDLM's.
        """
        config = read_json(path, what="MDLM's config.json")
        if config.get("model_type") != MODEL_TYPE:
            raise DataError(
                f"{path}: model_type is {shown(config.get('model_type'))}; expected "
                f"{MODEL_TYPE!r}, or a folder that `mdmkit export` made"
            )
        sizes = {
            key: _whole(config, key, path)
            for key in (
                "vocab_size", "hidden_dim", "n_blocks", "n_heads", "cond_dim", "model_length",
            )
        }  # fmt: skip
        conditioned, dropout = config.get("time_conditioning"), config.get("dropout", 0.0)
        if not isinstance(conditioned, bool):
            raise DataError(
                f"{path}: time_conditioning is {shown(conditioned)}; expected true or false"
            )
        if not isinstance(dropout, float | int) or not 0 <= dropout < 1:
            raise DataError(f"{path}: dropout is {shown(dropout)}; expected a number from 0 to 1")
        return cls(**sizes, time_conditioning=conditioned, dropout=float(dropout))

    @property
    def architecture(self) -> Architecture:
        """The network's."""
        return Architecture(
            vocab_size=self.vocab_size,
            width=self.hidden_dim,
            depth=self.n_blocks,
            heads=self.n_heads,
            conditioning_width=self.cond_dim,
        )


def _whole(config: Mapping[str, object], key: str, path: Path) -> int:
    value = config.get(key)
    if type(value) is not int or not 1 <= value < 2**31:
        raise DataError(f"{path}: {key} is {shown(value)}; expected a whole number from 1 on")
    return value


def read_published(folder: Path) -> Origin:
    """Weights and recipe of a folder.

    Raises:
        DataError: where a file is missing or damaged, or it is another network's.
    """
    config = PublishedConfig.read(folder / "config.json")
    stored = open_safetensors(folder) or _pickled(folder)
    return Origin(
        weights=read_weights(stored, config.architecture),
        architecture=config.architecture,
        length=config.model_length,
        time_conditioning=config.time_conditioning,
        dropout=config.dropout,
        files=(folder / "config.json", *stored.files),
        where=str(folder),
    )


def _pickled(folder: Path) -> StoredTensors:
    """The weights of a folder that has no safetensors."""
    path = folder / PICKLED
    if not path.is_file():
        raise DataError(
            f"{folder}: has neither model.safetensors nor {PICKLED}; expected config.json and the "
            "weights of an MDLM network"
        )
    file = TorchFile.open(path)
    if not isinstance(file.content, dict):
        raise DataError(f"{path}: a {type(file.content).__name__}; expected tensors by name")
    return pointed(file, file.content, where=str(path))


def pointed(file: TorchFile, tensors: Mapping[object, object], *, where: str) -> StoredTensors:
    """Tensors of a file of ``torch.save``.

    Raises:
        DataError: where one of them is none, or they are more than the file can hold.
    """
    pointers: dict[str, Pointer] = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, Pointer) or not isinstance(name, str):
            raise DataError(f"{where}: {shown(name)} is no tensor; expected tensors by name")
        pointers[name] = tensor
    total, most = sum(pointer.size for pointer in pointers.values()), file.path.stat().st_size
    if total > most:
        raise DataError(
            f"{where}: the tensors have {total} bytes, the file {most}; expected tensors that "
            "share nothing"
        )
    return StoredTensors(
        where=where,
        shapes={name: pointer.shape for name, pointer in pointers.items()},
        read=lambda name: file.read(pointers[name]),
        files=(file.path,),
    )
