"""What this machine can do at best, measured: matrix products and copies.

These two ceilings are those of the roofline model (Williams, Waterman and Patterson 2009,
doi:10.1145/1498765.1498785). They are measured rather than read from a data sheet, because a data
sheet knows neither this machine's clock nor who else uses it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import torch
from attrs import frozen

from mdmkit.benchmarking.stopwatch import Stopwatch

SIZES = {"cpu": (512, 1024, 2048), "cuda": (2048, 4096, 8192, 16384)}
"""Sides of the square matrices, by kind of device."""

COPIED_BYTES = {"cpu": 256 * 2**20, "cuda": 2**30}
"""Size of the buffer that is copied: larger than any cache, on each kind of device."""

_SHORTEST = {"cpu": 0.02, "cuda": 0.01}  # seconds of one repeat
_REPEATS = 3  # at least


@frozen(kw_only=True)
class Rate:
    """Work a second over several repeats.

    Attributes:
        median, best: over the repeats, FLOP/s or bytes/s.
        repeats: how many there were.
    """

    median: float
    best: float
    repeats: int


@frozen(kw_only=True)
class Machine:
    """The ceilings of one device.

    Attributes:
        dtype: of the matrix products, ``bfloat16`` or ``float32``.
        matmul: FLOP/s of an n × n by n × n product (2n³ FLOPs), by n.
        copy: bytes/s of a large copy, the bytes read and those written.
        copied_bytes: size of the buffer that was copied.
        float32_precision: torch's setting, which decides on TF32.
    """

    dtype: str
    matmul: dict[int, Rate]
    copy: Rate
    copied_bytes: int
    float32_precision: str

    @property
    def flops(self) -> float:
        """The peak, FLOP/s: the best repeat of the best size."""
        return max(rate.best for rate in self.matmul.values())

    @property
    def bandwidth(self) -> float:
        """The peak of a copy, bytes/s."""
        return self.copy.best


def matmul_dtype(precision: str) -> torch.dtype:
    """The dtype that the matrix products of a ``train.precision`` have."""
    return torch.float32 if precision == "fp32" else torch.bfloat16


def measure_machine(
    device: torch.device,
    precision: str,
    *,
    seconds: float = 3.0,
    sizes: tuple[int, ...] | None = None,
    copied_bytes: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Machine:
    """Measure the ceilings of `device`.

    Args:
        device: which.
        precision: ``train.precision`` of the recipe.
        seconds: about how long all of it may take. A matrix that is too large for a device to
            multiply thrice in its share is left out, but for the smallest.
        sizes: instead of `SIZES`.
        copied_bytes: instead of `COPIED_BYTES`.
        clock: seconds, rising.
    """
    dtype = matmul_dtype(precision)
    sizes = sizes or SIZES[device.type]
    share = seconds / (len(sizes) + 1)
    matmul: dict[int, Rate] = {}
    for size in sizes:
        if matmul and (_REPEATS + 1) * 2 * size**3 > share * 2 * matmul[max(matmul)].best:
            break
        matmul[size] = _rate(_product(size, dtype, device), 2.0 * size**3, device, share, clock)
    size = copied_bytes or COPIED_BYTES[device.type]
    return Machine(
        dtype=str(dtype).removeprefix("torch."),
        matmul=matmul,
        copy=_rate(_copy(size, device), 2.0 * size, device, share, clock),
        copied_bytes=size,
        float32_precision=torch.get_float32_matmul_precision(),
    )


def _product(size: int, dtype: torch.dtype, device: torch.device) -> Callable[[], object]:
    """Multiplies two matrices of normal numbers: zeros would cost less power, and be faster."""
    draw = torch.Generator(device).manual_seed(0)
    left, right = (
        torch.randn(size, size, dtype=dtype, device=device, generator=draw) for _ in range(2)
    )
    product = torch.empty_like(left)
    return lambda: torch.mm(left, right, out=product)


def _copy(size: int, device: torch.device) -> Callable[[], object]:
    source = torch.ones(size // 4, dtype=torch.float32, device=device)
    target = torch.zeros_like(source)
    return lambda: target.copy_(source)


def _rate(
    call: Callable[[], object],
    work: float,
    device: torch.device,
    seconds: float,
    clock: Callable[[], float],
) -> Rate:
    """How much `work` a second repeated calls do, over about so many seconds."""
    call()  # the first may load or choose a kernel
    (once,) = _timed(call, 1, device, clock, repeats=1)
    calls = max(1, round(_SHORTEST[device.type] / max(once, 1e-9)))
    repeats = max(_REPEATS, int(seconds / max(once * calls, 1e-9)))
    speeds = [calls * work / taken for taken in _timed(call, calls, device, clock, repeats=repeats)]
    return Rate(median=statistics.median(speeds), best=max(speeds), repeats=repeats)


def _timed(
    call: Callable[[], object],
    calls: int,
    device: torch.device,
    clock: Callable[[], float],
    *,
    repeats: int,
) -> Iterator[float]:
    """The seconds of so many calls in a row, for each repeat."""
    for _ in range(repeats):
        stopwatch = Stopwatch(device, clock)
        stopwatch.mark("begin")
        for _ in range(calls):
            call()
        stopwatch.mark("end")
        yield max(stopwatch.intervals()[0].seconds, 1e-9)
