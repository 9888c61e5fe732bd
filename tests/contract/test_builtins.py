from __future__ import annotations

import math
from importlib import import_module
from typing import Any

import pytest
from attrs import evolve

from mdmkit.builtin import weightings
from mdmkit.builtin.annealing import Annealing
from mdmkit.builtin.corpora import mdmkit_corpora
from mdmkit.builtin.denoisers import Dit, Transformer
from mdmkit.builtin.evaluators import (
    Duel,
    FewStep,
    GenerativePerplexity,
    LastWord,
    Mauve,
    MultipleChoice,
    Nelbo,
    analysis,
)
from mdmkit.builtin.mask_patterns import (
    BlueNoise,
    Clustered,
    Complementary,
    ExactCount,
    Independent,
    Mirrored,
)
from mdmkit.builtin.objectives import AnyOrder, Autoregressive, MaskedDiffusion, MixedCausal
from mdmkit.builtin.samplers import (
    Ancestral,
    AnyOrderSampler,
    AutoregressiveSampler,
    Cached,
    Confidence,
    FirstHitting,
    Remask,
    SemiAutoregressive,
)
from mdmkit.builtin.schedules import Cosine, Geometric, Linear, Polynomial
from mdmkit.builtin.time_samplers import (
    Annealed,
    Bell,
    Beta,
    Clipped,
    InformationRate,
    LogitNormal,
    LossAdaptive,
    Mixture,
    Uniform,
    Window,
)
from mdmkit.builtin.trackers import Jsonl, TensorBoard
from mdmkit.builtin.weightings import (
    Elbo,
    Flat,
    InverseT,
    Locality,
    Power,
    Sigmoid,
)
from mdmkit.testing import CHECKS, check_all, check_component, objective_context, run_facts
from mdmkit.values import Vocabulary

MODULES = {
    "mdmkit_denoisers": "mdmkit.builtin.denoisers",
    "mdmkit_noise_schedules": "mdmkit.builtin.schedules",
    "mdmkit_time_samplers": "mdmkit.builtin.time_samplers",
    "mdmkit_mask_patterns": "mdmkit.builtin.mask_patterns",
    "mdmkit_loss_weightings": "mdmkit.builtin.weightings",
    "mdmkit_objectives": "mdmkit.builtin.objectives",
    "mdmkit_samplers": "mdmkit.builtin.samplers",
    "mdmkit_evaluators": "mdmkit.builtin.evaluators",
    "mdmkit_corpora": "mdmkit.builtin.corpora",
    "mdmkit_trackers": "mdmkit.builtin.trackers",
}


def builtins() -> list[tuple[str, str, type]]:
    """(hook, name, class) of every component that the built-in modules return."""
    return [
        (hook, name, cls)
        for hook, module in MODULES.items()
        for name, cls in getattr(import_module(module), hook)().items()
    ]


SMALL: dict[str, Any] = {"width": 16, "depth": 2, "heads": 2, "conditioning_width": 8}

