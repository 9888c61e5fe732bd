"""Runs, arguments and disks that cannot be used: one clear message, status 1 or 2, no traceback."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import resource
import shutil
from pathlib import Path

import pytest

from mdmkit.cli import main
from mdmkit.training.checkpoint import load_weights, steps_on_disk

from .commands import changed, files, in_a_process, mdmkit, metrics, refused, run_directory

# --- runs ----------------------------------------------------------------------------------


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be harmed."""
    return Path(shutil.copytree(finished, tmp_path / finished.name))


def test_runs_that_cannot_be_made(write, recipe):
    write("file", "")
    (message,) = refused("run", recipe, "--runs-dir", "file/runs", code=1).splitlines()
    assert message.startswith("file/runs/tiny-")
    assert message.endswith(
        ": cannot be made (Not a directory); choose another place with --runs-dir"
    )


def test_a_directory_with_another_recipes_run(finished, recipe):
    before = files(finished)
    other = ("--resume", finished, *changed("run.seed=2"))
    message = refused("run", recipe, *other, code=1)
    assert message.startswith(f"{finished}: holds the run of another recipe; it differs in\n")
    assert "  run.seed: 1 -> 2\n" in message
    assert files(finished) == before


def truncate(run: Path, step: int) -> None:
    (shard,) = (run / "checkpoints" / f"step-{step:08d}").glob("*.distcp")
    os.truncate(shard, shard.stat().st_size // 2)


def test_a_truncated_checkpoint_is_set_aside_and_the_one_before_is_used(
    copy, finished, recipe
) -> None:
    truncate(copy, 12)
    said = mdmkit("run", recipe, "--runs-dir", copy.parent)
    assert (said.code, said.err) == (0, "")
    last = copy / "checkpoints" / "step-00000012"
    assert said.lines[:2] == [
        f"{last}: __0_0.distcp is not as it was written; set aside as bad-step-00000012, trying "
        "the one before",
        "going on from step 8 of 12 (step-00000008)",
    ]
    assert metrics(copy) == metrics(finished)
    assert (copy / "checkpoints" / "bad-step-00000012").is_dir()


@pytest.mark.parametrize("command", ["eval", "sample"])
def test_a_truncated_checkpoint_is_passed_over_and_said(copy, command):
    truncate(copy, 12)
    before = files(copy / "checkpoints")
    said = mdmkit(command, copy)
    last = copy / "checkpoints" / "step-00000012"
    passed = f"{last}: damaged (__0_0.distcp is not as it was written); passed over\n"
    assert (said.code, said.err.startswith(passed)) == (0, True)
    assert files(copy / "checkpoints") == before  # looking changes nothing
    truncate(copy, 8)
    assert refused(command, copy, code=1).endswith(
        f"{copy}: there is no whole checkpoint; found those of steps 8, 12. Choose another with "
        f"--checkpoint, or train on with `mdmkit run --resume {copy}`\n"
    )


def test_a_vocabulary_of_another_run(copy, recipe, tmp_path):
    other = run_directory(
        mdmkit(
            *("run", recipe, "--runs-dir", tmp_path / "other"),
            *changed("data.tokenizer.vocab_size=270", "train.steps=1"),
            *changed("learning_rate.warmup_steps=0"),
        )
    )
    for name in ("tokenizer.json", "tokenizer.special.json"):
        shutil.copy(other / name, copy / name)
    message = refused("eval", copy, code=1)
    assert message.startswith(f"{copy}, step 12: the weights do not fit the network of the recipe:")
    assert "denoiser.vocab_embed.embedding: the weights have (280, 16), the network (270, 16)" in (
        message
    )
    message = refused("run", recipe, "--runs-dir", copy.parent, code=1)
    assert "step-00000012: does not fit this recipe's network and optimizer:\n" in message
    assert "model/denoiser.vocab_embed.embedding: checkpoint (280, 16), run (270, 16)" in message


@pytest.mark.parametrize("command", ["eval", "sample"])
def test_what_is_no_run(command, tmp_path, recipe, finished, monkeypatch):
    assert refused(command, tmp_path, code=1) == (
        f"{tmp_path}: holds no run; expected resolved.json in it\n"
    )
    assert refused(command, recipe, code=1).startswith(f'run "{recipe}": no such run directory')
    message = refused(command, "tyni", code=1)
    assert message.startswith(f'run "tyni": no such run directory; runs in {finished.parent}: ')
    monkeypatch.setenv("MDMKIT_RUNS_DIR", str(tmp_path))
    assert f"there are no runs in {tmp_path}" in refused(command, "tiny", code=1)


@pytest.mark.parametrize("command", ["eval", "sample"])
def test_a_run_without_a_checkpoint(copy, command):
    shutil.rmtree(copy / "checkpoints")
    (copy / "model.safetensors").unlink()
    assert refused(command, copy, code=1).startswith(
        f"{copy}: there is no whole checkpoint; found none."
    )
    (copy / "resolved.json").write_text("{")
    assert refused(command, copy, code=1).startswith(f"{copy}/resolved.json: cannot be read (")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            "eval --checkpoint 5",
            1,
            "there is no whole checkpoint of step 5; found those of steps 8",
        ),
        ("sample --checkpoint 5", 1, "there is no whole checkpoint of step 5; found those of"),
        ("eval --set nonsense", 2, '--set: expected table.key=value, got the string "nonsense"'),
        ("eval --set data.length=8", 2, "--set: [data] is fixed once a run is trained; here only"),
        ("eval --set evaluators.more.use=nebo", 2, 'no evaluator "nebo"; did you mean "nelbo"?'),
        ("eval --split tset", 2, 'got the string "tset"; did you mean "test"?'),
        ("eval --draws 0", 2, "[evaluators.held_out] draws: expected a value >= 1, got 0"),
        ("eval --dtype fp8", 2, 'dtype: expected bf16 or fp32, got "fp8"'),
        ("sample --n 0", 2, "n: expected at least 1 text, got 0"),
        ("sample --steps 0", 2, "[sampler] steps: expected a value >= 1, got 0"),
        ("sample --length 17", 2, "length: expected 1 to 16 tokens (the run was trained on blocks"),
        ("sample --prompt " + "seven-" * 20, 2, "leaves nothing to generate in a length of 16"),
        ("sample --out /", 2, "--out: expected a file that ends in .jsonl or .txt, got /"),
        ("sample --set sampler.use=autoregressive", 2, '"autoregressive" drives a network that'),
    ],
)
def test_arguments_that_cannot_be(finished, arguments, code, message):
    command, *rest = arguments.split()
    before = files(finished)
    said = refused(command, finished, *rest, code=code)
    assert message in said
    assert len(said.splitlines()) == 1
    assert files(finished) == before


