"""`mdmkit run --nproc`: several processes that behave as one does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mdmkit.cli import launch as launching
from mdmkit.cli.launch import launch

from .commands import in_a_process, metrics, refused, run_directory

SMALL = (
    *("--set", "evaluators={}", "--set", "train.validate_every=0"),
    *("--set", "train.checkpoint_every=0", "--set", "train.steps=30"),
)
TWO = ("--nproc", "2", "--device", "cpu")


def test_a_mistake_is_said_once_and_ends_all(recipe: Path, home: Path) -> None:
    # seen in each process, after they have found each other
    said = in_a_process("run", recipe, *TWO, "--set", "train.global_batch_size=9")
    assert said.code == 2
    assert said.err == (
        "[train] global_batch_size: 9 rows over 2 processes do not come out even; choose a "
        "multiple\n"
    )
    # seen before any is started
    assert refused("run", recipe, *TWO, "--set", "train.stepz=1").count("stepz") == 1


def test_ctrl_c_saves_and_the_same_command_goes_on(recipe: Path, home: Path) -> None:
    command = [sys.executable, "-m", "mdmkit", "run", str(recipe), *TWO, *SMALL]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    while not any(len(f.read_bytes()) > 500 for f in home.glob("runs/*/metrics.jsonl")):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err.count("everything is saved in") == 1
    assert "Traceback" not in err
    again = in_a_process("run", recipe, *TWO, *SMALL)
    assert again.code == 0
    assert again.err == ""
    lines = metrics(run_directory(again))
    assert [line["step"] for line in lines if "train/loss" in line] == list(range(1, 31))


def test_processes_that_a_launcher_started_start_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    assert "--nproc: starts processes" in refused("run", "quickstart_bell", *TWO)


@pytest.fixture
def own_handlers() -> Iterator[None]:
    """torch's launcher handles signals from then on; this process gets its own handlers back."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("own_handlers")
@pytest.mark.parametrize(
    ("code", "status", "said"),
    [("raise SystemExit(7)", 7, ""), ("os.kill(os.getpid(), 9)", 1, "ended by signal 9")],
)
def test_a_status_is_handed_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str],
    code: str, status: int, said: str,
) -> None:  # fmt: skip
    """Whatever the processes do: here a package of that name in the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("mdmkit").mkdir()
    Path("mdmkit/__init__.py").touch()
    Path("mdmkit/__main__.py").write_text(f"import os\n{code}\n")
    monkeypatch.setattr(launching.logging, "disable", lambda _: None)  # this process lives on
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "30")
    assert launch(1, []) == status
    assert said in capfd.readouterr().err
