"""Where the time of a step goes: what each part would take at the machine's ceilings.

The roofline model (Williams, Waterman and Patterson 2009, doi:10.1145/1498765.1498785): a part with
F FLOPs that moves at least M bytes takes no less than max(F / peak, M / bandwidth) seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

import torch
from attrs import frozen
from torch import nn

from mdmkit.benchmarking.machine import Machine
from mdmkit.costs import Flops
from mdmkit.costs.flops import TRAINING
from mdmkit.protocols import Denoiser
from mdmkit.training.parallel import blocks_of

_ADAM, _EMA, _CLIP = 7, 3, 3
"""Float32 numbers that each parameter has to move: AdamW reads weight, gradient and two moments
and writes all but the gradient; the average reads both and writes one; clipping reads the gradient
for its norm, then reads and writes it."""


@frozen(kw_only=True)
class Part:
    """A part of a step on one device.

    Attributes:
        name: ``blocks``, ``attention``, ``head``, ``optimizer`` or ``rest``.
        flops, bytes: of a step, the latter at least; 0 where they are not counted.
        ceiling: seconds at the ceilings, or None where nothing is counted.
        measured: seconds, or None where it is not known.
        bound: which ceiling it is, ``compute`` or ``memory``.
        source: where the measured time is from.
    """

    name: str
    flops: float
    bytes: float
    ceiling: float | None
    measured: float | None
    bound: str | None
    source: str


@frozen(kw_only=True)
class Work:
    """What a device has to do in a step.

    Attributes:
        rows, length: of all its micro-batches; L.
        micro_batches: how many these are.
        scored: positions whose logits are computed.
        flops: a token, of a forward.
        numbers: see `layer_numbers`.
        width: D, features of a position at the head.
        vocab_size: V.
        parameters: that this device updates.
        itemsize: bytes of a number in matrix products.
        ema: whether averaged weights are kept.
    """

    rows: int
    length: int
    micro_batches: int
    scored: float
    flops: Flops
    numbers: LayerNumbers
    width: int
    vocab_size: int
    parameters: int
    itemsize: int
    ema: bool


@frozen(kw_only=True)
class LayerNumbers:
    """How many numbers the linear layers of the blocks have.

    Attributes:
        activations: in and out of all of them, for one row.
        weights: in all of them.
    """

    activations: int
    weights: int


def layer_numbers(denoiser: Denoiser, length: int) -> tuple[LayerNumbers, int]:
    """Count the numbers in and out of the blocks' linear layers; and D, the width of the last.

    Args:
        denoiser: on the meta device; its forward is called.
        length: L.
    """
    activations, weights = 0, 0

    def count(layer: nn.Linear, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal activations, weights
        activations += inputs[0].numel() + output.numel()
        weights += layer.weight.numel()

    blocks = blocks_of(cast("nn.Module", denoiser))
    layers = [m for block in blocks for m in block.modules() if isinstance(m, nn.Linear)]
    handles = [layer.register_forward_hook(count) for layer in layers]
    try:
        with torch.no_grad():
            tokens = torch.zeros(1, length, dtype=torch.int64, device="meta")
            h = denoiser(tokens, t=torch.full((1,), 0.5, device="meta"))
    finally:
        for handle in handles:
            handle.remove()
    return LayerNumbers(activations=activations, weights=weights), h.shape[-1]


def roofline(
    work: Work,
    machine: Machine,
    *,
    step: float,
    measured: Mapping[str, float],
    update: float,
) -> list[Part]:
    """The parts of a step, and what is left of it.

    Args:
        work: what the device has to do.
        machine: its ceilings.
        step: seconds of a step.
        measured: seconds of ``blocks``, ``attention`` and ``head``, as far as they are known.
        update: seconds of the phase that clips and updates.
    """
    tokens = work.rows * work.length
    flops = work.flops
    counted = {
        "blocks": (TRAINING * flops.blocks * tokens, _product_bytes(work)),
        "attention": (TRAINING * flops.attention * tokens, _attention_bytes(work)),
        "head": (TRAINING * flops.head * tokens, _head_bytes(work)),
        "optimizer": (0.0, (_ADAM + _CLIP + _EMA * work.ema) * 4.0 * work.parameters),
    }
    parts = [
        _part(name, *amounts, machine, measured.get(name) if name != "optimizer" else update)
        for name, amounts in counted.items()
    ]
    known = sum(part.measured or 0.0 for part in parts)
    rest = Part(
        name="rest",
        flops=0.0,
        bytes=0.0,
        ceiling=None,
        measured=max(step - known, 0.0),
        bound=None,
        source="the step without the parts above",
    )
    return [*parts, rest]


def ceiling_of(parts: Iterable[Part]) -> float:
    """Seconds of all parts at the ceilings, one after the other."""
    return sum(part.ceiling or 0.0 for part in parts)


def _part(name: str, flops: float, moved: float, machine: Machine, measured: float | None) -> Part:
    compute, memory = flops / machine.flops, moved / machine.bandwidth
    source = "the phase update" if name == "optimizer" else "the profiler"
    return Part(
        name=name,
        flops=flops,
        bytes=moved,
        ceiling=max(compute, memory),
        measured=measured,
        bound="compute" if compute >= memory else "memory",
        source=source if measured is not None else "not known",
    )


def _product_bytes(work: Work) -> float:
    """Each of the three products of a layer reads two of x, W, y and writes the third."""
    activations = work.rows * work.numbers.activations
    weights = work.micro_batches * work.numbers.weights
    return float(TRAINING * work.itemsize * (activations + weights))


def _attention_bytes(work: Work) -> float:
    """Fused attention: q, k, v, o forward; these, their gradients, and no L × L matrix, backward.

    The features of all layers come from the FLOPs, 4·L·D for each token and layer.
    """
    features = work.flops.attention / (4 * work.length)
    return 12 * work.itemsize * features * work.rows * work.length


def _head_bytes(work: Work) -> float:
    """As a linear layer whose logits are never written."""
    weights = work.micro_batches * work.vocab_size * work.width
    return TRAINING * work.itemsize * (work.scored * work.width + weights)
