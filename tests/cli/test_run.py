"""`mdmkit run` as a newcomer types it: what it says, what it leaves, and how it goes on."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shlex
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from mdmkit.builtin.objectives import LiveMaskedDiffusion

from .commands import Said, files, mdmkit, metrics, run_directory

# Enough steps for a signal to come in the middle of them.
LONGER = (
    *("--set", "train.steps=40"),
    *("--set", "train.checkpoint_every=6"),
    *("--set", "train.validate_blocks=32"),
)


@pytest.fixture(scope="module")
def first(recipe: Path) -> Said:
    return mdmkit("run", recipe)


@pytest.fixture(scope="module")
def uninterrupted(recipe: Path, home: Path) -> list[dict[str, float]]:
    """The metrics of the longer run that nobody stopped."""
    return metrics(run_directory(mdmkit("run", recipe, *LONGER, "--runs-dir", home / "whole")))


def test_it_prints_progress_numbers_text_and_what_is_next(first: Said, home: Path) -> None:
    assert (first.code, first.err) == (0, "")
    assert first.lines[:2] == ["training the tokenizer", "tokenizing the train split"]
    validations = [line.split("  ")[0] for line in first.lines if "validation NELBO" in line]
    assert validations == ["step 0/12", "step 4/12", "step 8/12", "step 12/12"]
    *_, progress = [line for line in first.lines if "tokens/s" in line]  # more where it is slow
    assert re.fullmatch(r"step 12/12  loss \d+\.\d{4}  [\d.]+k? tokens/s  ETA 0s", progress)
    assert "held_out · split test · 146 blocks × 1 draw · step 12, EMA" in first.lines
    for name, unit in (("nelbo", "nats/token"), ("bits", "bits/token")):
        assert re.search(rf"^  {name}_per_token +\d+\.\d+ ± \d\.\d+ +{unit}$", first.out, re.M)
    assert re.search(r"^  ppl +\d+\.\d+ ± \d\.\d+$", first.out, re.M)
    samples = [line for line in first.lines if line.startswith("sample ")]
    assert samples == [
        f"sample {row} · seed 0 · ancestral · 4 network evaluations" for row in range(3)
    ]
    directory = run_directory(first)
    assert directory.parent == home / "runs"
    assert first.lines[-3:] == [
        "Next:",
        f"  mdmkit eval {directory}",
        f"  mdmkit sample {directory}",
    ]


def test_what_it_says_to_type_next_works(first: Said) -> None:
    measure, generate = (shlex.split(line)[1:] for line in first.lines[-2:])
    measured = mdmkit(*measure)
    assert measured.code == 0
    assert measured.lines == [  # the same weights on the same blocks: the same numbers
        line for line in first.lines if line in measured.lines
    ]
    assert len(measured.lines) == 6
    assert "eval/held_out.json: replaced\n" in measured.err
    generated = mdmkit(*generate)
    assert generated.code == 0
    assert generated.err.startswith("4 texts: 64 tokens generated in ")
    assert len(generated.err.splitlines()) == 1
    assert [line for line in generated.lines if line.startswith("sample ")][3].startswith(
        "sample 3 · seed 0"
    )


def test_a_second_time_it_trains_nothing(
    first: Said, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = run_directory(first)
    before = files(directory / "checkpoints"), (directory / "metrics.jsonl").read_bytes()
    monkeypatch.setattr(LiveMaskedDiffusion, "corrupt", None)  # training would call it
    again = mdmkit("run", recipe)
    assert (again.code, again.err) == (0, "")
    assert again.lines[0] == "all 12 steps are trained already (step-00000012); evaluating"
    assert again.lines[-8:] == first.lines[-8:]
    assert (files(directory / "checkpoints"), (directory / "metrics.jsonl").read_bytes()) == before


def test_set_changes_the_recipe_and_json_is_all_there_is(first: Said, recipe: Path) -> None:
    changes = ("train.steps=2", "learning_rate.warmup_steps=1", "run.name=json")
    said = mdmkit("run", recipe, "--json", *(word for c in changes for word in ("--set", c)))
    assert (said.code, said.err) == (0, "")
    outcome = json.loads(said.out)
    assert outcome["step"] == 2
    assert Path(outcome["directory"]).name.startswith("json-")
    assert Path(outcome["directory"]) != run_directory(first)
    nelbo = outcome["results"]["held_out"]["measurements"]["nelbo_per_token"]
    assert nelbo["stderr"] > 0
    assert [len(sample["ids"]) for sample in outcome["samples"]] == [16] * 3
    saved = json.loads((Path(outcome["directory"]) / "resolved.json").read_text())
    assert saved["train"]["steps"] == 2


def test_where_runs_go(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = ("--set", "train.steps=1", "--set", "learning_rate.warmup_steps=0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MDMKIT_RUNS_DIR", str(tmp_path / "named"))
    given = run_directory(mdmkit("run", recipe, *short, "--runs-dir", "given"))
    named = run_directory(mdmkit("run", recipe, *short))
    monkeypatch.delenv("MDMKIT_RUNS_DIR")
    default = run_directory(mdmkit("run", recipe, *short))
    assert [given.parent, named.parent, default.parent] == [
        Path("given"),
        tmp_path / "named",
        Path("runs"),
    ]
    # A run is found by its name, too, wherever the folder of runs is.
    assert mdmkit("sample", "tiny", "-n", 1, "--runs-dir", "given").code == 0
    assert mdmkit("sample", named, "-n", 1).code == 0


# --- interrupted ---------------------------------------------------------------------------


KILLER = """
import os, random, signal, sys, time
# All that takes long is imported once, for all that are forked off.
import mdmkit.training.loop, mdmkit.builtin.evaluators.nelbo.pair_table, torch._dynamo
from mdmkit.cli import main

