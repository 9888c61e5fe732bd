"""Pretrained weights, from safetensors into a network: every name accounted for.

Shapes: R rows of the tables in the file, R' >= R in the network.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mdmkit import DataError
from mdmkit_hf.denoisers.pretrained import OPTION
from mdmkit_hf.importing.tensors import INDEX, WEIGHTS, Shape, StoredTensors, open_safetensors

if TYPE_CHECKING:
    from mdmkit_hf.denoisers.options import MaskRow

_OLD_NAMES = {".gamma": ".weight", ".beta": ".bias"}
"""Layer norms' in checkpoints of 2018, BERT's among them, and what they are called now."""


def load_weights(denoiser: Any, folder: Path, *, ignore: Iterable[str], mask_row: MaskRow) -> None:
    """Fill a network, in place and in float32, from the safetensors in a folder.

    Every weight of the network must be there, and everything that is there must be a weight of
    it, but for what `ignore` names. Of tied weights one is enough. A file of a bare model, without
    its head, is one whose names lack the model's prefix.

    Args:
        denoiser: a `TransformersNetwork` on the CPU.
        folder: with ``model.safetensors``, or an index and its parts.
        ignore: patterns of names in the file, with ``*`` for anything.
        mask_row: where the mask's vector comes from; see `Transformers`.

    Raises:
        DataError: naming what is missing, left over or of another shape.
    """
    inner: Any = denoiser.inner
    wanted = inner.state_dict(keep_vars=True)
    stored, tables = _open(folder), _tables(inner)
    names = [n for n in stored.shapes if not any(fnmatchcase(n, pattern) for pattern in ignore)]
    found, twice = _renamed(names, wanted, prefix=f"{inner.base_model_prefix}.")
    shapes = {name: stored.shapes[there] for name, there in found.items()}
    problems = [
        *twice,
        *_missing(wanted, found),
        *(f"{name}: the network has no place for it" for name in sorted(found.keys() - wanted)),
        *_misshapen(wanted, shapes, tables),
    ]
    if problems:
        raise _unfit(folder, inner, problems)
    filled: dict[int, str] = {}
    for name, there in found.items():
        value, twin = stored.read(there), filled.setdefault(id(wanted[name]), name)
        if twin != name and not torch.equal(value, stored.read(found[twin])):
            raise _unfit(folder, inner, [f"{name}: not {twin}, to which the network ties it"])
        _fill(wanted[name], value, folder, name)
    known = min((shapes[name][0] for name in found if id(wanted[name]) in tables), default=0)
    _fill_new_rows(tables.values(), known, denoiser.mask_id, _new_mask(denoiser, mask_row))


def _open(folder: Path) -> StoredTensors:
    """Every tensor in the files of a folder, not yet read."""
    try:
        stored = open_safetensors(folder)
    except DataError as error:
        raise DataError(f"{OPTION}: {error}") from error
    if stored is None:
        raise DataError(f"{OPTION}: {folder}: expected {WEIGHTS}, or {INDEX} and its parts")
    return stored


def _renamed(
    names: Iterable[str], wanted: Container[str], *, prefix: str
) -> tuple[dict[str, str], list[str]]:
    """The name in the file by that in the network, and what would have two."""
    found: dict[str, str] = {}
    twice = []
    for there in names:
        name = there
        for old, new in _OLD_NAMES.items():
            if name.endswith(old):
                name = name.removesuffix(old) + new
        name = f"{prefix}{name}" if f"{prefix}{name}" in wanted else name
        if found.setdefault(name, there) != there:
            twice.append(f"{name}: twice in the file, as {found[name]} and as {there}")
    return found, twice


def _tables(inner: Any) -> dict[int, Tensor]:
    """What has a row for each token id: the embedding and the head, by identity."""
    head = inner.get_output_embeddings()
    found = [inner.get_input_embeddings().weight]
    found += [] if head is None else [head.weight, getattr(head, "bias", None)]
    return {id(tensor): tensor for tensor in found if tensor is not None}


def _missing(wanted: Mapping[str, Tensor], found: Mapping[str, Any]) -> list[str]:
    """Weights of the network that nothing fills, tied ones once."""
    filled = {id(wanted[name]) for name in found if name in wanted}
    missing = {id(value): name for name, value in wanted.items() if id(value) not in filled}
    return [f"{name}: not in the file" for name in sorted(missing.values())]


def _misshapen(
    wanted: Mapping[str, Tensor], shapes: Mapping[str, Shape], tables: Mapping[int, Any]
) -> list[str]:
    problems = []
    for name in sorted(shapes.keys() & wanted.keys()):
        here, there = tuple(wanted[name].shape), shapes[name]
        grown = id(wanted[name]) in tables and here[1:] == there[1:] and here[0] >= there[0]
        if here != there and not grown:
            problems.append(f"{name}: {list(there)} in the file, {list(here)} in the network")
    return problems


def _unfit(folder: Path, inner: nn.Module, problems: list[str]) -> DataError:
    shown = [f"  {problem}" for problem in problems[:8]]
    more = [f"  and {len(problems) - 8} more"] if len(problems) > 8 else []
    first = f"{OPTION}: {folder}: the weights do not fit {type(inner).__name__}:"
    last = (
        "Architecture and config must be those of the folder; what the network needs no place for "
        "is named by denoiser.ignore"
    )
    return DataError("\n".join([first, *shown, *more, last]))


@torch.no_grad()
def _fill(weight: Tensor, value: Tensor, folder: Path, name: str) -> None:
    if not value.is_floating_point():
        raise DataError(
            f"{OPTION}: {folder}: {name} is of {str(value.dtype).removeprefix('torch.')}; expected "
            "floating-point weights, not quantised ones"
        )
    weight[: len(value)] = value.to(weight.dtype) if weight.ndim else value


def _new_mask(denoiser: Any, mask_row: MaskRow) -> bool:
    """Whether the mask's vector is made anew although the file may have one."""
    return mask_row == "mean" or (mask_row == "auto" and denoiser.autoregressive)


@torch.no_grad()
def _fill_new_rows(tables: Iterable[Tensor], known: int, mask_id: int, new_mask: bool) -> None:
    """The rows from `known` on, and the mask's where it is new, become the mean of the others."""
    for table in tables:
        mean = table[:known].mean(dim=0)
        table[known:] = mean
        if new_mask:
            table[mask_id] = mean
