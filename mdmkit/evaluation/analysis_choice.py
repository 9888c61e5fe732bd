"""Which analyses of which checkpoints are meant, and which of them can be made."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs

from mdmkit.errors import MdmkitError, RecipeError
from mdmkit.plugins import Catalogue
from mdmkit.protocols import Evaluator
from mdmkit.recipe import Recipe
from mdmkit.recipe_files import parse_overrides
from mdmkit.suggest import did_you_mean
from mdmkit.training.checkpoint import steps_on_disk


def analyses_of(catalogue: Catalogue) -> dict[str, type]:
    """The evaluators that are analyses, by name."""
    found = catalogue.of("mdmkit_evaluators").items()
    return {name: c.cls for name, c in found if hasattr(c.cls, "subject")}


def analyses_as_evaluators(
    only: Sequence[str], overrides: Sequence[str], catalogue: Catalogue
) -> list[str]:
    """Overrides that name analyses as evaluators, and then `overrides`.

    Args:
        only: names or patterns; without any, all that need no option, and those in `overrides`.
        overrides: of the user.
        catalogue: the components there are.

    Raises:
        RecipeError: where `only` fits none.
    """
    known = analyses_of(catalogue)
    named = [
        name for name in parse_overrides(overrides).data.get("evaluators", {}) if name in known
    ]
    names = [name for name, cls in known.items() if not _needs_options(cls) or name in named]
    if only:
        names = [name for pattern in only for name in _fitting(pattern, known)]
    return [*(f'evaluators.{name}.use="{name}"' for name in dict.fromkeys(names)), *overrides]


def _fitting(pattern: str, known: Mapping[str, type]) -> list[str]:
    fitting = fnmatch.filter(known, pattern)
    if not fitting:
        raise RecipeError(
            f'--only: no analysis "{pattern}"{did_you_mean(pattern, known)}; known: '
            f"{', '.join(sorted(known)) or 'none'}"
        )
    return fitting


def _needs_options(cls: type) -> bool:
    return any(field.init and field.default is attrs.NOTHING for field in attrs.fields(cls))


def chosen_analyses(
    recipe: Recipe,
    overrides: Sequence[str],
    *,
    trained: bool,
    notify: Callable[[str], None],
) -> dict[str, Evaluator]:
    """The analyses among the evaluators of the recipe that can be made.

    Args:
        recipe: with `overrides` laid over it.
        overrides: from `analyses_as_evaluators`; what they do not name is the recipe's own.
        trained: whether there is a network.
        notify: is told what is left out.

    Raises:
        RecipeError: where there is none.
    """
    named = parse_overrides(overrides).data.get("evaluators", {})
    chosen, left_out = {}, []
    for label, evaluator in recipe.evaluators.items():
        if "use" not in named.get(label, {}) or not hasattr(evaluator, "subject"):
            continue
        applies = getattr(evaluator, "applies", None)
        if applies is not None and not applies(recipe):
            left_out.append(f"{label}: is not for runs of this objective")
        elif not trained and subject(evaluator) == "network":
            left_out.append(f"{label}: needs a trained network; give a run")
        else:
            chosen[label] = evaluator
    if not chosen:
        raise RecipeError("no analysis is left:\n" + "\n".join(f"  {line}" for line in left_out))
    for line in left_out:
        notify(f"left out: {line}")
    return chosen


def subject(evaluator: Evaluator) -> str:
    """What an evaluator is about."""
    return str(getattr(evaluator, "subject", "network"))


def steps_of(directory: Path, checkpoints: str) -> list[int | None]:
    """The steps that are meant, rising; None for the last.

    Raises:
        MdmkitError: for steps that are not there, or words that mean none.
    """
    if checkpoints == "last":
        return [None]
    there = steps_on_disk(directory)
    if checkpoints == "all":
        return [*there] or [None]
    try:
        asked = sorted({int(text) for text in checkpoints.split(",")})
    except ValueError as error:
        raise MdmkitError(
            f'--checkpoints: expected last, all, or steps such as 200,1000; got "{checkpoints}"'
        ) from error
    missing = [step for step in asked if step not in there]
    if missing:
        raise MdmkitError(
            f"--checkpoints: {directory} has no checkpoint of step "
            f"{', '.join(map(str, missing))}; there are {', '.join(map(str, there)) or 'none'} "
            "(a run keeps the last few: train.keep_checkpoints, train.keep_every)"
        )
    return [*asked]
