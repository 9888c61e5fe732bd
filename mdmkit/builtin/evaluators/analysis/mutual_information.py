"""How much a token says of another, by the distance between them, in the text alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import torch
from attrs import define, field, frozen
from torch import Tensor

from mdmkit.builtin.evaluators.analysis.pair_information import (
    SURE,
    Jackknife,
    mutual_information,
    slope,
)
from mdmkit.builtin.evaluators.analysis.symbol_text import SymbolText
from mdmkit.builtin.evaluators.likelihood import Sample, documents_of
from mdmkit.builtin.evaluators.pairs import blocks_to_measure
from mdmkit.draws import generator
from mdmkit.errors import DataError
from mdmkit.options import option
from mdmkit.protocols import BlockSource, EvaluationContext, Split, Subject
from mdmkit.values import Line, Measurement, Picture

_GROUPS = 32
_FEWEST = 3  # points that make a slope
_UNIT = "nats"


@frozen(kw_only=True)
class MutualInformation:
    """The mutual information of two tokens at a distance, in nats.

    The average pointwise mutual information of the pairs, log p(a, b)/(p(a) p(b)). The most
    frequent types are told apart and all others are one, so it is a lower bound on that of the
    tokens. The plug-in estimate from counts is too large by about (K − 1)²/(2·pairs), K being the
    number of symbols; what it gives on the same pairs, the later tokens in random order among them,
    is subtracted.

    Beside it stands the same for tokens shuffled within their blocks: what two tokens share by
    being in one block, wherever in it (its topic, its author). Only what is above that is near.
    """

    chief: ClassVar[tuple[str, ...]] = ("mutual_information_1", "composition", "slope")
    subject: ClassVar[Subject] = "corpus"

    split: Split = option("train", doc="which split: train, validation or test")
    blocks: int = option(16384, ge=0, doc="so many blocks, evenly spaced over the split; 0: all")
    types: int = option(64, ge=1, doc="the most frequent token types are told apart")
    distances: tuple[int, ...] = option(
        (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96), doc="tokens; those below the length count"
    )
    shuffles: int = option(4, ge=2, doc="random orders of the pairs: their mean is subtracted")

    def __attrs_post_init__(self) -> None:
        """Refuse distances that are none, or twice the same."""
        values = self.distances
        if not values or any(value < 1 for value in values) or len(set(values)) < len(values):
            raise ValueError(f"distances: expected different numbers >= 1, got {list(values)}")

    def build(self, context: EvaluationContext) -> LiveMutualInformation:
        """Read the blocks.

        Raises:
            DataError: where there are fewer than two, or they are too short for any distance.
        """
        source = context.blocks(self.split)
        blocks = blocks_to_measure(
            source, self.blocks, evaluator="mutual_information", split=self.split
        )
        distances = sorted(d for d in self.distances if d < context.length)
        if not distances:
            raise DataError(
                f"mutual_information: blocks of {context.length} tokens have no two tokens at a "
                f"distance of {min(self.distances)}; expected longer blocks, or smaller distances"
            )
        return LiveMutualInformation(
            options=self, context=context, source=source, blocks=blocks, distances=distances
        )


@define(kw_only=True, eq=False, slots=False)
class LiveMutualInformation:
    """`MutualInformation` of one split, made by its ``build``.

    Every rank counts all of it.

    Attributes:
        blocks: ``[N]`` int64, which blocks of the split.
        distances: those that are measured, rising.
        found: of each, with the same less each group of blocks.
        independent: ``[S]`` float64 for each distance: the estimates on pairs in random order.
        pairs: how many there are at each.
    """

    options: MutualInformation
    context: EvaluationContext
    source: BlockSource
    blocks: Tensor
    distances: list[int]
    found: dict[int, Jackknife] = field(init=False, factory=dict)
    independent: dict[int, Tensor] = field(init=False, factory=dict)
    pairs: dict[int, float] = field(init=False, factory=dict)

    def __len__(self) -> int:
        """One unit of work a distance."""
        return len(self.distances)

    def update(self, index: int) -> None:
        """Count the pairs at one distance, as they are and in random orders."""
        distance, text = self.distances[index], self._text
        counts = text.counts(distance, text.symbols)
        self.found[distance] = Jackknife.information(counts)
        self.pairs[distance] = max(float(counts.sum()), 1.0)
        self.independent[distance] = self._independent(distance, text.symbols, "order")

    def compute(self) -> dict[str, Measurement]:
        """The information at the ends, of the composition of blocks, and the power law's exponent.

        Without `slope` where fewer than three distances surely have more than composition.
        """
        first, last = self.distances[0], self.distances[-1]
        found = {f"mutual_information_{d}": self._at(d) for d in dict.fromkeys((first, last))}
        found["composition"] = self._composition
        near = self._near()
        if len(near) >= _FEWEST:
            found["slope"] = self._slope(near)
        return found

    def pictures(self) -> dict[str, Picture]:
        """The information by distance, on logarithmic axes."""
        points = [self._at(d) for d in self.distances]
        x = tuple(float(d) for d in self.distances)
        flat = self._composition
        lines = [
            Line(
                name="the text",
                x=x,
                y=tuple(point.value for point in points),
                stderr=tuple(point.stderr for point in points),
            ),
            Line(
                name="shuffled within blocks",
                x=(x[0], x[-1]),
                y=(flat.value, flat.value),
                stderr=(flat.stderr, flat.stderr),
            ),
        ]
        near = self._near()
        if len(near) >= _FEWEST:
            lines.append(self._law(near))
        return {
            "distance": Picture(
                title="Mutual information of two tokens, by their distance",
                x_label="distance (tokens)",
                y_label="nats",
                lines=tuple(lines),
                log_x=True,
                log_y=True,
                note="Of the most frequent types, all others taken as one, less what the same "
                "pairs give in random order. Where the text comes down to its tokens shuffled "
                "within blocks, two tokens share what their block is about, and no more. A "
                "power law is a straight line here: what bends away from the dashed one follows "
                "none.",
            )
        }

    @property
    def provenance(self) -> Mapping[str, Any]:
        """The split and its source, what was counted, and after `compute` the bias."""
        facts: dict[str, Any] = {
            "split": self.options.split,
            "data": dict(self.source.provenance),
            "blocks": len(self.blocks),
            "blocks_in_split": len(self.source),
            "distances": list(self.distances),
        }
        if self.found:
            groups, kind = len(self.found[self.distances[0]].without), self._sample().kind
            facts["stderr"] = f"jackknife over {groups} groups of {kind}"
            facts["symbols"] = self._text.kinds
            facts["share_of_tokens_told_apart"] = self._text.share
            facts["subtracted"] = [float(self.independent[d].mean()) for d in self.distances]
            facts["surely_positive"] = self._above(0.0)
            facts["surely_above_composition"] = self._near()
        return facts

    # -- what was found

    def _at(self, distance: int) -> Measurement:
        return self._less_bias(self.found[distance], self.independent[distance], distance)

    def _less_bias(self, found: Jackknife, independent: Tensor, distance: int) -> Measurement:
        """An estimate less the mean of those on random orders.

        The jackknife counts the part of the variance that is of second order in the counts twice
        (Efron & Stein, Ann. Statist. 9, 1981). Where tokens share nothing that is all there is,
        and as large as the variance on random orders; nowhere is it less.
        """
        bias = independent.mean()
        # the variance on random orders
        chance = self._spread * max(float(bias), 0.0) / self.pairs[distance]
        variance = max(float(found.stderr) ** 2 - chance, chance)
        draws = (chance / len(independent)) ** 0.5
        return Measurement(
            value=float(found.whole - bias),
            stderr=math.hypot(variance**0.5, draws),
            unit=_UNIT,
            draws_stderr=draws,
        )

    @property
    def _spread(self) -> float:
        """The variance of estimates on random orders, by their mean over the number of pairs.

        1 where there are many of each pair: twice their number times the estimate is then χ². It is
        pooled over the distances.
        """
        expected = [one.mean() / self.pairs[d] for d, one in self.independent.items()]
        around = [one - one.mean() for one in self.independent.values()]
        freedom = sum(len(one) - 1 for one in around)
        scaled = [
            one.square().sum() / size
            for one, size in zip(around, expected, strict=True)
            if size > 0
        ]
        return float(sum(scaled)) / freedom

    def _near(self) -> list[int]:
        """The distances from the first on at which there is surely more than composition."""
        return self._above(max(self._composition.value, 0.0))

    def _above(self, floor: float) -> list[int]:
        sure = []
        for distance in self.distances:
            point = self._at(distance)
            if point.value - floor <= SURE * point.stderr:
                break
            sure.append(distance)
        return sure

    def _slope(self, distances: list[int]) -> Measurement:
        """The exponent over these distances; the jackknife knows that they share their text."""
        x = torch.tensor(distances, dtype=torch.float64)
        bias = torch.stack([self.independent[d].mean() for d in distances])
        whole = torch.stack([self.found[d].whole for d in distances]) - bias
        groups = len(self.found[distances[0]].without)
        # the bias is in inverse proportion to the number of pairs
        without = torch.stack([self.found[d].without for d in distances], -1)
        without = (without - bias * groups / max(groups - 1, 1)).clamp(min=1e-12)
        found = Jackknife(whole=slope(x, whole), without=slope(x, without))
        return Measurement(value=float(found.whole), stderr=float(found.stderr))

    def _law(self, distances: list[int]) -> Line:
        x = torch.tensor(distances, dtype=torch.float64)
        logs = torch.tensor([self._at(d).value for d in distances], dtype=torch.float64).log()
        exponent = self._slope(distances).value
        height = (logs - exponent * x.log()).mean().exp()
        return Line(
            name=f"power law, exponent {exponent:.2f}",
            x=tuple(x.tolist()),
            y=tuple((height * x**exponent).tolist()),
            known=True,
        )

    @cached_property
    def _composition(self) -> Measurement:
        """The information of two tokens of a block in random order; the same at every distance."""
        text, first = self._text, self.distances[0]
        mixed = text.shuffled_within(self._generator("within"))
        found = Jackknife.information(text.counts(first, mixed))
        return self._less_bias(found, self._independent(first, mixed, "within, order"), first)

    # -- the text

    @cached_property
    def _text(self) -> SymbolText:
        units = self._sample().unit
        return SymbolText.read(
            self.source, self.blocks, types=self.options.types, units=units, groups=_GROUPS
        )

    def _independent(self, distance: int, symbols: Tensor, name: str) -> Tensor:
        """The estimates on the pairs at a distance in random orders, ``[S]``."""
        counts = [
            self._text.independent(distance, symbols, self._generator(f"{name} {number}"))
            for number in range(self.options.shuffles)
        ]
        return mutual_information(torch.stack(counts))

    def _generator(self, name: str) -> torch.Generator:
        return generator(self.context.seed, "mutual_information", name)

    def _sample(self) -> Sample:
        return Sample.of(documents_of(self.source, self.blocks))
