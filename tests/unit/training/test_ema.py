from __future__ import annotations

import pytest
import torch
from torch import nn

from mdmkit.training.ema import Ema, ema_decay


def test_warm_up_values() -> None:
    assert ema_decay(1, 0.9999) == pytest.approx(0.181818, abs=1e-6)
    assert ema_decay(10**7, 0.9999) == 0.9999


def test_average_follows_the_recurrence() -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, 1.0)
    ema = Ema(module, 0.5)
    expected = 1.0
    for step, value in enumerate([3.0, -1.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0]):
        nn.init.constant_(module.weight, value)
        ema.update(step, torch.tensor(True))
        decay = min(0.5, (2 + step) / (11 + step))
        expected = decay * expected + (1 - decay) * value
    assert ema.average["weight"].item() == pytest.approx(expected, rel=1e-6)


def test_a_skipped_step_leaves_the_average() -> None:
    module = nn.Linear(2, 2)
    ema = Ema(module, 0.9)
    before = ema.average["weight"].clone()
    nn.init.constant_(module.weight, 7.0)
    ema.update(0, torch.tensor(False))
    assert torch.equal(ema.average["weight"], before)


def test_applied_swaps_and_restores_even_after_an_error() -> None:
    module = nn.Linear(2, 2)
    ema = Ema(module, 0.9)
    nn.init.constant_(module.weight, 7.0)
    seen: list[torch.Tensor] = []

    def fail() -> None:
        with ema.applied():
            seen.append(module.weight.detach().clone())
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert torch.equal(seen[0], ema.average["weight"])
    assert torch.equal(module.weight.detach(), torch.full((2, 2), 7.0))


def test_no_average_without_a_decay() -> None:
    ema = Ema(nn.Linear(2, 2), 0.0)
    assert not ema.active
    assert ema.average == {}
    with ema.applied():
        ema.update(0, torch.tensor(True))
