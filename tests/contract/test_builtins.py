from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from attrs import evolve

from mdmkit.builtin.corpora import Hub, Lm1b, StateOfTheUnion, Text
from mdmkit.builtin.denoisers import Dit
from mdmkit.builtin.evaluators import Nelbo
from mdmkit.builtin.mask_patterns import ExactCount, Independent
from mdmkit.builtin.objectives import Autoregressive, MaskedDiffusion
from mdmkit.builtin.samplers import Ancestral, AutoregressiveSampler
from mdmkit.builtin.schedules import Cosine, Linear
from mdmkit.builtin.time_samplers import Bell, Uniform
from mdmkit.builtin.trackers import Jsonl
from mdmkit.builtin.weightings import Elbo, Flat, InverseT
from mdmkit.testing import CHECKS, check_all, check_component, objective_context
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
    ],
    "mdmkit_noise_schedules": [
        (Linear(), {}),
        (Linear(eps=1e-3), {"ends": (1.0, 1e-3)}),
        (Cosine(), {}),
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
    ],
    "mdmkit_mask_patterns": [
        (Independent(), {}),
        (ExactCount(), {}),
        (ExactCount(rounding="up"), {}),
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
    ],
    "mdmkit_objectives": [
        *((MaskedDiffusion(stratification=kind), {}) for kind in ("iid", "jittered")),
        *((MaskedDiffusion(stratification=kind), {}) for kind in ("offset", "mirrored")),
        (Autoregressive(), {}),
    ],
    "mdmkit_samplers": [
        (Ancestral(), {}),
        (Ancestral(steps=1), {}),
        (Ancestral(steps=5, temperature=0.5), {"noise_schedule": Cosine()}),
        (AutoregressiveSampler(), {}),
    ],
    "mdmkit_evaluators": [
        (Nelbo(), {}),
        (Nelbo(draws=3), {}),
        (Nelbo(split="test", blocks=5), {}),
    ],
}
# by hook: components and the settings of their check, more than their modules give as examples;
# corpora and trackers need files, which theirs make

NEED_FILES = {StateOfTheUnion, Text, Hub, Lm1b, Jsonl}

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
        {"mask_pattern": ExactCount(), "loss_weighting": Flat(normalizer="tokens")},
        {
            "mask_pattern": ExactCount(rounding="up"),
            "loss_weighting": Elbo(estimator="count"),
        },
    ],
)
def test_masked_diffusion_of_other_parts(parts: dict[str, Any]) -> None:
    CHECKS["mdmkit_objectives"](MaskedDiffusion(), context=evolve(objective_context(), **parts))


def test_autoregressive_without_bos_or_eos() -> None:
    context = evolve(objective_context(), vocab=Vocabulary(size=7, mask_id=2))
    CHECKS["mdmkit_objectives"](Autoregressive(), context=context)
