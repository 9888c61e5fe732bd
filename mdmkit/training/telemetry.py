"""What the loop tells: times, windows, the finite check, and statistics by row."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from mdmkit.errors import TrainingError
from mdmkit.training.job import Job
from mdmkit.training.window import WindowSummary
from mdmkit.values import Loss, Noised


def due(step: int, every: int) -> bool:
    """Whether something that happens every so many steps happens at `step`; 0 means never."""
    return every > 0 and step % every == 0


class Clock:
    """Time spent, added to the job's seconds, and the speed since the last look."""

    def __init__(self, job: Job) -> None:
        """Start now."""
        self._job = job
        self._last = time.perf_counter()
        self._step = job.step
        self._since = job.seconds

    def tick(self) -> None:
        """Add the time since the last tick to the job's seconds."""
        now = time.perf_counter()
        self._job.seconds += now - self._last
        self._last = now

    @contextlib.contextmanager
    def elsewhere(self) -> Iterator[None]:
        """Time spent inside counts for the job, but not for the speed of training."""
        self.tick()
        before = self._job.seconds
        yield
        self.tick()
        self._since += self._job.seconds - before

    def tokens_per_second(self) -> float:
        """Tokens per second of training since this was last asked."""
        self.tick()
        job = self._job
        steps, seconds = job.step - self._step, job.seconds - self._since
        self._step, self._since = job.step, job.seconds
        tokens = steps * job.recipe.train.global_batch_size * job.recipe.data.length
        return tokens / max(seconds, 1e-9)


def check_finite(job: Job) -> WindowSummary:
    """Read the window, and stop the run if too many steps in a row were not finite.

    Raises:
        TrainingError: naming the step and what usually helps.
    """
    summary = job.window.read(job.world)
    limit = job.recipe.train.max_nonfinite_steps
    if summary.worst_streak > limit:
        raise TrainingError(
            f"step {job.step}: the gradient was not finite {summary.worst_streak} steps in a row "
            f"(train.max_nonfinite_steps = {limit}). None of these steps changed the weights, and "
            f"the last checkpoint in {job.directory} is from before. Lower learning_rate.peak, "
            'lengthen the warm-up, or set train.precision = "fp32"'
        )
    return summary


def log_window(job: Job, clock: Clock, learning_rate: float) -> None:
    """Log the mean of the steps since the last log line."""
    summary = check_finite(job)
    job.window.restart()
    speed = clock.tokens_per_second()
    tokens = job.recipe.train.global_batch_size * job.recipe.data.length
    metrics = {
        "train/loss": summary.loss,
        "train/masked_share": None if summary.scored is None else summary.scored / tokens,
        "train/grad_norm": summary.grad_norm,
        "train/clipped_share": summary.clipped,
        "train/learning_rate": learning_rate,
        "train/tokens_per_second": round(speed, 1),
        "train/nonfinite_steps": summary.nonfinite_steps,
    }
    job.log(metrics)
    loss = float("nan") if summary.loss is None else summary.loss
    job.reporter.step(job.step, loss=loss, tokens_per_second=speed)


def row_statistics(
    job: Job, noised: Sequence[Noised], losses: Sequence[Loss]
) -> tuple[Tensor, Tensor, Tensor]:
    """Time, summed cross-entropy (nats) and token count of every row of the global batch.

    Each rank writes its own rows into zeros and the sum over ranks fills the rest, so the result
    does not depend on the layout.

    Returns:
        Three tensors ``[G]`` float64 on the CPU.
    """
    batches = job.batches
    table = torch.zeros(batches.rows, 3, dtype=torch.float64, device=job.world.device)
    for index, (sample, loss) in enumerate(zip(noised, losses, strict=True)):
        rows = batches.rows_of(index).to(table.device)
        time_of_row = torch.zeros(len(rows)) if sample.t is None else sample.t
        table[rows, 0] = time_of_row.double().to(table.device)
        table[rows, 1] = loss.nll.double()
        table[rows, 2] = loss.tokens.double()
    t, nll, count = job.world.sum(table).cpu().unbind(-1)
    return t, nll, count
