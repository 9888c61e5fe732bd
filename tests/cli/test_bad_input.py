"""Recipes, text and plugins that cannot be used: one clear message, status 2, no traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mdmkit.builtin.time_samplers import mdmkit_time_samplers

from .commands import changed, mdmkit, refused, run_directory

Install = Callable[..., Path]


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
        'mine.toml: [denoiser] use: no denoiser "dot"; did you mean "dit"? known: dit, transformer',
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
        "bare.toml: [data.corpus]: missing; expected a table whose use names a corpus; known: "
        "ag_news, arxiv, embedded, fineweb_edu, hub, lambada, lm1b, markov_text, openwebtext, ptb, "
        "pubmed, state_of_the_union, text, text8, tinystories, topic_text, wikitext103, wikitext2",
        "bare.toml: [data.tokenizer]: missing; expected a table whose use names a tokenizer; "
        "known: bert, bpe, bytes, gpt2, json, text8",
        "bare.toml: [denoiser]: missing; expected a table whose use names a denoiser; "
        "known: dit, transformer",
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
        (
            "data.detokenizer=lambda",
            '--set: [data] detokenizer: expected "none" or "wikitext" or "ptb" or "lm1b" or '
            '"lambada" or "scientific_papers", got the string "lambda"; did you mean "lambada"?\n',
        ),
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
    for packing, needed in (("document", "document_ids"), ("padded", "padding")):
        choices = changed("denoiser.use=coarse", "data.length=64", f"data.packing.use={packing}")
        assert refused("check", recipe, *choices) == (
            f"--set: [data.packing]: needs a denoiser that supports {needed}; this one supports t\n"
        )


def test_a_broken_plugin_harms_only_recipes_that_need_it(
    recipe, distribution: Install, plugins, triangle
) -> None:
    distribution("mdmkit-triangle", triangle)
    distribution("mdmkit-broken", "import nothing_there", entry="bad")
    plugins("mdmkit-triangle,mdmkit-broken")
    short = changed("train.steps=1", "learning_rate.warmup_steps=0", "time_sampler.use=triangle")
    assert mdmkit("run", recipe, *short).code == 0
    known = ", ".join(sorted([*mdmkit_time_samplers(), "triangle"]))
    assert refused("run", recipe, *changed("time_sampler.use=square")) == (
        f'--set: [time_sampler] use: no time sampler "square"; known: {known}; a '
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
    missing = f'{run}/resolved.json: [time_sampler] use: no time sampler "triangle"; known: '
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