@pytest.mark.parametrize("device", ["gpu", "meta", "cpu:1", "cuda:", "cuda:99"])
def test_devices_that_are_not_there(finished, recipe, device):
    expected = f'device: expected auto, cpu, cuda or cuda:1, got "{device}"\n'
    for command in (("run", recipe), ("eval", finished), ("sample", finished)):
        said = refused(*command, "--device", device)
        if device == "cuda:99":
            assert said.startswith('device: "cuda:99" is not there: torch finds ')
        else:
            assert said == expected


# --- full disks ----------------------------------------------------------------------------


def test_a_full_disk_while_saving_leaves_the_old_checkpoint(recipe, tmp_path, finished):
    """No file may grow past 20 kB, which a checkpoint does and nothing else here."""
    command = ("run", recipe, "--runs-dir", tmp_path)
    run = Path(shutil.copytree(finished, tmp_path / finished.name))
    shutil.rmtree(run / "checkpoints" / "step-00000012")
    kept = files(run / "checkpoints")
    said = in_a_process(
        *command, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    )
    assert said.code == 1
    assert said.err == (
        f"{run}/checkpoints/step-00000012: cannot be saved (File too large); the checkpoint of "
        "step 8 is kept. Make room or choose another --runs-dir, then start the same command "
        "again: it goes on from there\n"
    )
    assert files(run / "checkpoints") == kept
    assert load_weights(run).step == 8
    again = mdmkit(*command)  # now there is room
    assert (again.code, again.err) == (0, "")
    assert steps_on_disk(run) == [8, 12]
    assert metrics(run) == metrics(finished)


@pytest.mark.parametrize(
    ("command", "file"),
    [
        ("run", "metrics.jsonl"),
        ("run", "eval/held_out.json"),
        ("run", "model.safetensors"),
        ("eval", "eval/held_out.json"),
        ("sample", "texts.jsonl"),
    ],
)
def test_a_full_disk_anywhere_else_is_said_with_the_file(copy, recipe, monkeypatch, command, file):
    def full(path: Path, *_: object) -> None:
        if str(path).endswith(file):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return write(path, *_)

    import mdmkit.files

    write = mdmkit.files.write_atomic
    for module in ("files", "metrics_log", "training.finish", "report.sample_files"):
        monkeypatch.setattr(f"mdmkit.{module}.write_atomic", full)
    if file == "metrics.jsonl":  # a torn last line is dropped when the run goes on
        (copy / file).write_bytes((copy / file).read_bytes() + b'{"step": 12')
    arguments = {
        "run": ("run", recipe, "--runs-dir", copy.parent),
        "eval": ("eval", copy),
        "sample": ("sample", copy, "-n", 1, "--out", copy / file),
    }
    *before, message = refused(*arguments[command], code=1).splitlines()
    assert message.startswith(f"{copy}/{file}: cannot be written (No space left on device); make ")
    assert ["network calls" in line for line in before] == [True] * (command == "sample")


def test_output_into_a_full_disk(recipe):
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    said = io.StringIO()
    with contextlib.redirect_stdout(Full()), contextlib.redirect_stderr(said):
        assert main(["check", str(recipe)]) == 1
    assert said.getvalue() == (
        "the output: cannot be written (No space left on device); make room\n"
    )
