"""The arithmetic: spreads, phases, utilisation, FLOPs and bytes, the search for a batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mdmkit import RecipeError
from mdmkit.benchmarking import find_batch, memory
from mdmkit.benchmarking.find_batch import find_largest_batch, largest
from mdmkit.benchmarking.machine import Machine, Rate, measure_machine
from mdmkit.benchmarking.memory import watched
from mdmkit.benchmarking.profiling import Operation, parts_of
from mdmkit.benchmarking.result import Spread, utilisation
from mdmkit.benchmarking.roofline import LayerNumbers, Work, ceiling_of, layer_numbers, roofline
from mdmkit.benchmarking.steps import by_step, counted
from mdmkit.benchmarking.stopwatch import Interval
from mdmkit.builtin.denoisers import Dit
from mdmkit.costs import Flops
from mdmkit.report.console import quiet
from mdmkit.training.distributed import World
from mdmkit.values import Attention, MixedNoised, Noised, Vocabulary

CPU = torch.device("cpu")


def test_quartiles() -> None:
    assert Spread.of([3.0]) == Spread(median=3.0, lower=3.0, upper=3.0, count=1)
    found = Spread.of([5.0, 1.0, 2.0, 3.0, 4.0])
    assert found == Spread(median=3.0, lower=2.0, upper=4.0, count=5)


def test_phases_of_micro_batches_are_added_within_a_step() -> None:
    names = ["data", "rest", "forward", "backward", "forward", "backward", "data", "rest"]
    intervals = [Interval(name, 2.0**n) for n, name in enumerate(names)]
    assert by_step(intervals) == [
        {"data": 1, "rest": 2, "forward": 4 + 16, "backward": 8 + 32},
        {"data": 64, "rest": 128},
    ]


def test_utilisation_by_a_clock_that_is_known() -> None:
    # One product of 4 × 4 matrices a second: a peak of 128 FLOP/s on each of two devices.
    times = iter(range(1000))
    machine = measure_machine(
        CPU, "fp32", seconds=6, sizes=(4,), copied_bytes=64, clock=lambda: float(next(times))
    )
    assert machine.flops == 128
    used = utilisation(
        training_flops=60, repeated_flops=10, tokens_per_second=2, peaks=[machine.flops] * 2
    )
    assert used.model == 60 * 2 / 256
    assert used.hardware == 70 * 2 / 256
    assert used.tflops == pytest.approx(120e-12)
    assert used.peak_tflops == pytest.approx(256e-12)
    unknown = utilisation(
        training_flops=60, repeated_flops=None, tokens_per_second=2, peaks=[machine.flops]
    )
    assert (unknown.model, unknown.hardware) == (120 / 128, None)


def noised(**changes: Any) -> dict[str, Any]:
    rows = torch.zeros(4, 6, dtype=torch.int64)
    in_loss = torch.zeros(4, 6, dtype=torch.bool)
    in_loss[1:, 2] = True
    parts = {
        "inputs": rows, "targets": rows, "in_loss": in_loss, "weights": in_loss.float(),
        "t": None, "attention": Attention(), "denominator": torch.tensor(1.0).double(),
    }  # fmt: skip
    return parts | changes


def test_what_a_step_has_is_counted() -> None:
    plain, causal = Noised(**noised()), Noised(**noised(attention=Attention(causal=True)))
    mixed = MixedNoised(**noised(), causal=torch.tensor([True, False, True, True]), both=True)
    found = counted([plain, causal, mixed])
    assert (found.scored, found.causal, found.rows) == (9, 4 + 3, 12)


def dit() -> Any:
    options = Dit(width=8, depth=2, heads=2, mlp_ratio=4, adaln=False)
    with torch.device("meta"):
        return options.build(Vocabulary(size=50, mask_id=49))


def test_numbers_in_and_out_of_layers() -> None:
    numbers, width = layer_numbers(dit(), 10)
    assert width == 8
    assert numbers.weights == 2 * (8 * 24 + 8 * 8 + 2 * 8 * 32)
    assert numbers.activations == 10 * 2 * ((8 + 24) + (8 + 8) + (8 + 32) + (32 + 8))


def test_the_roofline() -> None:
    rate = Rate(median=1.0, best=100.0, repeats=3)
    machine = Machine(
        dtype="bfloat16", matmul={4: rate}, copy=rate, copied_bytes=64, float32_precision="highest"
    )
    work = Work(
        rows=2, length=5, micro_batches=2, scored=3.0,
        flops=Flops(blocks=1000.0, attention=4 * 5 * 7.0, head=1.0),
        numbers=LayerNumbers(activations=50, weights=30),
        width=4, vocab_size=9, parameters=11, itemsize=2, ema=True,
    )  # fmt: skip
    parts = roofline(
        work, machine, step=400.0, measured={"blocks": 320.0, "head": 40.0}, update=20.0
    )
    by_name = {part.name: part for part in parts}
    blocks = by_name["blocks"]
    assert (blocks.flops, blocks.bytes) == (3 * 1000 * 10, 3 * 2 * (2 * 50 + 2 * 30))
    assert (blocks.ceiling, blocks.bound, blocks.measured) == (300.0, "compute", 320.0)
    attention = by_name["attention"]
    assert attention.bytes == 12 * 2 * 7 * 10  # 7 features in all layers
    assert (attention.measured, attention.source) == (None, "not known")
    head = by_name["head"]
    assert (head.flops, head.bytes) == (30, 3 * 2 * (3 * 4 + 2 * 9 * 4))
    assert (head.ceiling, head.bound) == (head.bytes / 100, "memory")
    assert by_name["optimizer"].bytes == (7 + 3 + 3) * 4 * 11
    assert by_name["optimizer"].measured == 20.0
    assert by_name["rest"].measured == 400 - 320 - 40 - 20
    assert ceiling_of(parts) == pytest.approx(sum(p.ceiling or 0 for p in parts))


def operation(name: str, *shapes: list[int], seconds: float = 1.0) -> Operation:
    return Operation(name=name, shapes=list(shapes), calls=1.0, seconds=seconds)


def test_operations_are_parts_of_a_step() -> None:
    operations = [
        operation("aten::mm", [64, 8], [8, 24]),
        operation("aten::addmm", [50], [64, 8], [8, 50], [], seconds=2.0),
        operation("aten::bmm", [8, 10, 50], [8, 50, 10], seconds=4.0),
        operation("aten::_scaled_dot_product_flash_attention", [1, 2], seconds=8.0),
        operation("aten::gelu", [64, 32], seconds=16.0),
    ]
    assert parts_of(operations, frozenset({50})) == {
        "blocks": 1, "head": 2, "attention": 12, "other": 16,
    }  # fmt: skip
    assert parts_of(operations, frozenset()) == {"blocks": 3, "attention": 12, "other": 16}


# --- the largest batch


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 7, 8, 31, 32])
def test_the_largest_that_fits_is_found(limit: int) -> None:
    tried: list[int] = []

    def fits(n: int) -> bool:
        tried.append(n)
        return n <= limit

    assert largest(fits, most=32) == limit
    assert len(tried) == len(set(tried)) <= 11
    assert max(tried) <= 32


def test_a_batch_is_found_in_whole_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(device=torch.device("cuda"))
    monkeypatch.setattr(find_batch, "_group", lambda *_: 2)
    monkeypatch.setattr(
        find_batch, "_tried", lambda _, rows, *__: (rows * 10.0, rows * 100) if rows < 7 else None
    )
    recipe: Any = None
    found = find_largest_batch(recipe, world, None, quiet())
    assert (found.rows, found.tokens_per_second, found.peak) == (6, 60.0, 600)
    assert found.tried == {2: True, 4: True, 8: False, 6: True}


@pytest.mark.parametrize(
    ("world", "why"),
    [
        (World(device=CPU), "needs a CUDA device"),
        (World(device=torch.device("cuda"), size=2), "needs a single process"),
    ],
)
def test_where_no_batch_is_looked_for(world: World, why: str) -> None:
    recipe: Any = None
    with pytest.raises(RecipeError, match=why):
        find_largest_batch(recipe, world, None, quiet())


# --- memory


def test_the_peak_is_that_of_the_body() -> None:
    octets = 64 * 2**20
    torch.ones(octets // 4).sum()  # the peak before is no lower
    with watched(CPU) as peak:
        low = peak()
        torch.ones(octets // 4).sum()
        high = peak()
    assert octets * 0.9 < high.peak - low.peak < octets * 1.5
    assert high.reserved is None
    assert "VmHWM" in high.source


def test_where_the_kernel_does_not_set_it_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "no" / "such")
    with watched(CPU) as peak:
        found = peak()
    assert found.peak >= 0
    assert "getrusage" in found.source
