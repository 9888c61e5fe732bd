"""Contract checks that a plugin author runs against components.

Without a line of test code, everything that an installed distribution registers::

    pytest --mdmkit-contract mdmkit-yourplugin

In a test, one component, or all that a module registers::

    from mdmkit.testing import check_all, check_component

    def test_triangle_keeps_its_contract():
        check_component("mdmkit_time_samplers", Triangle(power=0.5))

    def test_everything_keeps_its_contract():
        check_all("my_triangle")

Each extension point has a check of its own, and `check_options` is for the options class of any of
them. A check calls the component as the program would, at fixed seeds, and raises `ContractError`,
an `AssertionError` that names the clause of the contract and the numbers. It needs no test runner.
What a check tries is what `mdmkit.hookspecs` states; passing is evidence, not proof.

The names are imported on first use: pytest imports this package at every start.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdmkit.testing.cases import Case, contract_cases
    from mdmkit.testing.checks import CHECKS, check_component
    from mdmkit.testing.errors import Contract, ContractError, ContractsError
    from mdmkit.testing.evaluation import evaluation_context
    from mdmkit.testing.facts import (
        HashDenoiser,
        UniformDenoiser,
        objective_context,
        random_batch,
        run_facts,
    )
    from mdmkit.testing.masks import check_mask_pattern
    from mdmkit.testing.modules import check_all
    from mdmkit.testing.networks import check_denoiser, randomize
    from mdmkit.testing.noise import check_noise_schedule, check_time_sampler
    from mdmkit.testing.objectives import check_objective
    from mdmkit.testing.options import check_options
    from mdmkit.testing.samplers import check_sampler
    from mdmkit.testing.surroundings import (
        check_corpus,
        check_evaluator,
        check_tracker,
    )
    from mdmkit.testing.weightings import check_loss_weighting

__all__ = [
    "CHECKS",
    "Case",
    "Contract",
    "ContractError",
    "ContractsError",
    "HashDenoiser",
    "UniformDenoiser",
    "check_all",
    "check_component",
    "check_corpus",
    "check_denoiser",
    "check_evaluator",
    "check_loss_weighting",
    "check_mask_pattern",
    "check_noise_schedule",
    "check_objective",
    "check_options",
    "check_sampler",
    "check_time_sampler",
    "check_tracker",
    "contract_cases",
    "evaluation_context",
    "objective_context",
    "random_batch",
    "randomize",
    "run_facts",
]

_HOME = {
    "CHECKS": "checks",
    "Case": "cases",
    "Contract": "errors",
    "ContractError": "errors",
    "ContractsError": "errors",
    "HashDenoiser": "facts",
    "UniformDenoiser": "facts",
    "check_all": "modules",
    "check_component": "checks",
    "check_corpus": "surroundings",
    "check_denoiser": "networks",
    "check_evaluator": "surroundings",
    "check_loss_weighting": "weightings",
    "check_mask_pattern": "masks",
    "check_noise_schedule": "noise",
    "check_objective": "objectives",
    "check_options": "options",
    "check_sampler": "samplers",
    "check_time_sampler": "noise",
    "check_tracker": "surroundings",
    "contract_cases": "cases",
    "evaluation_context": "evaluation",
    "objective_context": "facts",
    "random_batch": "facts",
    "randomize": "networks",
    "run_facts": "facts",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        found = globals()[name] = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
