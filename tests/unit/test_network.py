from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from attrs import evolve, frozen
from torch import nn

from mdmkit.builtin.denoisers import Dit
from mdmkit.builtin.mask_patterns import Independent
from mdmkit.builtin.objectives import MaskedDiffusion
from mdmkit.builtin.schedules import Linear
from mdmkit.builtin.time_samplers import Uniform
from mdmkit.builtin.weightings import Flat
from mdmkit.network import InferenceCall, Root, bring_to_life, build_root, choose_device, seeded
from mdmkit.testing import run_facts
from mdmkit.values import Vocabulary

CPU = torch.device("cpu")
VOCAB = Vocabulary(size=11, mask_id=10)


def recipe(seed: int = 1, **parts: Any) -> Any:
    """As much of a recipe as the network needs."""
    usual = {
        "run": SimpleNamespace(seed=seed),
        "train": SimpleNamespace(precision="fp32"),
        "denoiser": Dit(width=8, depth=1, heads=2, conditioning_width=8, tied=True),
        "noise_schedule": Linear(),
        "time_sampler": Uniform(),
        "mask_pattern": Independent(),
        "loss_weighting": Flat(),
        "objective": MaskedDiffusion(),
    }
    return SimpleNamespace(**{**usual, **parts})


def weights(root: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in root.parameters()])


def test_initial_weights_are_a_function_of_the_seed() -> None:
    one, again, other = (build_root(recipe(seed), VOCAB, CPU) for seed in (1, 1, 2))
    assert torch.equal(weights(one), weights(again))
    assert not torch.equal(weights(one), weights(other))


def test_building_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    build_root(recipe(), VOCAB, CPU)
    assert torch.equal(before, torch.get_rng_state())


def test_seeded_puts_the_generator_back_even_after_an_error() -> None:
    before = torch.get_rng_state()

    def fail() -> None:
        with seeded(CPU, 1, "dropout"):
            torch.rand(3)
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("training", [True, False])
def test_an_inference_call_puts_the_mode_back(training: bool) -> None:
    root = Root(nn.Dropout(0.5)).train(training)
    seen = []

    def look(denoiser: Any) -> torch.Tensor:
        seen.append((denoiser.training, torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")))
        return torch.ones(1)

    for precision in ("fp32", "bf16"):
        InferenceCall(root, CPU, precision)(look)
        assert root.training is root.denoiser.training is training
    assert seen == [(False, False, False), (False, False, True)]


def test_an_inference_call_puts_the_mode_back_after_an_error() -> None:
    root = Root(nn.Dropout(0.5)).train()

    def fail(denoiser: Any) -> torch.Tensor:
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        InferenceCall(root, CPU, "fp32")(fail)
    assert root.training
    assert torch.is_grad_enabled()


def test_components_that_need_facts_are_built_and_the_stateful_ones_found() -> None:
    class Live:
        def __init__(self, length: int) -> None:
            self.length = length

        def state_dict(self) -> dict[str, Any]:
            return {}

        def load_state_dict(self, state: dict[str, Any]) -> None: ...

    @frozen(kw_only=True)
    class Adapts:
        def build(self, facts: Any) -> Live:
            return Live(facts.length)

    live = bring_to_life(recipe(time_sampler=Adapts()), run_facts(length=24))
    assert isinstance(live.time_sampler, Live)
    assert live.time_sampler.length == 24
    assert set(live.stateful) == {"time_sampler"}
    assert live.objective.context.time_sampler is live.time_sampler  # type: ignore[attr-defined]
    assert isinstance(live.noise_schedule, Linear)


def test_components_are_told_of_the_live_schedule() -> None:
    @frozen(kw_only=True)
    class Scheduled:
        def build(self, facts: Any) -> Any:
            return SimpleNamespace(normalizer="tokens", seen=facts.schedule())

    @frozen(kw_only=True)
    class Made:
        def build(self, facts: Any) -> Any:
            with pytest.raises(LookupError, match="without knowing itself"):
                facts.schedule()
            return Linear(eps=0.5)

    facts = evolve(run_facts(), noise_schedule=None)
    live = bring_to_life(recipe(noise_schedule=Made(), loss_weighting=Scheduled()), facts)
    context = live.objective.context  # type: ignore[attr-defined]
    assert context.loss_weighting.seen is live.noise_schedule
    assert live.noise_schedule == Linear(eps=0.5)


def test_a_device_by_name() -> None:
    assert choose_device("cpu") == CPU
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert choose_device("auto").type == expected
