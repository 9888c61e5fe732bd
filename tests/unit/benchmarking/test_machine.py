"""The ceilings: what is counted, that the time is bounded, and what is left out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from mdmkit.benchmarking import machine as module
from mdmkit.benchmarking.machine import Machine, Rate, matmul_dtype, measure_machine
from mdmkit.benchmarking.stopwatch import Interval, Stopwatch

CPU = torch.device("cpu")


def ticking(seconds: float) -> Callable[[], float]:
    """A clock that moves so far each time somebody looks."""
    now = [0.0]

    def clock() -> float:
        now[0] += seconds
        return now[0]

    return clock


def test_intervals_go_from_each_mark_to_the_next() -> None:
    times = iter([1.0, 1.5, 4.0])
    stopwatch = Stopwatch(CPU, clock=lambda: next(times))
    assert stopwatch.intervals() == []
    for name in ("a", "b", "a"):
        stopwatch.mark(name)
    assert stopwatch.intervals() == [Interval("a", 0.5), Interval("b", 2.5)]


def test_rates_are_work_over_time() -> None:
    # every repeat is one call and takes a second of the clock
    found = measure_machine(
        CPU, "fp32", seconds=120, sizes=(4, 8), copied_bytes=1024, clock=ticking(1.0)
    )
    assert found.dtype == "float32"
    assert {size: (r.median, r.best) for size, r in found.matmul.items()} == {
        4: (2 * 4**3, 2 * 4**3),
        8: (2 * 8**3, 2 * 8**3),
    }
    assert found.flops == 2 * 8**3
    assert found.bandwidth == 2 * 1024
    assert found.matmul[4].repeats == 40  # a third of 120 seconds


def test_the_peak_is_the_best_repeat_of_the_best_size() -> None:
    slow, fast = Rate(median=1.0, best=5.0, repeats=3), Rate(median=3.0, best=4.0, repeats=3)
    found = Machine(
        dtype="float32", matmul={8: slow, 16: fast}, copy=fast, copied_bytes=4,
        float32_precision="highest",
    )  # fmt: skip
    assert (found.flops, found.bandwidth) == (5.0, 4.0)


def test_what_would_take_too_long_is_left_out() -> None:
    found = measure_machine(
        CPU, "bf16", seconds=3, sizes=(4, 64), copied_bytes=1024, clock=ticking(1.0)
    )
    assert found.dtype == "bfloat16"
    assert list(found.matmul) == [4]
    assert found.matmul[4].repeats == 3  # the fewest


def test_short_calls_are_timed_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(module, "_product", lambda *_: lambda: calls.append(1))
    found = measure_machine(
        CPU, "fp32", seconds=0.0, sizes=(4,), copied_bytes=64, clock=ticking(0.005)
    )
    assert len(calls) == 1 + 1 + 3 * 4  # a repeat is 20 ms at least
    assert found.flops == pytest.approx(4 * 2 * 4**3 / 0.005)


def test_the_dtype_is_that_of_the_networks_products() -> None:
    assert matmul_dtype("fp32") is torch.float32
    assert matmul_dtype("bf16") is torch.bfloat16
    assert matmul_dtype("bf16_weights") is torch.bfloat16


def test_a_real_measurement_is_positive() -> None:
    found = measure_machine(CPU, "fp32", seconds=0.05, sizes=(32,), copied_bytes=2**16)
    assert 0 < found.matmul[32].median <= found.matmul[32].best == found.flops
    assert 0 < found.copy.median <= found.bandwidth
