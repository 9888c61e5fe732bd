"""What does not fit together between the tables of a recipe that are each right by themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import attrs

from mdmkit.problems import Path, Problem, found

if TYPE_CHECKING:
    from mdmkit.recipe import Recipe

_COMPONENTS = (
    "denoiser",
    "noise_schedule",
    "time_sampler",
    "mask_pattern",
    "loss_weighting",
    "objective",
    "sampler",
)
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def cross_problems(recipe: Recipe) -> Iterator[Problem]:
    """Everything that does not fit together, and what components themselves object to.

    A component, tokenizer or packing that has ``check(recipe)`` (`mdmkit.protocols.Checked`)
    may object to the rest of the recipe.
    """
    yield from _denoiser_problems(recipe)
    yield from _batch_problems(recipe)
    yield from _generation_problems(recipe)
    yield from _learning_rate_problems(recipe)
    yield from _label_problems(recipe)
    for path, component in _components(recipe):
        if hasattr(component, "check"):
            for message in component.check(recipe):
                yield _objection(message, path, component)


def _objection(message: str, path: Path, component: Any) -> Problem:
    """A component's own objection; ``option: …`` blames that option, other words the table."""
    option, _, rest = message.partition(": ")
    if rest and option in {field.name for field in attrs.fields(type(component))}:
        return Problem(path=(*path, option), message=rest)
    return Problem(path=path, message=message, table=True)


def _denoiser_problems(recipe: Recipe) -> Iterator[Problem]:
    denoiser, length = recipe.denoiser, recipe.data.length
    if length % denoiser.length_multiple:
        nearest = max(round(length / denoiser.length_multiple), 1) * denoiser.length_multiple
        yield Problem(
            path=("data", "length"),
            message=f"the denoiser needs a multiple of {denoiser.length_multiple}, got {length}; "
            f"{nearest} is the nearest",
        )
    for path, component in _components(recipe):
        needs: frozenset[str] = getattr(component, "needs", frozenset())
        missing = needs - denoiser.supports
        if missing:
            supported = ", ".join(sorted(denoiser.supports)) or "nothing"
            yield Problem(
                path=path,
                table=True,
                message=f"needs a denoiser that supports {', '.join(sorted(missing))}; this one "
                f"supports {supported}",
            )


def _batch_problems(recipe: Recipe) -> Iterator[Problem]:
    train = recipe.train
    micro = train.micro_batch_size or train.global_batch_size
    if train.global_batch_size % micro:
        yield Problem(
            path=("train", "micro_batch_size"),
            message=f"expected a divisor of global_batch_size ({train.global_batch_size}), "
            f"got {micro}",
        )
    # A pattern that is built from facts of the run may not know its group before.
    group = getattr(recipe.mask_pattern, "group", 1)
    if micro % group:
        key = "global_batch_size" if train.micro_batch_size is None else "micro_batch_size"
        yield Problem(
            path=("train", key),
            message=f"expected a multiple of {group}, because the mask pattern makes {group} rows "
            f"of each sequence; got {micro}",
        )


def _generation_problems(recipe: Recipe) -> Iterator[Problem]:
    trained, driven = recipe.objective.prediction, recipe.sampler.prediction
    if trained != driven:
        yield Problem(
            path=("sampler",),
            table=True,
            message=f'drives a network whose prediction is "{driven}", but the objective trains '
            f'one whose prediction is "{trained}"; choose another sampler or objective with use',
        )


def _learning_rate_problems(recipe: Recipe) -> Iterator[Problem]:
    warmup, steps = recipe.learning_rate.warmup_steps, recipe.train.steps
    if warmup > steps:
        yield Problem(
            path=("learning_rate", "warmup_steps"),
            message=f"expected at most the {steps} steps of the run, got {warmup}",
        )


def _label_problems(recipe: Recipe) -> Iterator[Problem]:
    for table in ("evaluators", "trackers"):
        for label in getattr(recipe, table):
            if not LABEL.fullmatch(label):
                yield Problem(
                    path=(table, label),
                    table=True,
                    message="a label names files: expected letters, digits and . _ -, with a "
                    f"letter or digit first; got {found(label)}",
                )


def _components(recipe: Recipe) -> Iterator[tuple[Path, Any]]:
    """Every component of a recipe and its table, those inside of others too."""
    for name in ("corpus", "tokenizer", "packing"):
        yield from _nested(("data", name), getattr(recipe.data, name))
    for name in _COMPONENTS:
        yield from _nested((name,), getattr(recipe, name))
    for table in ("evaluators", "trackers"):
        for label, component in getattr(recipe, table).items():
            yield from _nested((table, label), component)


def _nested(path: Path, component: Any) -> Iterator[tuple[Path, Any]]:
    yield path, component
    for field in attrs.fields(type(component)):
        value = getattr(component, field.name)
        if attrs.has(type(value)):
            yield from _nested((*path, field.name), value)
