"""A few steps under torch's profiler: which operations take the time, and a trace to look at."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from attrs import frozen
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, schedule

from mdmkit.benchmarking.steps import Corrupted, run_counted
from mdmkit.files import write_atomic
from mdmkit.training.job import Job

STEPS = 3
"""Steps that are profiled; one more comes before them and is not looked at."""

TOP = 15
"""Operations in the table."""

PRODUCTS = ("aten::mm", "aten::addmm", "aten::_addmm_activation", "aten::_scaled_mm")
"""Matrix products with weights, as autograd's own operations call them."""

ATTENTION = ("aten::bmm", "aten::baddbmm", "aten::_softmax", "aten::_softmax_backward_data")
"""Attention by the plain formula; the fused ways have ``attention`` in their names."""


@frozen(kw_only=True)
class Operation:
    """One of torch's operations on inputs of one shape.

    Attributes:
        name: torch's name.
        shapes: of its inputs.
        calls: a step.
        seconds: a step, in the operation itself (on a GPU: in its kernels).
    """

    name: str
    shapes: list[Any]
    calls: float
    seconds: float


@frozen(kw_only=True)
class Profile:
    """What the profiler saw, a step. It slows what it sees, small operations most of all.

    Attributes:
        steps: how many were looked at.
        operations: by the time that they take, the longest first.
        parts: seconds by part of the step: ``blocks``, ``head``, ``attention``, ``other``.
            ``head`` is missing, and in ``blocks``, where its shapes are not its own.
        communication: seconds in collective calls, or in their kernels; None on one rank. They
            include waiting for other ranks, and overlap with everything else.
    """

    steps: int
    operations: list[Operation]
    parts: dict[str, float]
    communication: float | None


def profile_steps(
    job: Job,
    corrupted: Corrupted,
    *,
    head_sizes: Iterable[int],
    trace: Path | None = None,
) -> Profile:
    """Profile the next steps of `job`: one to get warm, then `STEPS`.

    Args:
        job, corrupted: as for `run_counted`.
        head_sizes: what a shape must have for a product to be the head's; empty if nothing can
            tell them apart.
        trace: where to write a trace for ``chrome://tracing`` or Perfetto.
    """
    cuda = job.world.device.type == "cuda"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * cuda
    plan = schedule(wait=0, warmup=1, active=STEPS, repeat=1)
    rows: list[Any] = []

    def ready(profiler: Any) -> None:
        rows.extend(profiler.key_averages(group_by_input_shape=True))
        if trace is not None:
            _export(profiler, trace)

    with profile(
        activities=activities, schedule=plan, on_trace_ready=ready, record_shapes=True
    ) as profiler:
        run_counted(job, corrupted, STEPS + 1, _between(profiler.step))
    operations = _operations(rows, cuda=cuda)
    return Profile(
        steps=STEPS,
        operations=operations[:TOP],
        parts=parts_of(operations, frozenset(head_sizes)),
        communication=_communication(rows, cuda=cuda) if job.world.size > 1 else None,
    )


def parts_of(operations: Iterable[Operation], head_sizes: frozenset[int]) -> dict[str, float]:
    """The seconds of each part of a step."""
    parts = {"blocks": 0.0, "attention": 0.0, "other": 0.0}
    if head_sizes:
        parts["head"] = 0.0
    for operation in operations:
        parts[_part(operation, head_sizes)] += operation.seconds
    return parts


def _part(operation: Operation, head_sizes: frozenset[int]) -> str:
    if operation.name in PRODUCTS:
        sizes = {size for shape in operation.shapes for size in shape if isinstance(shape, list)}
        return "head" if sizes & head_sizes else "blocks"
    if operation.name in ATTENTION or "attention" in operation.name:
        return "attention"
    return "other"


def _operations(rows: Iterable[Any], *, cuda: bool) -> list[Operation]:
    """Torch's operations by the time they take; kernels are counted with what launched them."""
    found = []
    for row in rows:
        micro = row.self_device_time_total if cuda else row.self_cpu_time_total
        ours = row.device_type == DeviceType.CPU and not row.key.startswith(_NO_WORK)
        if ours and not _collective(row.key) and micro > 0:
            found.append(
                Operation(
                    name=row.key,
                    shapes=row.input_shapes,
                    calls=row.count / STEPS,
                    seconds=micro * 1e-6 / STEPS,
                )
            )
    return sorted(found, key=lambda operation: -operation.seconds)


_NO_WORK = ("ProfilerStep", "record_param_comms", "c10d::")


def _collective(name: str) -> bool:
    return name.startswith(("gloo:", "nccl"))


def _communication(rows: Iterable[Any], *, cuda: bool) -> float:
    """Seconds a step in collectives: NCCL's kernels, or gloo's calls."""
    if cuda:
        micro = sum(
            row.self_device_time_total
            for row in rows
            if row.device_type == DeviceType.CUDA and row.key.startswith("nccl")
            and ":" not in row.key  # that is the range around the kernel
        )  # fmt: skip
    else:
        micro = sum(row.cpu_time_total for row in rows if row.key.startswith("gloo:"))
    return float(micro) * 1e-6 / STEPS


def _export(profiler: Any, path: Path) -> None:
    """Write the trace to `path`, whole or not at all."""
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(whole))
        write_atomic(path, whole.read_bytes())


def _between(step: Callable[[], None]) -> Callable[[], None]:
    """Calls `step` at the end of each step, which is when the next begins."""
    calls = iter([lambda: None])
    return lambda: next(calls, step)()
