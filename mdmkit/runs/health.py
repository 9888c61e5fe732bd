"""What a look at a run's figures finds odd, in plain words."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence

from attrs import frozen

from mdmkit.runs.history import History, Window
from mdmkit.runs.status import RunStatus

SILENCE = 60.0
"""Seconds without a new line that are never odd."""
PATIENCE = 3.0
"""Times the longest pause so far."""
SPIKE = 5.0
"""Times the median gradient norm."""
RECENT = 20
"""Lines of training figures that are looked at for what is odd now."""
ROOM = 1e9
"""Bytes that a disk should have left, at least."""
CHECKPOINTS = 3
"""Checkpoints for which there should be room."""
_ERRORS = 4.0
"""Standard errors by which a loss has to rise."""
_SHARE = 0.02
"""And by this share of itself."""


@frozen(kw_only=True)
class Surroundings:
    """What is not in the metrics.

    Attributes:
        silence: seconds since the metrics changed; None where there are none.
        free: bytes that are left on the disk, or None.
        checkpoint: bytes of the newest checkpoint; 0 without one.
    """

    silence: float | None = None
    free: int | None = None
    checkpoint: int = 0


def findings(history: History, status: RunStatus, around: Surroundings) -> list[str]:
    """Everything that is odd, the most urgent first; nothing of a run that is as it should be."""
    return [
        *_end(status),
        *_silence(history, status, around),
        *_nonfinite(history.windows),
        *_rising(history.windows),
        *_spikes(history.windows),
        *_worse(history),
        *_room(status, around),
        *_damage(history, status),
    ]


def _end(status: RunStatus) -> Iterator[str]:
    if status.state == "failed" and status.failure is not None:
        yield f"failed: {status.failure.line}"
    elif status.state == "damaged":
        yield f"damaged: {status.problem}"
    elif status.state == "interrupted":
        saved = "no step is saved" if status.saved is None else f"step {status.saved} is saved"
        yield f"nobody trains here: it was interrupted or killed; {saved}"


def _silence(history: History, status: RunStatus, around: Surroundings) -> Iterator[str]:
    limit = max(SILENCE, PATIENCE * history.longest)
    if status.state == "running" and around.silence is not None and around.silence > limit:
        yield (
            f"no new line for {around.silence:.0f} s, the longest pause before was "
            f"{history.longest:.0f} s; the process is still there: it is busy or stuck"
        )


def _nonfinite(windows: Sequence[Window]) -> Iterator[str]:
    if not windows or windows[-1].nonfinite_steps == 0:
        return
    now = windows[-1].nonfinite_steps
    recent = now - (windows[-RECENT - 1].nonfinite_steps if len(windows) > RECENT else 0)
    lines = min(RECENT, len(windows))
    since = f", {recent} of them in the last {lines} lines" if recent > 0 else ""
    yield (
        f"{now} step{'' if now == 1 else 's'} had a gradient that was not finite and "
        f"{'was' if now == 1 else 'were'} skipped{since}"
    )


def _rising(windows: Sequence[Window]) -> Iterator[str]:
    """Compare the last tenth of the lines with the tenth before it."""
    losses = [(window.step, window.loss) for window in windows if window.loss is not None]
    size = max(len(losses) // 10, 5)
    if len(losses) < 3 * size:
        return
    before = [loss for _, loss in losses[-2 * size : -size]]
    after = [loss for _, loss in losses[-size:]]
    rise = statistics.fmean(after) - statistics.fmean(before)
    error = math.sqrt((statistics.variance(before) + statistics.variance(after)) / size)
    if rise > max(_ERRORS * error, _SHARE * abs(statistics.fmean(before))):
        yield (
            f"the training loss rises: {statistics.fmean(before):.4g} to "
            f"{statistics.fmean(after):.4g} since step {losses[-2 * size][0]} (a weighting that "
            "changes over the run does that, too)"
        )


def _spikes(windows: Sequence[Window]) -> Iterator[str]:
    norms = [(w.step, w.grad_norm) for w in windows[-10 * RECENT :] if w.grad_norm is not None]
    if len(norms) < 2 * RECENT:
        return
    median = statistics.median(norm for _, norm in norms)
    step, norm = max(norms[-RECENT:], key=lambda pair: pair[1])
    if norm > SPIKE * median > 0:
        yield (
            f"the gradient's norm was {norm:.3g} at step {step}, {norm / median:.0f} times its "
            "median"
        )


def _worse(history: History) -> Iterator[str]:
    if not history.validations or history.best is None:
        return
    last, best = history.validations[-1], history.best
    if last.value - best.value > math.hypot(last.stderr, best.stderr or 0.0):
        yield (
            f"validation got worse: {_nats(last.value)} at step {last.step}, the best was "
            f"{_nats(best.value)} at step {best.step}"
        )


def _nats(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 1e9 else f"{value:.4g}"


def _room(status: RunStatus, around: Surroundings) -> Iterator[str]:
    if around.free is None or status.state != "running":
        return
    if around.free < max(ROOM, CHECKPOINTS * around.checkpoint):
        takes = f"; a checkpoint takes {around.checkpoint / 1e6:,.0f} MB"
        yield (
            f"the disk is nearly full: {around.free / 1e6:,.0f} MB are left"
            + (takes if around.checkpoint else "")
        )


def _damage(history: History, status: RunStatus) -> Iterator[str]:
    if history.damaged:
        lines = "1 line" if history.damaged == 1 else f"{history.damaged} lines"
        yield f"{lines} of the metrics cannot be read and are left out"
    if status.problem is not None and status.state != "damaged":
        yield status.problem
