"""What `loss_by_mask_ratio` draws of several checkpoints of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from attrs import evolve, frozen
from numpy.typing import NDArray

from mdmkit.builtin.evaluators.analysis.loss_pictures import (
    LOSS,
    MASK_RATIO,
    NATS,
    NETWORK,
    TRUE,
    UNIGRAM,
    WITHOUT,
)
from mdmkit.values import Line, Picture

if TYPE_CHECKING:
    from mdmkit.evaluation.driver import Result

Numbers = NDArray[np.float64]

RATIOS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Mask ratios whose way through training is drawn."""

_LEAST = 0.1  # nats: of less no share is told
_CURVES = 7  # more lines in one picture cannot be told apart
_PAIRED = (
    "Each error is that of a point by itself; all checkpoints are measured on the same text and "
    "masks, so that differences between them are surer."
)
_OWN = (
    "Errors are those of the differences, by a jackknife over groups of the text; the least loss "
    "differs from itself by nothing."
)
_BEST = (
    " What stays is not known of this text: the least loss of these checkpoints stands for it, "
    "which is an upper bound, so that more is left to learn than is shown."
)


@frozen(kw_only=True, eq=False)
class Course:
    """h at each checkpoint, and what is known of it.

    Attributes:
        steps: ``[S]``, rising.
        x: ``[K]`` mask ratios.
        h, stderr: ``[S, K]`` nats.
        without: ``[S, G, K]``, h without each of G groups of the text.
        floor: ``[K]``: the true entropy, or the least h.
        floor_without: ``[G, K]``, the same without each group.
        known: whether it is the true one.
        unigram: entropy of a token by itself.
    """

    steps: tuple[int, ...]
    x: Numbers
    h: Numbers
    stderr: Numbers
    without: Numbers
    floor: Numbers
    floor_without: Numbers
    known: bool
    unigram: float

    @classmethod
    def of(cls, results: Mapping[int, Result]) -> Course:
        """From the pictures of the checkpoints."""
        lines = [_lines_of(results[step]) for step in sorted(results)]
        last, h = lines[-1], np.array([by_name[NETWORK].y for by_name in lines])
        without = np.array([results[step].provenance[WITHOUT] for step in sorted(results)])
        known, least = TRUE in last, h.argmin(0)
        true = np.array(last[TRUE].y) if known else h.min(0)
        places = np.arange(len(least))
        return cls(
            steps=tuple(sorted(results)),
            x=np.array(last[NETWORK].x),
            h=h,
            stderr=np.array([by_name[NETWORK].stderr for by_name in lines]),
            without=without,
            floor=true,
            floor_without=without[least, :, places].T if not known else 0 * without[0] + true,
            known=known,
            unigram=last[UNIGRAM].y[0],
        )

    def told(self) -> Course:
        """The same at `RATIOS` alone, linear between the points."""
        told = np.clip(RATIOS, self.x[0], self.x[-1])

        def at(values: Numbers) -> Numbers:
            found: Numbers = np.apply_along_axis(
                lambda row: np.interp(told, self.x, row), -1, values
            )
            return found

        return self._each(at, x=told)

    def only(self, some: NDArray[np.bool_]) -> Course:
        """The same at some of the mask ratios, ``[K]``."""
        return self._each(lambda values: values[..., some], x=self.x[some])

    def _each(self, change: Callable[[Numbers], Numbers], x: Numbers) -> Course:
        """What is known by mask ratio (the last axis), changed."""
        return evolve(
            self,
            x=x,
            h=change(self.h),
            stderr=change(self.stderr),
            without=change(self.without),
            floor=change(self.floor),
            floor_without=change(self.floor_without),
        )

    def left(self) -> tuple[Numbers, Numbers]:
        """h above the floor, and its error, ``[S, K]`` each."""
        return self.h - self.floor, jackknife_error(self.without - self.floor_without)

    def share(self) -> tuple[Numbers, Numbers]:
        """What is gained of what can be, and its error, ``[S, K]`` each."""
        gained = (self.unigram - self.h) / (self.unigram - self.floor)
        without = (self.unigram - self.without) / (self.unigram - self.floor_without)
        return gained, jackknife_error(without)

    @property
    def caution(self) -> str:
        """What is to be said where the truth is not known."""
        return "" if self.known else _BEST


