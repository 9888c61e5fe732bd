"""A plan in words: what a recipe costs, line by line or as plain data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from mdmkit.costs.fitting import MOST_TOKENS, Remedy, first_remedy, largest_micro_batch
from mdmkit.costs.memory import Memory
from mdmkit.costs.plan import USABLE, Planner
from mdmkit.report.numbers import duration, rate, size
from mdmkit.report.tables import columns

MEANINGS: Mapping[str, str] = {
    "weights": "its share",
    "optimizer": "its share of AdamW's two averages, float32",
    "average": "its share of the averaged weights, float32",
    "gradients": "its share, at the fullest moment",
    "gathered": "whole weights of the blocks in use, embedding and head",
    "sums": "whole gradients on their way to other GPUs",
    "casts": "weights in bfloat16 that autocast keeps for the backward",
    "activations": "kept by the forward for the backward",
    "working": "at work at the fullest moment: logits, a block's backward",
    "batch": "tokens, targets, weights",
}


def plan_lines(planner: Planner) -> Iterator[str]:
    """The plan for people: nothing is cut, so that it can be copied and piped."""
    setup, gpu = planner.setup, planner.gpu
    machine = f"{setup.gpus} × {gpu.name} ({gpu.tflops:g} TFLOP/s, {size(int(gpu.memory))})"
    yield f"{planner.recipe.run.name} on {machine}, {setup.mode}"
    yield ""
    yield from columns(list(_rows(planner)))
    yield ""
    yield f"Memory of a GPU, {setup.rows} rows at once:"
    yield from _memory_lines(planner.memory)
    yield ""
    yield from _verdict(planner)
    if setup.compiled:
        yield "Activations are those of blocks that are not compiled; compiled ones keep less."


def plan_json(planner: Planner) -> dict[str, Any]:
    """The plan as plain data; sizes in bytes, times in seconds where the name says no other."""
    setup, remedy = planner.setup, None if planner.fits else first_remedy(planner)
    flops, memory, traffic = planner.flops, planner.memory, planner.traffic
    return {
        "recipe": planner.recipe.run.name,
        "gpu": attrs.asdict(planner.gpu),
        "setup": {**attrs.asdict(setup), "mode": setup.mode, **_dtypes(planner)},
        "vocab_size": planner.vocab_size,
        "parameters": {**attrs.asdict(planner.parameters), "total": planner.parameters.total},
        "flops_per_token": {
            **attrs.asdict(flops),
            "total": flops.total,
            "training": flops.training,
        },
        "shares": attrs.asdict(planner.shares),
        "memory": {**attrs.asdict(memory), "total": memory.total, "usable": planner.usable},
        "fits": planner.fits,
        "remedy": None if remedy is None else remedy.settings,
        "largest_micro_batch": largest_micro_batch(planner),
        "mfu": planner.mfu,
        "time": attrs.asdict(planner.time),
        "traffic": {**attrs.asdict(traffic), "total": traffic.total},
    }


def _dtypes(planner: Planner) -> dict[str, str]:
    names = ("weights", "used", "reduced")
    return {name: str(getattr(planner.setup, name)).removeprefix("torch.") for name in names}


def _rows(planner: Planner) -> Iterator[tuple[str, str, str]]:
    counts, flops, shares = planner.parameters, planner.flops, planner.shares
    time, setup, traffic = planner.time, planner.setup, planner.traffic
    parts = f"blocks {_big(counts.blocks)}, embedding {_big(counts.embedding)}, " + (
        "which the head shares" if counts.tied else f"head {_big(counts.head)}"
    )
    yield "parameters", _big(counts.total), parts
    if counts.trained != counts.total:
        yield "of them trained", _big(counts.trained), ""
    shown = ((flops.blocks, "blocks"), (flops.attention, "attention"), (flops.head, "head"))
    split = ", ".join(f"{name} {part / flops.total:.0%}" for part, name in shown)
    yield "FLOPs a token", _big(flops.training), f"forward and backward: {split}"
    yield "positions in the loss", f"{shares.scored:.1%}", "the head computes these alone"
    accumulated = f" × {setup.accumulation} micro-batches" if setup.accumulation > 1 else ""
    rows = f"{setup.gpus} GPUs × {setup.rows} rows{accumulated}"
    yield "tokens a step", _big(planner.tokens), f"{rows} × {planner.recipe.data.length}"
    yield "step", _seconds(time.step), f"at an MFU of {planner.mfu:g}, which is assumed"
    yield "tokens a second", rate(time.tokens_per_second), "of all GPUs"
    steps = planner.recipe.train.steps
    whole = f"{time.gpu_hours:,.1f} GPU-hours"
    priced = "" if time.cost is None else f", cost {time.cost:,.2f}"
    yield f"{steps:,} steps", duration(time.days * 86400), whole + priced
    if setup.gpus > 1:
        speed = f"hidden behind the computation from {size(int(traffic.total / time.step))}/s on"
        yield "sent by a GPU, a step", size(traffic.total), speed


def _memory_lines(memory: Memory) -> Iterator[str]:
    parts = [(name, getattr(memory, name), text) for name, text in MEANINGS.items()]
    rows = [(name, size_of(octets), text) for name, octets, text in parts if octets]
    yield from columns([*rows, ("together", size_of(memory.total), "")])


def size_of(octets: int) -> str:
    """An amount of bytes that may be below 0.

    >>> size_of(-24_310)
    '-24.3 kB'
    """
    return f"-{size(-octets)}" if octets < 0 else size(octets)


def _verdict(planner: Planner) -> Iterator[str]:
    limit = f"{USABLE:.0%} of {size(int(planner.gpu.memory))}"
    if planner.fits:
        yield f"It fits ({limit} are taken as usable)."
    else:
        yield f"It does not fit: {limit} are taken as usable."
        yield _advice(first_remedy(planner))
    largest = largest_micro_batch(planner)
    if not largest:
        yield "Not even the smallest micro-batch fits as it is."
    elif 2 * largest * planner.recipe.data.length > MOST_TOKENS:
        yield f"Micro-batches of {largest} rows would fit as well, in a batch as large."
    else:
        yield f"Largest micro-batch that would fit, in a batch for it: about {largest} rows."


def _advice(remedy: Remedy | None) -> str:
    if remedy is None:
        return (
            "Neither activation checkpointing, nor smaller micro-batches, nor sharding over these "
            "GPUs is enough. Try --set parallel.param_dtype=bf16 (weights are gathered and used in "
            "bfloat16, and autocast keeps no copies of them; it changes rounding), fewer rows in "
            "train.global_batch_size, more GPUs, or larger ones."
        )
    words = " ".join(f"--set {key}={_toml(value)}" for key, value in remedy.settings.items())
    return f"It would with {words}: {size(remedy.planner.memory.total)}."


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _big(number: float) -> str:
    for unit, name in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:.2f}{name}"
    return f"{number:.0f}"


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
