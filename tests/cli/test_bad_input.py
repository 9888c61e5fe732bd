"""What a user gets for a mistake: one clear message, the right exit status, no traceback."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mdmkit.cli import main
from mdmkit.training.checkpoint import load_weights, steps_on_disk

from .commands import files, in_a_process, mdmkit, metrics, run_directory

Install = Callable[..., Path]


def refused(*arguments: object, code: int = 2) -> str:
    """What a command that is to fail says on stderr; it prints no result."""
    said = mdmkit(*arguments)
    assert said.code == code, said.err
    assert "Run directory" not in said.out
    return said.err


def changed(*assignments: str) -> list[str]:
    return [word for assignment in assignments for word in ("--set", assignment)]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
    """``write(name, text)`` makes a file in the working directory."""
    monkeypatch.chdir(tmp_path)

    def written(name: str, text: str) -> str:
        Path(name).write_text(text)
        return name

    return written


# --- recipes -------------------------------------------------------------------------------


def test_every_error_of_a_file_at_once(write, recipe):
    write("base.toml", recipe.read_text().replace("steps = 12", 'steps = "1000"'))
    write(
        "mine.toml",
        """
        extends = "base.toml"
        [train]
        stepz = 3
        clip_norm = true
        validate_every = 2.5
        [noise_schedule]
        epz = 0.1
        [time_sampler]
        width = 0
        [denoiser]
        use = "dot"
        [learning]
        peak = 1
        """,
    )
    assert refused("run", "mine.toml").splitlines() == [
        "mine.toml: learning: unknown key; did you mean learning_rate?",
        'mine.toml: [denoiser] use: no denoiser "dot"; did you mean "dit"? known: dit',
        'mine.toml: [noise_schedule] epz: unknown key for "linear"; did you mean eps?',
        "mine.toml: [time_sampler] width: expected a value > 0 and <= 1000, got 0",
        "mine.toml: [train] stepz: unknown key; did you mean steps?",
        'base.toml: [train] steps: expected an integer, got the string "1000"',
        "mine.toml: [train] validate_every: expected an integer, got the number 2.5",
        "mine.toml: [train] clip_norm: expected a number, got the boolean true",
    ]


def test_missing_tables(write):
    write("bare.toml", '[run]\nname = "bare"\n[data]\nlength = 8\n')
    assert refused("run", "bare.toml").splitlines() == [
        "bare.toml: [data.corpus]: missing; expected a table whose use names a corpus; known: hub, "
        "lm1b, state_of_the_union, text",
        "bare.toml: [data.tokenizer]: missing; expected a table whose use names a tokenizer; "
        "known: bert, bpe, json",
        "bare.toml: [denoiser]: missing; expected a table whose use names a denoiser; known: dit",
        "bare.toml: [train]: missing; expected a table",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[run]\nname = \n", "x.toml: not valid TOML: Invalid value (at line 2, column 8)\n"),
        ('extends = "x.toml"\n', "x.toml: extends: goes in a circle: x.toml -> x.toml\n"),
        ('extends = "gone.toml"\n', "x.toml: extends: gone.toml: there is no such file\n"),
        (
            'extends = "quickstart_bel"\n',
            'x.toml: extends: no shipped recipe "quickstart_bel"; did you mean "quickstart_bell"? ',
        ),
        ("extends = 3\n", "x.toml: extends: expected a string, got the integer 3\n"),
    ],
)
def test_a_file_that_cannot_be_put_together(write, text, message):
    write("x.toml", text)
    assert refused("run", "x.toml").startswith(message)


def test_a_longer_circle_is_shown(write):
    write("a.toml", 'extends = "b.toml"\n')
    write("b.toml", 'extends = "a.toml"\n')
    assert refused("run", "a.toml") == (
        "b.toml: extends: goes in a circle: a.toml -> b.toml -> a.toml\n"
    )


def test_a_recipe_that_is_not_there(write, finished):
    assert refused("run", "x.toml") == "x.toml: there is no such file\n"
    assert 'did you mean "quickstart_bell"?' in refused("run", "quickstart_bel")
    assert refused("run", finished) == (
        f"{finished}: is a folder, expected a recipe file; a run goes on with "
        f"`mdmkit run --resume {finished}`\n"
    )
    assert refused("run").startswith("run: name a recipe (`mdmkit recipes` lists some)")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.steps", '--set: expected table.key=value, got the string "train.steps"\n'),
        ("=3", '--set: expected table.key=value, got the string "=3"\n'),
        ("train.steps=ten", '--set: [train] steps: expected an integer, got the string "ten"\n'),
        ("train.stepz=10", "--set: [train] stepz: unknown key; did you mean steps?\n"),
        ("train=3", "--set: train: expected a table, got the integer 3\n"),
        ("train.steps=0", "--set: [train] steps: expected a value >= 1, got 0\n"),
        ("run.name=../up", "--set: [run] name: expected letters, digits and . _ -, with a letter"),
        ("learning_rate.warmup_steps=13", "--set: [learning_rate] warmup_steps: expected at most"),
        ("train.micro_batch_size=3", "--set: [train] micro_batch_size: expected a divisor of"),
        (
            "denoiser.heads=3",
            "--set: [denoiser]: width 16 over heads 3 must be a whole, even number",
        ),
        (
            "objective.use=autoregressive",
            '{recipe}: [sampler]: drives a network whose prediction is "masked", but the objective '
            'trains one whose prediction is "next_token"; choose another sampler or objective',
        ),
    ],
)
def test_a_change_that_does_not_fit(recipe, override, message):
    said = refused("run", recipe, *changed(override))
    assert said.startswith(message.format(recipe=recipe))
    assert len(said.splitlines()) == 1


# --- text ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("split", "content", "message"),
    [
        ("train", None, "data.corpus.train: nothing to read at 'x.txt'; expected an existing file"),
        ("train", b"", "x.txt: no document in it; expected text that is not only white space"),
        ("train", b"abc \xff", "x.txt: byte 4 (0xff) is not UTF-8; expected UTF-8 text"),
        ("train", b"some text", "data.tokenizer.vocab_size: the training text is enough for"),
        ("validation", b" \n", "x.txt: no document in it"),
        ("validation", b"short", "data.corpus: the validation split is shorter than one block: "),
        ("test", None, "data.corpus.test: nothing to read at 'x.txt'"),
        ("test", b"short", "data.corpus: the test split is shorter than one block: 1 documents "),
    ],
)
def test_text_that_cannot_be_used_is_said_before_the_training(
    write, recipe, split, content, message
):
    if content is not None:
        Path("x.txt").write_bytes(content)
    said = mdmkit("run", recipe, *changed(f"data.corpus.{split}=x.txt"))
    assert said.code == 2
    assert said.err.startswith(message)
    assert len(said.err.splitlines()) == 1
    assert "step" not in said.out


def test_a_block_that_is_longer_than_the_text(recipe):
    said = refused("run", recipe, *changed("data.length=10000"))
    assert said.startswith("data.corpus: the train split is shorter than one block: 1 documents")
    assert said.endswith("a block has 10000; give more text or lower data.length\n")


def test_a_tokenizer_without_the_mask(recipe, finished):
    path = finished / "tokenizer.json"
    tokenizer = f'data.tokenizer={{use="json", path="{path}", mask="<mask>"}}'
    said = refused("run", recipe, *changed(tokenizer))
    assert said.startswith(
        f'{path}: the mask token "<mask>" is not in the vocabulary; did you mean'
    )
    assert "set data.tokenizer.mask to the one that is, or data.tokenizer.add_mask = true" in said


def test_a_cache_that_cannot_be_written(write, recipe, monkeypatch):
    monkeypatch.setenv("MDMKIT_CACHE_DIR", write("file", "") + "/cache")
    assert refused("run", recipe, "--runs-dir", "elsewhere") == (
        "file/cache/tokenizers: cannot write here: Not a directory; free some space, or set "
        "MDMKIT_CACHE_DIR to a folder with room\n"
    )


# --- plugins -------------------------------------------------------------------------------

COARSE = """
    from typing import ClassVar
    from attrs import frozen
    from mdmkit import hookimpl, option

    @frozen(kw_only=True)
    class Coarse:
        length_multiple: ClassVar[int] = 32
        supports: ClassVar[frozenset] = frozenset({"t"})

        def build(self, vocab):
            raise AssertionError("it is refused before")

    @hookimpl
    def mdmkit_denoisers():
        return {"coarse": Coarse}