def jackknife_error(without: Numbers) -> Numbers:
    """Standard errors from values without each of G groups, ``[..., G, K] -> [..., K]``."""
    groups = without.shape[-2]
    found: Numbers = without.std(-2) * (groups - 1) ** 0.5
    return found


def over_training(results: Mapping[int, Result]) -> dict[str, Picture]:
    """The pictures, by name."""
    course = Course.of(results)
    told = course.told()
    drawn = {
        "curves": _curves(course),
        "levels": _by_step(
            told, told.h, told.stderr, title="Loss by mask ratio over training", note=_PAIRED
        ),
        "still_to_gain": _by_step(
            told,
            *told.left(),
            title="What is still to be gained over training",
            note=f"Loss minus what stays. {_OWN}{course.caution}",
        ),
        "gained_and_staying": _gained_and_staying(course),
    }
    learnable = told.unigram - told.floor
    clear = learnable > np.maximum(_LEAST, 3 * told.stderr.max(0))
    if clear.any():
        drawn["share_learned"] = _share_learned(told.only(clear))
    return drawn


def _share_learned(told: Course) -> Picture:
    """Where there is enough to learn for a share of it to mean something."""
    return _by_step(
        told,
        *told.share(),
        title="Share of what can be learned that is learned",
        unit="share",
        note=(
            "(unigram entropy - loss) / (unigram entropy - what stays). At 1 nothing is left to "
            "learn at that mask ratio; below 0 the counts of tokens alone would do better. Mask "
            f"ratios at which there is little to learn are left out. {_OWN}{told.caution}"
        ),
    )


def _curves(course: Course) -> Picture:
    """h by mask ratio, a line a checkpoint, and what is known."""
    count = len(course.steps)
    chosen = {round(place) for place in np.linspace(0, count - 1, min(count, _CURVES))}
    lines = [
        Line(
            name=f"step {course.steps[place]}",
            x=_floats(course.x),
            y=_floats(course.h[place]),
            stderr=_floats(course.stderr[place]),
        )
        for place in sorted(chosen)
    ]
    return Picture(
        title="Loss by mask ratio at each checkpoint",
        x_label=MASK_RATIO,
        y_label=NATS,
        lines=(*lines, *_known(course)),
        note=_PAIRED,
    )


def _by_step(
    told: Course, values: Numbers, stderr: Numbers, *, title: str, note: str, unit: str = NATS
) -> Picture:
    """A line a mask ratio, ``[S, R]``, by optimizer step."""
    lines = [
        Line(
            name=f"mask ratio {ratio:.2g}",
            x=tuple(float(step) for step in told.steps),
            y=_floats(values[:, place]),
            stderr=_floats(stderr[:, place]),
        )
        for place, ratio in enumerate(told.x)
    ]
    return Picture(title=title, x_label="steps", y_label=unit, lines=tuple(lines), note=note)


def _gained_and_staying(course: Course) -> Picture:
    """Of the unigram entropy: what is gained at the last checkpoint, and what never will be."""
    x, last, (left, error) = _floats(course.x), course.h[-1], course.left()
    gained = _floats(course.unigram - last)
    lines = [
        Line(name="gained", x=x, y=gained, stderr=_floats(course.stderr[-1])),
        Line(name="still to be gained", x=x, y=_floats(left[-1]), stderr=_floats(error[-1])),
        Line(
            name="stays" if course.known else "stays, at most",
            x=x,
            y=_floats(course.floor),
            stderr=None if course.known else _floats(jackknife_error(course.floor_without)),
            known=course.known,
        ),
    ]
    return Picture(
        title=f"Gained by step {course.steps[-1]}, and what stays",
        x_label=MASK_RATIO,
        y_label=NATS,
        lines=tuple(lines),
        note=f"The three add up to the unigram entropy, {course.unigram:.2f}.{course.caution}",
    )


def _known(course: Course) -> list[Line]:
    """The lines that do not change."""
    x = _floats(course.x)
    lines = [Line(name=UNIGRAM, x=x, y=(course.unigram,) * len(x), known=True)]
    if course.known:
        lines.append(Line(name=TRUE, x=x, y=_floats(course.floor), known=True))
    return lines


def _lines_of(result: Result) -> dict[str, Line]:
    picture = result.pictures[LOSS]
    assert isinstance(picture, Picture)  # `LiveLossByMaskRatio.pictures` makes it
    return {line.name: line for line in picture.lines}


def _floats(values: Numbers) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
