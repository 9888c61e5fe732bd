"""`mdmkit watch`: it follows a run from another process and ends with it."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .commands import files, mdmkit, refused

# Holds the lock of a run, adds a line of metrics at each line it is told, and waits to be killed.
TRAINING = """
import fcntl, sys
lock = open(sys.argv[1] + "/.lock", "a")
fcntl.flock(lock, fcntl.LOCK_EX)
for told in sys.stdin:
    with open(sys.argv[1] + "/metrics.jsonl", "a") as log:
        log.write(told)
    print("done", flush=True)
"""


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run that looks as if it were at step 8."""
    run = Path(shutil.copytree(finished, tmp_path / "runs" / finished.name))
    shutil.rmtree(run / "checkpoints" / "step-00000012")
    (run / "model.safetensors").unlink()
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(x for x in lines if '"step": 12' not in x))
    return run


@pytest.fixture
def training(run: Path):
    process = subprocess.Popen(
        [sys.executable, "-c", TRAINING, str(run)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
    )  # fmt: skip
    yield process
    process.kill()
    process.communicate()


def tell(training: subprocess.Popen[str], line: str) -> None:
    assert training.stdin is not None
    assert training.stdout is not None
    training.stdin.write(line + "\n")
    assert training.stdout.readline() == "done\n"


def test_a_finished_run_is_shown_and_left(finished: Path) -> None:
    before = files(finished)
    once = mdmkit("watch", finished, "--once")
    assert (once.code, once.err) == (0, "")
    assert once.lines[0].startswith(f"{finished.name}  finished, 12 steps")
    assert any(line.startswith("validation NELBO, nats/token") for line in once.lines)
    assert "generated at step 12" in once.out
    said = mdmkit("watch", finished)
    assert (said.code, said.lines[-1]) == (0, "finished, 12 steps")
    assert re.match(r"step 12/12  validation NELBO \d\.\d+ ± \d\.\d+ nats/token", said.lines[-5])
    assert [line[:17] for line in said.lines[-4:-1]] == [f"step 12  sample {i}" for i in range(3)]
    assert files(finished) == before


def test_lines_come_while_it_trains_and_it_ends_when_the_training_is_killed(
    run: Path, training: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(training, '{"step": 11, "seconds": 9.0, "train/loss": 2.5, "train/nonfinite_steps": 0}')
    looks = iter(
        [
            lambda: tell(training, '{"step": 12, "seconds": 9.5, "train/loss": 2.25}'),
            lambda: tell(training, '{"step": 12, "seconds": 9.9, "val/nelbo_per_token": 9.5}'),
            lambda: (training.kill(), training.wait()),
        ]
    )
    monkeypatch.setattr("mdmkit.report.run_watch.time.sleep", lambda _: next(looks)())
    said = mdmkit("watch", "--runs-dir", run.parent)  # the one that is running
    assert (said.code, said.err) == (1, "")
    shown = [line for line in said.lines if line.startswith("step 1") and "sample" not in line]
    assert shown[-3:] == [
        "step 11/12  loss 2.5000",
        "step 12/12  loss 2.2500",
        "step 12/12  validation NELBO 9.5000 ± 0 nats/token",
    ]
    odd = [line for line in said.lines if line.startswith("! ")]
    assert odd[0].startswith("! validation got worse: 9.5000 at step 12, the best was ")
    assert odd[-1] == ("! nobody trains here: it was interrupted or killed; step 8 is saved")
    assert said.lines[-1] == "interrupted at step 12 of 12"


def on_a_terminal(*arguments: object) -> tuple[int, subprocess.Popen[bytes]]:
    """The command with a terminal of its own; its other end, and the process."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "mdmkit", *map(str, arguments)]
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "90", "LINES": "30"}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ)
    os.close(theirs)
    return ours, process


def read_until(terminal: int, text: str) -> str:
    shown, ends = "", time.monotonic() + 60
    while text not in shown and time.monotonic() < ends:
        if select.select([terminal], [], [], 1.0)[0]:
            try:
                shown += os.read(terminal, 65536).decode(errors="replace")
            except OSError:  # the other end is closed
                break
    return shown


@pytest.mark.parametrize("leave", ["q", "ctrl-c"])
def test_on_a_terminal_it_is_a_live_view_that_one_can_leave(
    run: Path, training: subprocess.Popen[str], leave: str
) -> None:
    tell(training, '{"step": 12, "seconds": 9.5, "train/loss": 2.25, "train/nonfinite_steps": 0}')
    terminal, process = on_a_terminal("watch", run)
    shown = read_until(terminal, "generated at step")
    assert "running at step 12 of 12" in shown
    assert "training loss" in shown
    if leave == "q":
        os.write(terminal, b"q")
    else:
        process.send_signal(signal.SIGINT)
    shown = read_until(terminal, "\x1b[?25h")  # the cursor is back
    assert process.wait(timeout=60) == 0
    assert "\x1b[?25h" in shown
    assert "Traceback" not in shown
    assert training.poll() is None  # the training does not notice
    os.close(terminal)


def test_what_cannot_be_watched(tmp_path: Path, finished: Path) -> None:
    assert 'run "none": no such run directory' in refused(
        "watch", "none", "--runs-dir", finished.parent, code=1
    )
    assert "no runs are running in" in refused("watch", "--runs-dir", finished.parent, code=1)
    assert "cannot be listed" in refused("watch", "--runs-dir", tmp_path / "none", code=1)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "resolved.json").write_text("{")
    said = mdmkit("watch", tmp_path / "damaged")
    assert said.code == 1
    assert said.lines[0].startswith("! damaged: ")


def test_it_needs_no_torch(finished: Path) -> None:
    code = (
        "import sys\nfrom mdmkit.cli import main\n"
        f"main(['watch', {str(finished)!r}, '--once']); main(['runs', {str(finished.parent)!r}])\n"
        "main(['runs', 'clean', '--dry-run'])\n"
        "sys.exit(bool({'torch', 'numpy', 'cattrs'} & sys.modules.keys()))\n"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode
        == 0
    )