CONFIGURATIONS: dict[str, list[tuple[Any, dict[str, Any]]]] = {
    "mdmkit_denoisers": [
        (Dit(**SMALL), {}),
        (Dit(**SMALL, adaln=False), {}),
        (Dit(**SMALL, time_conditioning=True), {}),
        (Dit(**SMALL, tied=True), {}),
        (Dit(**SMALL, dropout=0.3, mlp_ratio=2), {"length": 7}),
        (Transformer(width=16, depth=2, heads=2), {}),
        (
            Transformer(width=16, depth=2, heads=2, mlp="relu2", tied=False, dropout=0.3),
            {"length": 7},
        ),
    ],
    "mdmkit_noise_schedules": [
        (Linear(), {}),
        (Linear(eps=1e-3), {"ends": (1.0, 1e-3)}),
        (Cosine(), {}),
        (Polynomial(), {}),
        (Polynomial(power=0.2), {}),
        (Polynomial(power=1.0), {}),
        (Polynomial(power=5.0), {}),
        (Geometric(), {"ends": (math.exp(-1e-5), math.exp(-20.0))}),
        (Geometric(sigma_min=1e-9, sigma_max=100.0), {"ends": (1 - 1e-9, 0.0)}),
        (Geometric(sigma_min=1.0, sigma_max=1.5), {"ends": (math.exp(-1.0), math.exp(-1.5))}),
    ],
    "mdmkit_time_samplers": [
        (Uniform(), {}),
        (Uniform(eps=1e-3), {}),
        (Uniform(eps=0.4), {}),
        (Bell(), {}),
        (Bell(floor=0.1), {}),
        (Bell(floor=1.0), {}),
        (Bell(centre=0.5, width=0.01), {}),
        (Bell(centre=0.0, width=0.05), {}),
        (Bell(centre=1.0, width=0.05, floor=0.5), {}),
        (Bell(centre=0.3, width=20.0), {}),
        (Beta(), {}),
        (Beta(a=0.5, b=3.3), {}),
        (Beta(a=1.0, b=1.0), {}),
        (Beta(a=300.0, b=40.0), {}),
        (LogitNormal(), {}),
        (LogitNormal(mean=-1.0, std=2.5), {}),
        (Window(), {}),
        (Window(low=0.0, high=1.0), {}),
        (Window(low=0.2, high=0.9), {}),
        (InformationRate(), {}),
        (InformationRate(warmup=0), {}),
        (InformationRate(warmup=1, bins=7, memory=1.0, prior=1.0, floor=0.5), {}),
        (LossAdaptive(), {}),
        (LossAdaptive(warmup=0), {}),
        (LossAdaptive(warmup=1, bins=5, memory=1.0, floor=0.3), {}),
        (Clipped(), {}),
        (Clipped(low=0.3, high=0.8), {}),
        (Mixture(first=Bell(width=0.1), second=Uniform(), share=0.2), {}),
        (Mixture(first=Window(low=0.1, high=0.2), second=Window(low=0.7, high=0.9)), {}),
        (Mixture(first=InformationRate(warmup=0), second=Beta(a=0.5, b=0.5)), {}),
        (Annealed(start=Bell(), end=Uniform()), {"steps": (0, 1, 50, 98, 99, 1000)}),
        (
            Annealed(
                start=LossAdaptive(warmup=0),
                end=Mixture(first=Window(), second=LogitNormal(), share=0.9),
                anneal=Annealing(begin=0.0, end=0.1),
            ),
            {"steps": (0, 1, 5, 20)},
        ),
    ],
    "mdmkit_mask_patterns": [
        (Independent(), {}),
        (ExactCount(), {}),
        (ExactCount(rounding="up"), {}),
        (BlueNoise(), {}),
        (BlueNoise(share=1.0, final_share=0.0), {}),
        (BlueNoise(share=0.0), {}),
        (Complementary(), {}),
        (Mirrored(), {}),
        (Clustered(), {}),
        (Clustered(mean_run=2.0), {}),
    ],
    "mdmkit_loss_weightings": [
        (Elbo(), {}),
        (Elbo(estimator="rao_blackwell"), {}),
        (Elbo(estimator="count", normalizer="weights"), {}),
        (InverseT(), {}),
        (InverseT(normalizer="weights"), {}),
        (Flat(), {}),
        (Flat(normalizer="sequence"), {}),
        (Flat(normalizer="tokens"), {}),
        *((Power(exponent=k), {}) for k in (-1.0, -0.5, 4.0)),
        (Power(of="t", normalizer="weights"), {}),
        (weightings.Clipped(), {}),
        (weightings.Clipped(min_weight=2.0, max_weight=3.0), {}),
        *((Sigmoid(bias=b), {}) for b in (-20.0, 0.0, 20.0)),
        (Locality(), {}),
        (Locality(scale=1e-3, final=0.0), {}),
        (Locality(decay="power", start=0.5, normalizer="masked"), {}),
        (weightings.Annealed(bell=Bell()), {}),
        (weightings.Annealed(bell=Bell(width=0.01), final=0.0), {}),
        (
            weightings.Annealed(
                bell=Bell(floor=0.1), start=0.5, anneal=Annealing(), max_weight=5.0
            ),
            {},
        ),
    ],
    "mdmkit_objectives": [
        *((MaskedDiffusion(stratification=kind), {}) for kind in ("iid", "jittered")),
        *((MaskedDiffusion(stratification=kind), {}) for kind in ("offset", "mirrored")),
        (Autoregressive(), {}),
        (AnyOrder(order="fixed", seed=1), {}),
        (AnyOrder(order="left_to_right", target_share=0.5), {}),
        (MixedCausal(), {}),
        (MixedCausal(share=0.0), {}),
        (MixedCausal(share=1.0, final_share=1.0, causal_weight=0.5), {}),
    ],
    "mdmkit_samplers": [
        (Ancestral(), {}),
        (Ancestral(steps=1), {}),
        (Ancestral(steps=5, temperature=0.5), {"noise_schedule": Cosine()}),
        (Ancestral(steps=2, min_steps=7, top_k=3, draws="float32"), {}),
        (Cached(), {}),
        (Cached(steps=5, rows=False, top_p=0.5, temperature=0), {}),
        (FirstHitting(), {}),
        (FirstHitting(tokens_per_call=3, min_steps=6), {"noise_schedule": Cosine()}),
        (Confidence(), {}),
        (Confidence(steps=3, score="drawn", noise=4.5), {"noise_schedule": Cosine()}),
        (Confidence(steps=4, min_steps=7, eos="stop"), {}),
        (Confidence(score="margin", rule="threshold", threshold=0.2), {}),
        (Confidence(score="entropy", rule="entropy_bounded", gamma=1.5), {}),
        (SemiAutoregressive(sampler=Cached(steps=5), block_length=5), {}),
        (SemiAutoregressive(sampler=Confidence(steps=2, eos="stop"), block_length=6), {}),
        (SemiAutoregressive(sampler=FirstHitting(eos="stop"), block_length=4), {}),
        (SemiAutoregressive(sampler=Remask(steps=3, eta=0.5), block_length=32), {}),
        (SemiAutoregressive(sampler=SemiAutoregressive(sampler=Ancestral(steps=2))), {}),
        *((Remask(steps=20, strategy=name), {}) for name in ("cap", "conf", "loop")),
        (Remask(steps=8, strategy="rescale", eta=0.7, min_steps=10), {"noise_schedule": Cosine()}),
        (Remask(steps=6, eta=1.0, eos="stop"), {"noise_schedule": Linear(eps=1e-3)}),
        (AutoregressiveSampler(), {}),
        (AnyOrderSampler(order="fixed", eos="stop"), {}),
    ],
    "mdmkit_evaluators": [
        (Nelbo(), {}),
        (Nelbo(draws=3), {}),
        (Nelbo(split="test", blocks=5), {}),
        *((Nelbo(estimator=name, draws=2), {}) for name in ("count", "pairs", "time")),
        (Nelbo(precision=0.05), {}),
        (Duel(), {}),
        *((Duel(order=order), {}) for order in ("confidence", "entropy", "left_to_right")),
        (Duel(tokens_per_step=5), {}),
        (FewStep(), {}),
        (FewStep(blocks=5, points=3, steps=(2,), direct=(1, 3)), {}),
        (analysis.ContextAllocation(batches=3), {}),
        (analysis.Gradient(split="validation", batches=3, rows=3, reference=1, bins=1), {}),
        (analysis.Locality(targets=2, share=0.4), {}),
        (analysis.LossByMaskRatio(blocks=0, points=3), {}),
        (analysis.MutualInformation(types=3), {}),
    ],
}
# by hook: components and the settings of their check, more than their modules give as examples;
# corpora, trackers and some evaluators need files or a judge, which theirs make or name

