"""Which looks the locality analysis takes at a target, and what it says of them."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from mdmkit.builtin.evaluators.analysis.hiding import Look

SIDES = ("both", "left", "right")


@frozen(kw_only=True)
class Looks:
    """All looks at a target, by what they are for.

    Attributes:
        distances: of the pair table, rising.
        radii: of the curves, rising.
        all: the looks themselves, each once.
    """

    distances: tuple[int, ...]
    radii: tuple[int, ...]
    all: tuple[Look, ...]

    @classmethod
    def within(cls, reach: int, distances: Iterable[int], radii: Iterable[int]) -> Looks:
        """Those that reach no farther than `reach`."""
        near = tuple(sorted(d for d in distances if d <= reach))
        hidden = tuple(sorted(r for r in radii if r <= reach))
        wanted = [Look(), Look(blind=True)]
        wanted += [_pair(left, right) for left in near for right in near]
        wanted += [_hidden(side, radius) for side in SIDES for radius in hidden]
        return cls(distances=near, radii=hidden, all=tuple(dict.fromkeys(wanted)))

    def nothing_hidden(self) -> int:
        """The number of the look that hides nothing but what the share asks for."""
        return self.all.index(Look())

    def blind(self) -> int:
        """The number of the look at which nothing is visible."""
        return self.all.index(Look(blind=True))

    def pair(self, left: int, right: int) -> int:
        """The number of the look with the nearest visible tokens at these distances."""
        return self.all.index(_pair(left, right))

    def hidden(self, side: str, radius: int) -> int:
        """The number of the look that hides all within `radius` on a side, or on both."""
        return self.all.index(_hidden(side, radius))


def _pair(left: int, right: int) -> Look:
    return Look(left=left - 1, right=right - 1, shown=True)


def _hidden(side: str, radius: int) -> Look:
    return Look(left=0 if side == "right" else radius, right=0 if side == "left" else radius)
