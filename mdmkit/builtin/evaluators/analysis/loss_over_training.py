"""What `loss_by_mask_ratio` draws of several checkpoints of a run."""

from __future__ import annotations

from collections.abc import Mapping
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
)
from mdmkit.values import Line, Picture

if TYPE_CHECKING:
    from mdmkit.evaluation.driver import Result

Numbers = NDArray[np.float64]

RATIOS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Mask ratios whose way through training is drawn."""

_CURVES = 7  # more lines in one picture cannot be told apart
_PAIRED = (
    "Each error is that of a point by itself; all checkpoints are measured on the same text and "
    "masks, so that differences between them are surer."
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
        floor: ``[K]``: the true entropy, or the least h.
        known: whether it is the true one.
        unigram: entropy of a token by itself.
    """

    steps: tuple[int, ...]
    x: Numbers
    h: Numbers
    stderr: Numbers
    floor: Numbers
    known: bool
    unigram: float

    @classmethod
    def of(cls, results: Mapping[int, Result]) -> Course:
        """From the pictures of the checkpoints."""
        lines = [_lines_of(results[step]) for step in sorted(results)]
        last, h = lines[-1], np.array([by_name[NETWORK].y for by_name in lines])
        return cls(
            steps=tuple(sorted(results)),
            x=np.array(last[NETWORK].x),
            h=h,
            stderr=np.array([by_name[NETWORK].stderr for by_name in lines]),
            floor=np.array(last[TRUE].y) if TRUE in last else h.min(0),
            known=TRUE in last,
            unigram=last[UNIGRAM].y[0],
        )

    def told(self) -> Course:
        """The same at `RATIOS` alone, linear between the points."""
        told = np.clip(RATIOS, self.x[0], self.x[-1])

        def at(rows: Numbers) -> Numbers:
            return np.array([np.interp(told, self.x, row) for row in rows])

        floor = at(self.floor[None])[0]
        return evolve(self, x=told, h=at(self.h), stderr=at(self.stderr), floor=floor)

    @property
    def caution(self) -> str:
        """What is to be said where the truth is not known."""
        return "" if self.known else _BEST


def over_training(results: Mapping[int, Result]) -> dict[str, Picture]:
    """The pictures, by name."""
    course = Course.of(results)
    told = course.told()
    learnable = told.unigram - told.floor
    share_note = (
        "(unigram entropy - loss) / (unigram entropy - what stays). At 1 nothing is left to learn "
        f"at that mask ratio; below 0 looking at no context would do better.{course.caution}"
    )
    return {
        "curves": _curves(course),
        "levels": _by_step(
            told, told.h, told.stderr, title="Loss by mask ratio over training", note=_PAIRED
        ),
        "still_to_gain": _by_step(
            told,
            told.h - told.floor,
            told.stderr,
            title="What is still to be gained over training",
            note=f"Loss minus what stays. {_PAIRED}{course.caution}",
        ),
        "share_learned": _by_step(
            told,
            (told.unigram - told.h) / learnable,
            told.stderr / np.abs(learnable),
            title="Share of what can be learned that is learned",
            unit="share",
            note=share_note,
        ),
        "gained_and_staying": _gained_and_staying(course),
    }


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
    x, last, stderr = _floats(course.x), course.h[-1], _floats(course.stderr[-1])
    lines = [
        Line(name="gained", x=x, y=_floats(course.unigram - last), stderr=stderr),
        Line(name="still to be gained", x=x, y=_floats(last - course.floor), stderr=stderr),
        Line(
            name="stays" if course.known else "stays, at most",
            x=x,
            y=_floats(course.floor),
            stderr=None if course.known else stderr,
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
