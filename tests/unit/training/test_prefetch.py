"""Reading and corrupting ahead changes nothing but the time it takes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from mdmkit import DataError, load_recipe, train
from mdmkit.builtin.objectives import LiveMaskedDiffusion
from mdmkit.metrics_log import read_metrics
from mdmkit.training import loop, prefetch
from mdmkit.training.batches import MicroBatches
from mdmkit.training.checkpoint import load_weights
from mdmkit.values import Attention, MixedNoised

UNREPEATABLE = ("seconds", "train/tokens_per_second")
LEARNING = ['time_sampler.use="information_rate"']


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("mdmkit-prefetch")]


@contextmanager
def at_once(job: Any) -> Iterator[Callable[[int], Any]]:
    """Without prefetching: each step's micro-batches when they are asked for."""
    yield lambda step: [job.live.objective.corrupt(*parts) for parts in job.batches.at(step)]


@pytest.mark.parametrize("changes", [[], LEARNING, ["train.micro_batch_size=2"]])
def test_training_is_bitwise_the_same_without(
    tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: list[str]
) -> None:
    recipe = load_recipe(tiny_recipe, changes)
    runs = []
    for name in ("with", "without"):
        runs.append(train(recipe, runs_dir=tmp_path / name).directory)
        assert threads() == []
        monkeypatch.setattr(loop, "prefetched", at_once)
    one, other = (read_metrics(run / "metrics.jsonl") for run in runs)
    for left, right in zip(one, other, strict=True):
        for key in left.keys() | right.keys():
            assert key in UNREPEATABLE or left[key] == right[key]
    left, right = (load_weights(run, ema=False).state for run in runs)
    assert all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize(("changes", "ahead"), [([], True), (LEARNING, False)])
def test_what_may_learn_from_a_step_waits_for_it(
    tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch, changes: list[str], ahead: bool
) -> None:
    corrupt, at, main = LiveMaskedDiffusion.corrupt, MicroBatches.at, threading.get_ident()
    corrupted: dict[int, bool] = {}
    read: dict[int, bool] = {}

    def noted(self: Any, batch: Any, draws: Any) -> Any:
        corrupted[draws.step] = threading.get_ident() == main
        return corrupt(self, batch, draws)

    def noted_at(self: Any, step: int) -> Any:
        read[step] = threading.get_ident() == main
        return at(self, step)

    monkeypatch.setattr(LiveMaskedDiffusion, "corrupt", noted)
    monkeypatch.setattr(MicroBatches, "at", noted_at)
    train(load_recipe(tiny_recipe, [*changes, "train.diagnose_every=0"]))
    assert corrupted == dict.fromkeys(range(12), not ahead)
    assert read == dict.fromkeys(range(12), False)


@pytest.mark.parametrize("changes", [[], LEARNING])
def test_an_error_comes_out_of_the_step_that_it_is_of(
    tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: list[str]
) -> None:
    at = MicroBatches.at

    def broken(self: Any, step: int) -> Any:
        if step == 5:
            raise DataError("the disk is gone")
        return at(self, step)

    monkeypatch.setattr(MicroBatches, "at", broken)
    with pytest.raises(DataError, match="the disk is gone"):
        train(load_recipe(tiny_recipe, changes), runs_dir=tmp_path)
    (log,) = tmp_path.glob("*/metrics.jsonl")
    assert max(line["step"] for line in read_metrics(log)) == 5
    assert threads() == []


def test_steps_are_begun_ahead_but_not_beyond_the_last() -> None:
    class Now:
        """An executor that works at once."""

        def submit(self, work: Any, step: int) -> Any:
            future: Any = prefetch.Future()
            future.set_result(work(step))
            return future

    begun: list[int] = []
    given = prefetch.in_order(Now(), lambda step: begun.append(step) or step * step, range(3, 8))
    assert begun == []
    assert given(3) == 9
    assert begun == [3, 4, 5]
    assert [given(step) for step in range(4, 8)] == [16, 25, 36, 49]
    assert begun == [3, 4, 5, 6, 7]


def test_everything_a_gpu_copies_is_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[torch.Tensor] = []

    def pin(self: torch.Tensor) -> torch.Tensor:
        pinned.append(self)
        return self.clone()

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    tokens = torch.zeros(2, 3, dtype=torch.int64)
    noised = MixedNoised(
        inputs=tokens, targets=tokens + 1, in_loss=tokens > 0, weights=tokens.float(), t=None,
        attention=Attention(causal=True, padding=tokens == 0), causal=torch.tensor([True, False]),
        denominator=torch.ones(()).double(), both=True,
    )  # fmt: skip
    found = noised.pinned()
    parts = ("inputs", "targets", "in_loss", "weights", "causal", "denominator")
    for one, other in (
        *((getattr(noised, name), getattr(found, name)) for name in parts),
        (noised.attention.padding, found.attention.padding),
    ):
        assert one is not other
        assert torch.equal(one, other)
        assert any(one is tensor for tensor in pinned)
    assert (found.t, found.both, found.attention.causal) == (None, True, True)