"""


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Say which distributions count."""
    return lambda names: monkeypatch.setenv("MDMKIT_PLUGINS", names)


def test_what_a_denoiser_cannot_do_is_said_by_check_and_run(
    recipe, distribution: Install, plugins
) -> None:
    distribution("mdmkit-coarse", COARSE)
    plugins("mdmkit-coarse")
    choices = changed("denoiser.use=coarse", "objective.use=autoregressive", "data.length=50")
    choices += changed("sampler.use=autoregressive")
    for command in ("check", "run"):
        assert refused(command, recipe, *choices).splitlines() == [
            "--set: [data] length: the denoiser needs a multiple of 32, got 50; 64 is the nearest",
            "--set: [objective]: needs a denoiser that supports causal; this one supports t",
        ]


def test_a_broken_plugin_harms_only_recipes_that_need_it(
    recipe, distribution: Install, plugins, triangle
) -> None:
    distribution("mdmkit-triangle", triangle)
    distribution("mdmkit-broken", "import nothing_there", entry="bad")
    plugins("mdmkit-triangle,mdmkit-broken")
    short = changed("train.steps=1", "learning_rate.warmup_steps=0", "time_sampler.use=triangle")
    assert mdmkit("run", recipe, *short).code == 0
    assert refused("run", recipe, *changed("time_sampler.use=square")) == (
        '--set: [time_sampler] use: no time sampler "square"; known: bell, triangle, uniform; a '
        "plugin that might provide it is broken: mdmkit-broken 1.0 (bad) could not be loaded: "
        "ModuleNotFoundError: No module named 'nothing_there'\n"
    )


