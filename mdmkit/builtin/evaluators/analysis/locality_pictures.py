"""The numbers and pictures of the locality analysis, from what each look at each target gave."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from attrs import frozen
from torch import Tensor

from mdmkit.builtin.evaluators.analysis.lines import line_by_step
from mdmkit.builtin.evaluators.analysis.locality_looks import SIDES, Looks
from mdmkit.builtin.evaluators.likelihood import ratio_of_sums
from mdmkit.values import HeatMap, Line, Measurement, Picture

if TYPE_CHECKING:
    from mdmkit.evaluation.driver import Result

UNIT = "nats/token"
_NATS = "nats per target"


@frozen(kw_only=True, eq=False)
class LookTable:
    """Cross-entropies by independent unit and look.

    Attributes:
        nats: ``[U, K]`` float64, summed over the targets of a unit.
        count: ``[U]`` float64, how many these are.
    """

    nats: Tensor
    count: Tensor

    def mean(self, look: int) -> Measurement:
        """The mean cross-entropy in one look."""
        return self._ratio(self.nats[:, look], self.count, UNIT)

    def difference(self, look: int, other: int) -> Measurement:
        """By how much it is higher in one look than in another, target by target."""
        return self._ratio(self.nats[:, look] - self.nats[:, other], self.count, UNIT)

    def share(self, look: int, low: int, high: int) -> Measurement:
        """How far a look is on the way from the mean of one to that of another: a pure number."""
        start = self.nats[:, low]
        return self._ratio(self.nats[:, look] - start, self.nats[:, high] - start, "")

    @staticmethod
    def _ratio(sums: Tensor, size: Tensor, unit: str) -> Measurement:
        value, error = ratio_of_sums(sums, size)
        return Measurement(value=value, stderr=abs(error), unit=unit)


def pictures(table: LookTable, looks: Looks, masked: str) -> dict[str, Picture | HeatMap]:
    """All pictures that the looks allow.

    Args:
        table: what was found.
        looks: by number.
        masked: says how much is masked, for the notes.
    """
    found: dict[str, Picture | HeatMap] = {}
    if looks.distances:
        found["pair"] = _pair_map(table, looks, masked)
        found["distance"] = _distance_lines(table, looks, masked)
    if looks.radii:
        found["hidden"] = _hidden_lines(table, looks, masked)
        found["lost"] = _lost_lines(table, looks, masked)
    return found


def during_training(results: Mapping[int, Result]) -> dict[str, Picture | HeatMap]:
    """The way between checkpoints, by step."""
    found: dict[str, Picture | HeatMap] = {}
    lost = {
        step: line
        for step, result in results.items()
        if isinstance(picture := result.pictures.get("lost"), Picture)
        for line in picture.lines
        if line.name == _ON["both"]
    }
    if lost:
        found["lost"] = Picture(
            title="What hiding the surroundings costs, at each checkpoint",
            x_label="hidden radius on both sides (tokens)",
            y_label="nats more per target",
            lines=tuple(
                Line(name=f"step {step}", x=line.x, y=line.y, stderr=line.stderr)
                for step, line in lost.items()
            ),
            log_x=True,
            note="Where a line rises early and then lies flat, the network uses what is near and "
            "little else. The number of masks is the same everywhere.",
        )
    names = {
        "context": "nothing is visible",
        **{f"lost_{side}": f"hidden {_ON[side]}" for side in SIDES},
    }
    lines = [line_by_step(results, key, name) for key, name in names.items()]
    drawn = tuple(line for line in lines if line is not None)
    if drawn:
        found["side"] = Picture(
            title="What each side of the context is worth, over training",
            x_label="optimizer step",
            y_label="nats more per target",
            lines=drawn,
            note="Hidden is all within the largest radius; as much is shown beyond it.",
        )
    return found


_ON = {"both": "on both sides", "left": "on the left only", "right": "on the right only"}


def _pair_map(table: LookTable, looks: Looks, masked: str) -> HeatMap:
    near = looks.distances
    cells = [[table.mean(looks.pair(left, right)) for right in near] for left in near]
    names = tuple(str(distance) for distance in near)
    return HeatMap(
        title="Cross-entropy of a masked token by its nearest visible tokens",
        x_label="nearest visible token on the right (tokens away)",
        y_label="nearest visible token on the left (tokens away)",
        value_label=_NATS,
        columns=names,
        rows=names,
        values=tuple(tuple(cell.value for cell in row) for row in cells),
        stderr=tuple(tuple(cell.stderr for cell in row) for row in cells),
        note=f"{masked}, so darker cells are due to where they are and not to how many there are. "
        "All cells have the same targets: their differences are surer than each error says.",
    )


def _distance_lines(table: LookTable, looks: Looks, masked: str) -> Picture:
    near, far = looks.distances[0], looks.distances[-1]
    ways: Mapping[str, Callable[[int], tuple[int, int]]] = {
        "both at this distance": lambda d: (d, d),
        f"left, the right one at {near}": lambda d: (d, near),
        f"right, the left one at {near}": lambda d: (near, d),
        f"left, the right one at {far}": lambda d: (d, far),
        f"right, the left one at {far}": lambda d: (far, d),
    }
    return Picture(
        title="Cross-entropy by the distance to the nearest visible tokens",
        x_label="distance (tokens)",
        y_label=_NATS,
        lines=tuple(
            _line(name, looks.distances, [table.mean(looks.pair(*way(d))) for d in looks.distances])
            for name, way in ways.items()
        ),
        log_x=True,
        note=f"Rows, columns and diagonal of the pair table. {masked}; what is beyond the nearest "
        "tokens is masked at random.",
    )


def _hidden_lines(table: LookTable, looks: Looks, masked: str) -> Picture:
    radii = (0, *looks.radii)
    lines = [
        _line(_ON[side], radii, [table.mean(look) for look in _numbers(looks, side)])
        for side in SIDES
    ]
    blind = table.mean(looks.blind())
    ends = (radii[0], radii[-1])
    return Picture(
        title="Cross-entropy with all hidden within a radius",
        x_label="hidden radius (tokens)",
        y_label=_NATS,
        lines=(*lines, _line("nothing is visible", ends, [blind, blind])),
        note=f"{masked}: for what is hidden near the target as much is shown far away. At 0 the "
        "masks are a uniform subset.",
    )


def _lost_lines(table: LookTable, looks: Looks, masked: str) -> Picture:
    base = looks.nothing_hidden()
    return Picture(
        title="What hiding the surroundings costs",
        x_label="hidden radius (tokens)",
        y_label="nats more per target",
        lines=tuple(
            _line(
                _ON[side],
                looks.radii,
                [table.difference(look, base) for look in _numbers(looks, side)[1:]],
            )
            for side in SIDES
        ),
        log_x=True,
        note=f"Against the same targets with a uniform subset masked; {masked}. The errors are of "
        "the differences.",
    )


def _numbers(looks: Looks, side: str) -> list[int]:
    """The looks of a curve, from radius 0 on."""
    return [looks.nothing_hidden(), *(looks.hidden(side, radius) for radius in looks.radii)]


def _line(name: str, x: tuple[int, ...], points: list[Measurement]) -> Line:
    return Line(
        name=name,
        x=tuple(float(place) for place in x),
        y=tuple(point.value for point in points),
        stderr=tuple(point.stderr for point in points),
    )
