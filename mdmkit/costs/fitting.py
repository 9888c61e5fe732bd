"""What would make a recipe fit, and how large a micro-batch does."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from attrs import frozen

from mdmkit.costs.plan import Planner

Way = tuple[dict[str, Any], dict[str, Any]]
"""Keys of a recipe with their values, and the same of a `Setup`."""

_TRIES = 3

MOST_TOKENS = 2**20
"""Of a micro-batch: enough to keep any GPU busy."""


@frozen(kw_only=True)
class Remedy:
    """Settings that fit.

    Attributes:
        settings: keys of the recipe and their values, as for ``--set``.
        planner: with them.
    """

    settings: dict[str, Any]
    planner: Planner


def first_remedy(planner: Planner) -> Remedy | None:
    """The first change that fits, in the order of what it costs; None where none does.

    Tried are: less of the activations kept; then a smaller micro-batch with more accumulation,
    which leaves a step's arithmetic as it is but gathers weights more often; then both; then all
    of that with the network sharded over all GPUs. None changes what is learned.
    """
    setup = planner.setup
    kinds = ("none", "selective", "full")
    saving = [_saving(kind) for kind in kinds[kinds.index(setup.checkpointing) + 1 :]]
    rows = setup.rows * setup.accumulation
    smaller = [_smaller(rows, part) for part in _divisors_below(rows, setup.rows)]
    both = [_together(*saving[-1:], way) for way in smaller] if saving else []
    sharded: list[Way] = []
    if setup.shards < setup.gpus or not setup.reshard:
        settings = {"parallel.mode": "fsdp", "parallel.reshard_after_forward": True}
        alone: Way = settings, {"shards": setup.gpus, "reshard": True}
        sharded = [alone, *(_together(alone, way) for way in [*saving, *both[-1:]])]
    return (
        _first(planner, saving)
        or _least_change(planner, smaller)
        or _least_change(planner, both)
        or _first(planner, sharded)
    )


def _first(planner: Planner, ways: Sequence[Way]) -> Remedy | None:
    """The first that fits."""
    for settings, changes in ways:
        changed = planner.changed(**changes)
        if changed.fits:
            return Remedy(settings=settings, planner=changed)
    return None


def _least_change(planner: Planner, ways: Sequence[Way]) -> Remedy | None:
    """The same of ways that need less and less memory, by halving: each look takes a second."""
    count = bisect_left(ways, True, key=lambda way: planner.changed(**way[1]).fits)
    return _first(planner, ways[count : count + 1])


def _saving(kind: str) -> Way:
    return {"parallel.activation_checkpointing": kind}, {"checkpointing": kind}


def _smaller(rows: int, part: int) -> Way:
    return {"train.micro_batch_size": part}, {"rows": part, "accumulation": rows // part}


def _together(*ways: Way) -> Way:
    settings: dict[str, Any] = {}
    changes: dict[str, Any] = {}
    for one, other in ways:
        settings, changes = settings | one, changes | other
    return settings, changes


def _divisors_below(whole: int, most: int) -> list[int]:
    """Divisors of `whole` below `most`, each at most half of the one before, falling to 1."""
    found: list[int] = []
    for rows in range(most - 1, 0, -1):
        if whole % rows == 0 and (rows == 1 or rows <= (found[-1] if found else most) // 2):
            found.append(rows)
    return found


def largest_micro_batch(planner: Planner) -> int:
    """About how many rows a micro-batch may have, the rest as it is; 0 where one is too many.

    Memory is nearly a straight line in the rows, but for the chunk of logits, which stops growing.
    So the line through two counts gives a third, until one fits; what is returned fits for sure.
    More than `MOST_TOKENS` are not looked for.
    """
    group = planner.dry.objective.group
    most = max(MOST_TOKENS // planner.recipe.data.length // group, 2) * group
    known = {rows: _total(planner, rows) for rows in (group, 2 * group)}
    best = max((rows for rows, total in known.items() if total <= planner.usable), default=0)
    for _ in range(_TRIES):
        (low, less), (high, more) = sorted(known.items())[-2:]
        slope = max((more - less) / (high - low), 1.0)
        guess = int((planner.usable - more) / slope + high) // group * group
        guess = min(max(guess, group), most)
        if guess in known:
            break
        known[guess] = _total(planner, guess)
        if known[guess] <= planner.usable:
            best = max(best, guess)
    return best


def _total(planner: Planner, rows: int) -> int:
    return planner.changed(rows=rows).memory.total