for seed in range(3):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writing, 1)
        os._exit(main(sys.argv[1:]))
    os.close(writing)
    with open(reading) as lines:
        for line in lines:
            if "validation NELBO" in line or "going on from step" in line:
                break
        time.sleep(random.Random(seed).uniform(0, 0.3))
        os.kill(child, signal.SIGKILL)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_run_killed_again_and_again_ends_the_same(
    recipe: Path, home: Path, uninterrupted: list[dict[str, float]]
) -> None:
    command = ("run", recipe, *LONGER, "--runs-dir", home / "killed")
    killer = subprocess.run(
        [sys.executable, "-c", KILLER, *map(str, command)],
        capture_output=True,
        check=True,
        text=True,
    )
    assert str(-signal.SIGKILL) in killer.stdout.split()  # a quick machine may end the last one
    assert set(killer.stdout.split()) <= {str(-signal.SIGKILL), "0"}, killer.stderr
    (directory,) = (home / "killed").iterdir()
    # Its directory alone says everything: this time without the recipe.
    said = mdmkit("run", "--resume", directory)
    assert (said.code, said.err) == (0, "")
    assert run_directory(said) == directory
    assert metrics(directory) == uninterrupted


def test_ctrl_c_on_a_terminal_says_how_to_go_on_and_the_run_ends_the_same(
    recipe: Path, home: Path, uninterrupted: list[dict[str, float]]
) -> None:
    command = ("run", recipe, *LONGER, "--runs-dir", home / "interrupted")
    code, shown = press_ctrl_c(command, when="step 8/40  validation")
    assert code == 130
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown).replace("\r", "\n")
    number = r"\d+(\.\d+)?"
    assert re.search(
        rf"step \d+/40 \S+ loss {number} {number}k? tokens/s val {number} ETA \d:\d\d:\d\d", text
    )
    assert "…" not in text
    assert "Traceback" not in text
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor is back
    stopped = re.search(
        r"stopped at step (\d+) of 40; everything is saved in (.*)\. Start the same command again "
        r"to go on from there\n",
        text,
    )
    assert stopped, text
    assert 8 <= int(stopped[1]) < 40
    again = mdmkit(*command)
    assert (again.code, again.err) == (0, "")
    assert again.lines[0] == f"going on from step {stopped[1]} of 40 (step-{stopped[1]:0>8})"
    assert run_directory(again) == Path(stopped[2])
    assert metrics(run_directory(again)) == uninterrupted


def press_ctrl_c(command: tuple[object, ...], *, when: str) -> tuple[int, str]:
    """Type a command on a terminal of 80 columns, and the key as soon as it says `when`.

    Returns:
        The exit status and everything that the terminal was sent.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "mdmkit", *map(str, command)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={k: v for k, v in os.environ.items() if k != "COLUMNS"} | {"TERM": "xterm-256color"},
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that the key reaches it
    )
    os.close(theirs)
    shown, pressed = "", False
    while chunk := read_terminal(ours):
        shown += chunk
        if not pressed and when in shown:
            os.write(ours, b"\x03")
            pressed = True
    os.close(ours)
    return process.wait(), shown


def read_terminal(descriptor: int) -> str:
    """What comes next, or nothing when the other side is closed."""
    try:
        return os.read(descriptor, 65536).decode(errors="replace")
    except OSError:
        return ""


@pytest.mark.parametrize(
    "moment", ["mdmkit.training.job.build_root", "mdmkit.training.loop.finish"]
)
def test_outside_of_the_steps_it_stops_at_once(
    finished: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(moment, interrupted)
    said = mdmkit("run", recipe)
    assert said.code == 130
    assert said.err == (
        f"stopped at once; step 12 is saved in {finished}. Start the same command again to go on "
        "from there\n"
    )


# --- resume --------------------------------------------------------------------------------


def test_a_changed_recipe_is_refused_with_its_keys(finished: Path, recipe: Path) -> None:
    before = files(finished)
    changes = ("--set", "train.steps=13", "--set", "denoiser.dropout=0.1")
    said = mdmkit("run", recipe, *changes, "--resume", finished)
    assert (said.code, said.out) == (1, "")
    assert said.err.splitlines() == [
        f"{finished}: holds the run of another recipe; it differs in",
        "  denoiser.dropout: 0.0 -> 0.1",
        "  train.steps: 12 -> 13",
        "Undo that, or leave out --resume: a changed recipe gets a directory of its own",
    ]
    assert files(finished) == before


def test_resume_without_a_recipe_takes_no_changes(finished: Path) -> None:
    said = mdmkit("run", "--resume", finished, "--set", "train.steps=13")
    assert (said.code, said.out) == (2, "")
    assert said.err == "--set: a run that goes on keeps its recipe; leave it out\n"


def test_resume_of_what_is_no_run(finished: Path, recipe: Path, tmp_path: Path) -> None:
    for words in ((), (recipe,)):  # with or without the recipe: a typo starts nothing
        said = mdmkit("run", *words, "--resume", tmp_path)
        assert (said.code, said.out) == (1, "")
        assert said.err == f"{tmp_path}: holds no run; expected resolved.json in it\n"
        said = mdmkit("run", *words, "--resume", finished.with_name(finished.name[:-1]))
        assert said.code == 1
        assert f'did you mean "{finished.name}"' in said.err
    assert list(tmp_path.iterdir()) == []
