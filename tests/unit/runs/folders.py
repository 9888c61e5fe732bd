"""Run directories as files, made without training."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def make_run(directory: Path, *, steps: int = 100, **train: Any) -> Path:
    """A run directory with a recipe and nothing else."""
    directory.mkdir(parents=True)
    recipe = {"run": {"name": "made"}, "train": {"steps": steps, **train}, "evaluators": {"h": {}}}
    (directory / "resolved.json").write_text(json.dumps(recipe))
    return directory


def make_checkpoint(run: Path, step: int, *, name: str | None = None) -> Path:
    """A whole checkpoint of some bytes."""
    path = run / "checkpoints" / (name or f"step-{step:08d}")
    path.mkdir(parents=True)
    contents = {"state.json": b"{}", ".metadata": b"m", "__0_0.distcp": bytes(1000)}
    files = {}
    for file, content in contents.items():
        (path / file).write_bytes(content)
        files[file] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (path / "manifest.json").write_text(json.dumps({"format": 1, "files": files}))
    return path


def window(step: int, loss: float | None = 2.0, **figures: Any) -> dict[str, Any]:
    """A line of training figures; a second a step."""
    return {
        "step": step,
        "tokens": step * 128,
        "seconds": float(step),
        "train/loss": loss,
        "train/grad_norm": 1.0,
        "train/clipped_share": 0.25,
        "train/learning_rate": 1e-3,
        "train/tokens_per_second": 24_310.0,
        "train/nonfinite_steps": 0,
    } | {f"train/{name}": value for name, value in figures.items()}


def validation(step: int, value: float, stderr: float = 0.01) -> dict[str, Any]:
    """A line of a validation."""
    nelbo = "val/nelbo_per_token"
    return {"step": step, "tokens": 0, "seconds": step, nelbo: value, f"{nelbo}_stderr": stderr}


def line(entry: dict[str, Any]) -> bytes:
    """A line of metrics, without its newline."""
    return json.dumps(entry).encode()


def write_metrics(run: Path, *entries: dict[str, Any]) -> None:
    """Append lines."""
    with (run / "metrics.jsonl").open("ab") as file:
        for entry in entries:
            file.write(line(entry) + b"\n")


@contextlib.contextmanager
def training(run: Path) -> Iterator[None]:
    """Hold the lock of the run, as a training does."""
    with (run / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