def test_a_run_whose_plugin_is_gone_says_what_is_missing(
    recipe, tmp_path, distribution: Install, plugins, triangle
) -> None:
    distribution("mdmkit-triangle", triangle)
    plugins("mdmkit-triangle")
    short = changed("train.steps=2", "learning_rate.warmup_steps=0", "time_sampler.use=triangle")
    run = run_directory(mdmkit("run", recipe, *short, "--runs-dir", tmp_path))
    plugins("none")
    missing = f'{run}/resolved.json: [time_sampler] use: no time sampler "triangle"; known: bell, '
    for command in (("eval", run), ("sample", run), ("run", "--resume", run)):
        assert refused(*command).startswith(missing)


def test_two_distributions_with_one_name(recipe, distribution: Install, plugins, triangle) -> None:
    distribution("mdmkit-one", triangle)
    distribution("mdmkit-two", triangle)
    plugins("mdmkit-one,mdmkit-two")
    assert refused("run", recipe) == (
        'two components provide the time sampler "triangle": mdmkit-one 1.0 (plugin) and '
        "mdmkit-two 1.0 (plugin); uninstall one of them, or choose with "
        "MDMKIT_PLUGINS=<distributions>\n"
    )
    plugins("none")  # without any of them all is well
    assert mdmkit("check", recipe).code == 0
    plugins("mdmkit-tow")
    assert 'did you mean "mdmkit-two"?' in refused("check", recipe)


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
        ("eval --precision fp8", 2, 'precision: expected bf16 or fp32, got "fp8"'),
        ("sample --n 0", 2, "n: expected at least 1 text, got 0"),
        ("sample --steps 0", 2, "[sampler] steps: expected a value >= 1, got 0"),
        ("sample --length 17", 2, "length: expected 1 to 16 tokens (the run was trained on blocks"),
        ("sample --prompt " + "seven-" * 20, 2, "leaves nothing to generate in a length of 16"),
        ("sample --out /", 2, "--out: / exists already; choose another name, or remove it"),
        ("sample --set sampler.use=autoregressive", 2, "--set: [sampler]: drives a network whose"),
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
    for module in ("files", "metrics_log", "training.finish"):
        monkeypatch.setattr(f"mdmkit.{module}.write_atomic", full)
    if file == "metrics.jsonl":  # a torn last line is dropped when the run goes on
        (copy / file).write_bytes((copy / file).read_bytes() + b'{"step": 12')
    arguments = {
        "run": ("run", recipe, "--runs-dir", copy.parent),
        "eval": ("eval", copy),
        "sample": ("sample", copy, "-n", 1, "--out", copy / file),
    }
    message = refused(*arguments[command], code=1)
    assert message.startswith(f"{copy}/{file}: cannot be written (No space left on device); make ")
    assert len(message.splitlines()) == 1


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
