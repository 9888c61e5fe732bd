"""A step asks the device for nothing: what would make a GPU's host wait is not called."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mdmkit import load_recipe
from mdmkit.report.console import quiet
from mdmkit.training.distributed import World
from mdmkit.training.job import open_job
from mdmkit.training.loop import train_step
from mdmkit.training.prefetch import corrupted
from mdmkit.training.run_directory import open_run
from mdmkit.training.totals import Later, Totals

CPU = torch.device("cpu")
NOTHING = SimpleNamespace(denominator=torch.zeros((), dtype=torch.float64))
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_unique2"}


class Watch(TorchDispatchMode):
    """Notes the operators whose result decides a shape or a number on the host."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        masked = name == "index" and any(
            part is not None and part.dtype == torch.bool for part in args[1]
        )
        if name in WAITING or masked:
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "changes",
    [
        [],
        ["train.micro_batch_size=2", 'data.packing={use="document"}'],
        ['objective={use="mixed_causal", share=0.5}'],
        ['objective={use="autoregressive"}', 'sampler={use="autoregressive"}'],
        ['time_sampler={use="bell"}', 'mask_pattern={use="complementary"}'],
    ],
)
def test_a_step_waits_for_nothing(tiny_recipe: Path, changes: list[str]) -> None:
    recipe = load_recipe(tiny_recipe, changes)
    directory, world = tiny_recipe.parent / "run", World(device=CPU)
    with open_run(recipe, directory, world), open_job(recipe, directory, world, quiet()) as job:
        before = [p.detach().clone() for p in job.root.parameters()]
        totals = Totals(world, lambda: False)
        # the CPU makes the batch, ahead of time
        batch = [corrupted(job, *parts) for parts in job.batches.at(0)]
        with Watch() as watch:
            losses = train_step(job, batch, totals.denominator(batch), 1e-3)
        assert watch.seen == []
        assert len(losses) == len(batch)
        # a graph would hold what checkpointed blocks were given, for each micro-batch
        assert not any(loss.total.requires_grad for loss in losses)
        assert any(
            not torch.equal(p, b) for p, b in zip(job.root.parameters(), before, strict=True)
        )


@pytest.mark.parametrize(
    "asks",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.any()),
        lambda x: x[x > 1],
        lambda x: x.nonzero(),
    ],
)
def test_the_watch_notices(asks: Any) -> None:
    with Watch() as watch:
        asks(torch.arange(3))
    assert watch.seen


def test_a_request_to_stop_is_seen_one_step_later() -> None:
    asked = False
    totals = Totals(World(device=CPU), lambda: asked)
    assert not totals.stopping()
    asked = True
    assert not totals.stopping()  # the others do not know yet
    totals.denominator([NOTHING])
    assert totals.stopping()


def test_a_later_number_is_what_it_was() -> None:
    value = torch.tensor(2.0)
    later = Later(value)
    assert later.read() == 2.0