NEED_FILES = {
    *mdmkit_corpora().values(),
    *(Jsonl, TensorBoard, MultipleChoice, LastWord, GenerativePerplexity, Mauve),
}

CASES = [
    pytest.param(hook, component, settings, id=f"{hook}-{component}")
    for hook, cases in CONFIGURATIONS.items()
    for component, settings in cases
]


def test_every_hook_has_a_check_and_built_in_components() -> None:
    assert set(CHECKS) == set(MODULES) == {hook for hook, _, _ in builtins()}


def test_no_built_in_component_goes_unchecked() -> None:
    checked = {type(case[0]) for cases in CONFIGURATIONS.values() for case in cases}
    assert {cls for _, _, cls in builtins()} == checked | NEED_FILES


@pytest.mark.parametrize("module", MODULES.values())
def test_everything_that_a_module_registers(module: str) -> None:
    """With the examples that the module gives: `pytest --mdmkit-contract mdmkit` does the same."""
    check_all(module)


@pytest.mark.parametrize(("hook", "component", "settings"), CASES)
def test_component(hook: str, component: Any, settings: dict[str, Any]) -> None:
    check_component(hook, component, **settings)


@pytest.mark.parametrize(
    "parts",
    [
        {"time_sampler": Bell(), "loss_weighting": Flat()},
        {"time_sampler": Bell(floor=0.2), "loss_weighting": Flat(normalizer="sequence")},
        {"noise_schedule": Cosine(), "loss_weighting": Elbo(normalizer="weights")},
        {"mask_pattern": Complementary(), "noise_schedule": Cosine()},
        {"mask_pattern": Mirrored()},
        {"loss_weighting": Locality().build(run_facts())},
        {"mask_pattern": ExactCount(), "loss_weighting": Flat(normalizer="tokens")},
        {
            "mask_pattern": ExactCount(rounding="up"),
            "loss_weighting": Elbo(estimator="count"),
        },
    ],
)
def test_masked_diffusion_of_other_parts(parts: dict[str, Any]) -> None:
    CHECKS["mdmkit_objectives"](MaskedDiffusion(), context=evolve(objective_context(), **parts))


@pytest.mark.parametrize(
    "parts",
    [
        {"time_sampler": Bell(floor=0.2), "loss_weighting": Flat(normalizer="sequence")},
        {"mask_pattern": Complementary(), "loss_weighting": Elbo(normalizer="weights")},
    ],
)
def test_mixed_causal_of_other_parts(parts: dict[str, Any]) -> None:
    context = evolve(objective_context(), **parts)
    CHECKS["mdmkit_objectives"](MixedCausal(causal_weight=2.0), context=context)


def test_autoregressive_without_bos_or_eos() -> None:
    context = evolve(objective_context(), vocab=Vocabulary(size=7, mask_id=2))
    CHECKS["mdmkit_objectives"](Autoregressive(), context=context)
