"""Every validation of a run, block by block: what comparisons of runs are made from.

A validation is one file ``validation/step-<step>.safetensors`` in the run directory: the tensors
of a `mdmkit.values.BlockTable`, and as metadata the step and what was measured on what. Runs that
were validated on the same blocks with the same masks can be compared pair by pair.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from attrs import frozen

from mdmkit.errors import CheckpointError
from mdmkit.files import GO_ON, explained, write_atomic
from mdmkit.plain_files import parse_json
from mdmkit.step_files import StepFiles
from mdmkit.values import BlockTable

if TYPE_CHECKING:
    from torch import Tensor

FILES = StepFiles(folder="validation", suffix=".safetensors")
logged_steps, forget_after, copy_until = FILES.steps, FILES.forget_after, FILES.copy_until


@frozen(kw_only=True, eq=False)
class LoggedValidation:
    """A validation, read back.

    Attributes:
        step: the optimizer steps behind the weights.
        table: what each draw of each block gave.
        provenance: what was measured on what.
    """

    step: int
    table: BlockTable
    provenance: Mapping[str, Any]


def write_validation(
    run_dir: Path, step: int, table: BlockTable, provenance: Mapping[str, Any]
) -> None:
    """Keep the validation of `step`, replacing one that is there.

    Raises:
        CheckpointError: where it cannot be written.
    """
    from safetensors.torch import save

    tensors = {name: tensor.contiguous() for name, tensor in attrs.asdict(table).items()}
    metadata = {"format": "pt", "step": str(step), "provenance": json.dumps(provenance)}
    path = FILES.path(run_dir, step)
    with explained(path, GO_ON):
        path.parent.mkdir(exist_ok=True)
        write_atomic(path, save(tensors, metadata))


def read_validation(run_dir: Path, step: int) -> LoggedValidation:
    """The validation of `step`.

    Raises:
        CheckpointError: where there is none, or the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    path = FILES.path(run_dir, step)
    if not path.is_file():
        found = ", ".join(map(str, logged_steps(run_dir))) or "none"
        raise CheckpointError(f"{path}: there is no validation of step {step}; found {found}")
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
            provenance = parse_json(file.metadata()["provenance"])
        table = _table(tensors)
        if not isinstance(provenance, dict):
            raise ValueError("its provenance is no table")
    except (OSError, ValueError, LookupError, TypeError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error}); remove it: the comparison goes on without this "
            "step, and the run can be trained again from an earlier checkpoint"
        ) from error
    return LoggedValidation(step=step, table=table, provenance=provenance)


def _table(tensors: Mapping[str, Tensor]) -> BlockTable:
    """The table of these tensors; ValueError where types or shapes are not those of one."""
    import torch

    table = BlockTable(**tensors)
    shape, numbers = table.nats.shape, (table.blocks, table.documents)
    if len(shape) != 2 or 0 in shape or any(n.shape != shape[:1] for n in numbers):
        raise ValueError("its tensors are not of blocks and draws")
    if any(tensor.dtype != torch.int64 for tensor in numbers):
        raise ValueError("the numbers of its blocks are not whole")
    for tensor in (table.nats, table.tokens, table.masked):
        if tensor.shape != shape or tensor.dtype != torch.float64:
            raise ValueError("its tensors are not of blocks and draws")
    return table
