from __future__ import annotations

import pytest
import torch
from torch import nn

from mdmkit.recipe import Optimizer
from mdmkit.training.optimizer import (
    clip_gradients,
    make_optimizer,
    step_where_finite,
)


def network() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def test_one_step_is_adamw_by_hand() -> None:
    module = network()
    before = module.weight.detach().clone()
    optimizer = make_optimizer(module.parameters(), Optimizer(weight_decay=0.1, eps=1e-8))
    gradient = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]])
    module.weight.grad, module.bias.grad = gradient.clone(), torch.zeros(2)
    step_where_finite(optimizer, torch.tensor(True), 0.01)
    # First step: both bias-corrected means are the gradient (its square), so the move is its sign.
    expected = before * (1 - 0.01 * 0.1) - 0.01 * gradient / (gradient.abs() + 1e-8)
    torch.testing.assert_close(module.weight.detach(), expected)


def test_weight_decay_leaves_biases_alone() -> None:
    module = network()
    bias = module.bias.detach().clone()
    optimizer = make_optimizer(module.parameters(), Optimizer(weight_decay=0.5))
    module.weight.grad, module.bias.grad = torch.zeros(2, 3), torch.zeros(2)
    step_where_finite(optimizer, torch.tensor(True), 0.1)
    torch.testing.assert_close(module.bias.detach(), bias)


def test_a_step_that_is_not_finite_changes_nothing() -> None:
    module = network()
    optimizer = make_optimizer(module.parameters(), Optimizer(weight_decay=0.1))
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    step_where_finite(optimizer, torch.tensor(True), 0.01)
    weights = [p.detach().clone() for p in module.parameters()]
    moments = [t.clone() for p in module.parameters() for t in optimizer.state[p].values()]
    for parameter in module.parameters():
        parameter.grad = torch.full_like(parameter, torch.nan)
    step_where_finite(optimizer, torch.tensor(False), 0.01)
    for parameter, weight in zip(module.parameters(), weights, strict=True):
        assert torch.equal(parameter.detach(), weight)
    after = [t for p in module.parameters() for t in optimizer.state[p].values()]
    assert all(torch.equal(a, b) for a, b in zip(after, moments, strict=True))


@pytest.mark.parametrize("clip", [0.0, 0.5, 100.0])
def test_clipping_scales_to_the_norm_and_returns_what_it_was(clip: float) -> None:
    module = network()
    for parameter in module.parameters():
        parameter.grad = torch.full_like(parameter, 2.0)
    norm = clip_gradients(module.parameters(), clip)
    expected = 2.0 * 8**0.5  # eight entries of 2
    assert norm.item() == pytest.approx(expected)
    after = torch.cat([p.grad.flatten() for p in module.parameters()]).norm().item()
    assert after == pytest.approx(min(expected, clip) if clip else expected, rel=1e-5)


def test_the_norm_of_narrow_gradients_is_taken_in_float32() -> None:
    torch.manual_seed(0)
    parameter = nn.Parameter(torch.zeros(1000, dtype=torch.bfloat16))
    parameter.grad = torch.randn(1000).bfloat16()
    wanted = parameter.grad.double().norm()
    norm = clip_gradients([parameter], 1.0)
    assert norm.dtype == torch.float32
    assert norm.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert parameter.grad.double().norm().item() == pytest.approx(1.0, rel=5e-3)
