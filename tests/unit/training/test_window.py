from __future__ import annotations

import pytest
import torch

from mdmkit.training.distributed import World
from mdmkit.training.window import Window

WORLD = World(device=torch.device("cpu"))
NAN = float("nan")


def add(window: Window, loss: float, norm: float, scored: int = 4) -> None:
    figures = (torch.tensor(loss), torch.tensor(scored), torch.tensor(norm))
    window.add(*figures, torch.tensor(norm).isfinite())


def test_means_are_over_finite_steps_and_streaks_are_found() -> None:
    window = Window(torch.device("cpu"))
    for loss, norm in [(1.0, 2.0), (NAN, NAN), (NAN, NAN), (3.0, 6.0), (5.0, float("inf"))]:
        add(window, loss, norm, scored=int(norm) if norm < 10 else 99)
    summary = window.read(WORLD)
    assert summary.loss == pytest.approx(2.0)
    assert summary.scored == pytest.approx(4.0)
    assert summary.grad_norm == pytest.approx(4.0)
    assert summary.nonfinite_steps == 3
    assert summary.worst_streak == 2


@pytest.mark.parametrize(("clip_norm", "share"), [(1.0, 2 / 3), (2.5, 1 / 3), (0.0, 0.0)])
def test_the_share_of_clipped_steps(clip_norm: float, share: float) -> None:
    window = Window(torch.device("cpu"), clip_norm)
    for norm in (0.5, 2.0, 3.0, NAN):
        add(window, 1.0, norm)
    assert window.read(WORLD).clipped == pytest.approx(share)


def test_restart_keeps_what_counts_for_the_whole_run() -> None:
    window = Window(torch.device("cpu"))
    add(window, 1.0, NAN)
    window.restart()
    summary = window.read(WORLD)
    assert (summary.loss, summary.scored, summary.grad_norm, summary.clipped) == (None,) * 4
    assert summary.nonfinite_steps == 1
    add(window, 1.0, NAN)
    assert window.read(WORLD).worst_streak == 2  # a streak goes on across log lines
