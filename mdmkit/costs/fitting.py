"""What would make a recipe fit, and how large a micro-batch does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attrs import frozen

from mdmkit.costs.plan import Planner

Way = tuple[dict[str, Any], dict[str, Any]]
"""Keys of a recipe with their values, and the same of a `Setup`."""

_TRIES = 4


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
    for settings, changes in _ways(planner):
        changed = planner.changed(**changes)
        if changed.fits:
            return Remedy(settings=settings, planner=changed)
    return None


def _ways(planner: Planner) -> Iterator[Way]:
    setup = planner.setup
    kinds = ("none", "selective", "full")
    saving = [_saving(kind) for kind in kinds[kinds.index(setup.checkpointing) + 1 :]]
    rows = setup.rows * setup.accumulation
    smaller = [_smaller(rows, part) for part in _divisors_below(rows, setup.rows)]
    least = [saving[-1:], smaller[-1:]]
    yield from saving
    yield from smaller
    yield from (_together(saving[-1], way) for way in smaller if saving)
    if setup.shards == setup.gpus and setup.reshard:
        return
    sharded: Way = (
        {"parallel.mode": "fsdp", "parallel.reshard_after_forward": True},
        {"shards": setup.gpus, "reshard": True},
    )
    yield sharded
    yield from (_together(sharded, way) for way in saving)
    yield _together(sharded, *(way for ways in least for way in ways))


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
    """
    group = planner.dry.objective.group
    known = {rows: _total(planner, rows) for rows in (group, 2 * group)}
    best = max((rows for rows, total in known.items() if total <= planner.usable), default=0)
    for _ in range(_TRIES):
        (low, less), (high, more) = sorted(known.items())[-2:]
        slope = max((more - less) / (high - low), 1.0)
        guess = int((planner.usable - more) / slope + high) // group * group
        guess = min(max(guess, group), 1024 * high)
        if guess in known:
            break
        known[guess] = _total(planner, guess)
        if known[guess] <= planner.usable:
            best = max(best, guess)
            if guess < 1.05 * best and len(known) > 3:
                break
    return best


def _total(planner: Planner, rows: int) -> int:
    return planner.changed(rows=rows).memory.total
