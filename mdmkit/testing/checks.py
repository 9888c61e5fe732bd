"""The check of each hook's components, and the one for any of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mdmkit.testing.masks import check_mask_pattern
from mdmkit.testing.networks import check_denoiser
from mdmkit.testing.noise import check_noise_schedule, check_time_sampler
from mdmkit.testing.objectives import check_objective
from mdmkit.testing.options import check_options
from mdmkit.testing.samplers import check_sampler
from mdmkit.testing.surroundings import check_corpus, check_evaluator, check_tracker
from mdmkit.testing.weightings import check_loss_weighting

CHECKS: Mapping[str, Callable[..., None]] = {
    "mdmkit_denoisers": check_denoiser,
    "mdmkit_noise_schedules": check_noise_schedule,
    "mdmkit_time_samplers": check_time_sampler,
    "mdmkit_mask_patterns": check_mask_pattern,
    "mdmkit_loss_weightings": check_loss_weighting,
    "mdmkit_objectives": check_objective,
    "mdmkit_samplers": check_sampler,
    "mdmkit_evaluators": check_evaluator,
    "mdmkit_corpora": check_corpus,
    "mdmkit_trackers": check_tracker,
}
"""The check of each hook's components, by the hook's name."""


def check_component(hook: str, component: Any, **settings: Any) -> None:
    """Check a component of `hook` and the options class it is of.

    Args:
        hook: such as ``mdmkit_time_samplers``.
        component: an instance of the options class.
        settings: arguments of the hook's own check, such as ``splits`` for a corpus.

    Raises:
        ContractError: naming the clause that does not hold.
    """
    check_options(type(component))
    CHECKS[hook](component, **settings)
