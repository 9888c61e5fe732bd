from __future__ import annotations

import pytest
import torch

from mdmkit.training.distributed import World
from mdmkit.training.window import Window

WORLD = World(device=torch.device("cpu"))


def add(window: Window, loss: float, norm: float) -> None:
    window.add(torch.tensor(loss), torch.tensor(norm), torch.tensor(norm).isfinite())


def test_means_are_over_finite_steps_and_streaks_are_found() -> None:
    window = Window(torch.device("cpu"))
    nan = float("nan")
    for loss, norm in [(1.0, 2.0), (nan, nan), (nan, nan), (3.0, 6.0), (5.0, float("inf"))]:
        add(window, loss, norm)
    summary = window.read(WORLD)
    assert summary.loss == pytest.approx(2.0)
    assert summary.grad_norm == pytest.approx(4.0)
    assert summary.nonfinite_steps == 3
    assert summary.worst_streak == 2


def test_restart_keeps_what_counts_for_the_whole_run() -> None:
    window = Window(torch.device("cpu"))
    add(window, 1.0, float("nan"))
    window.restart()
    summary = window.read(WORLD)
    assert summary.loss is None
    assert summary.grad_norm is None
    assert summary.nonfinite_steps == 1
    add(window, 1.0, float("nan"))
    assert window.read(WORLD).worst_streak == 2  # a streak goes on across log lines
