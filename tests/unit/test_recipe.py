from __future__ import annotations

import json
import tomllib
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdmkit.errors import PluginError, RecipeError
from mdmkit.plugins import Catalogue, Component, load_catalogue
from mdmkit.protocols import TimeSampler
from mdmkit.recipe import (
    Parallel,
    Recipe,
    check_recipe,
    differing_keys,
    dump_recipe,
    load_recipe,
    recipe_from_dict,
    recipe_hash,
    recipe_names,
    recipe_path,
    recipe_toml,
)
from mdmkit.recipe_files import parse_overrides
from mdmkit.shipped import RECIPES

CATALOGUE = load_catalogue({"MDMKIT_PLUGINS": "none"})
MINIMAL = """
[run]
name = "minimal"
[data]
length = 8
corpus = { use = "state_of_the_union" }
tokenizer = { use = "bpe" }
[denoiser]
use = "dit"
width = 16
heads = 2
[train]
steps = 100
global_batch_size = 8
[learning_rate]
warmup_steps = 10
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("minimal.toml").write_text(MINIMAL)
    return tmp_path


def load(source: str | Path = "minimal.toml", *overrides: str) -> Recipe:
    return load_recipe(source, overrides, catalogue=CATALOGUE)


def lines(source: str | Path = "minimal.toml", *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load(source, *overrides)
    return list(caught.value.problems)


# --- loading -------------------------------------------------------------------------------


@pytest.mark.usefixtures("here")
def test_what_is_left_out_has_the_defaults_of_the_tree():
    plain = dump_recipe(load(), CATALOGUE)
    uses = {table: plain[table]["use"] for table in plain if "use" in plain[table]}
    assert uses == {
        "denoiser": "dit",
        "noise_schedule": "linear",
        "time_sampler": "uniform",
        "mask_pattern": "independent",
        "loss_weighting": "elbo",
        "objective": "masked_diffusion",
        "sampler": "ancestral",
    }
    assert plain["data"]["packing"]["use"] == "packed"
    assert plain["run"]["seed"] == 1
    assert plain["optimizer"] == {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0}
    assert "micro_batch_size" not in plain["train"]
    assert plain["evaluators"] == plain["trackers"] == {}


def test_the_lines_of_the_design(here: Path):
    (here / "recipes").mkdir()
    (here / "recipes/owt.toml").write_text(
        MINIMAL.replace("steps = 100", 'steps = "1000"').replace('use = "dit"', 'use = "dot"')
        + "[noise_schedule]\nepz = 1e-3\n"
    )
    assert lines("recipes/owt.toml") == [
        'recipes/owt.toml: [denoiser] use: no denoiser "dot"; did you mean "dit"? '
        "known: dit, transformer",
        'recipes/owt.toml: [noise_schedule] epz: unknown key for "linear"; did you mean eps?',
        'recipes/owt.toml: [train] steps: expected an integer, got the string "1000"',
    ]


def test_missing_tables_and_keys_are_all_named(here: Path):
    (here / "empty.toml").write_text("[data]\n[train]\nsteps = 3\n")
    assert lines("empty.toml") == [
        "empty.toml: [run]: missing; expected a table",
        "empty.toml: [data] length: missing; expected an integer",
        "empty.toml: [data.corpus]: missing; expected a table whose use names a corpus; known: "
        "ag_news, arxiv, embedded, fineweb_edu, hub, lambada, lm1b, markov_text, openwebtext, ptb, "
        "pubmed, state_of_the_union, text, text8, tinystories, topic_text, wikitext103, wikitext2",
        "empty.toml: [data.tokenizer]: missing; expected a table whose use names a tokenizer; "
        "known: bert, bpe, bytes, gpt2, json, text8",
        "empty.toml: [denoiser]: missing; expected a table whose use names a denoiser; "
        "known: dit, transformer",
        "empty.toml: [train] global_batch_size: missing; expected an integer",
    ]


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a b", "-x"])
@pytest.mark.usefixtures("here")
def test_a_run_name_must_be_safe_as_that_of_a_directory(name: str):
    (line,) = lines("minimal.toml", f"run.name={json.dumps(name)}")
    assert line.startswith("--set: [run] name: expected letters, digits and . _ -")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[run\n", "not valid TOML: Expected ']' at the end of a table declaration (at line 1"),
        (b"a = 1\na = 2\n", "not valid TOML: Cannot overwrite a value (at line 2"),
        (b"\xff\xfe", "not valid TOML: not UTF-8 text"),
    ],
)
def test_a_file_that_is_not_toml_is_one_line(here: Path, content: bytes, message: str):
    (here / "bad.toml").write_bytes(content)
    (line,) = lines("bad.toml")
    assert line.startswith(f"bad.toml: {message}")


def test_a_file_that_is_not_there(here: Path):
    assert lines("nowhere/x.toml") == ["nowhere/x.toml: there is no such file"]
    (line,) = lines(here / "quickstart_bell.toml")
    assert line.endswith('the shipped recipe is called "quickstart_bell", without a path')
    (line,) = lines("quickstart_bel")
    assert 'no shipped recipe "quickstart_bel"; did you mean "quickstart_bell"? known: ' in line
    for folder in ("folder.toml", "folder"):
        (here / folder).mkdir(exist_ok=True)
        (line,) = lines(folder)
        assert line.startswith(f"{folder}: is a folder, expected a recipe file; a run goes on with")


# --- extends -------------------------------------------------------------------------------


def test_extends_merges_tables_and_is_relative_to_the_file(here: Path):
    (here / "sub").mkdir()
    (here / "sub/child.toml").write_text(
        'extends = "../minimal.toml"\n[train]\nsteps = 50\n[time_sampler]\neps = 0.1\n'
    )
    (here / "grandchild.toml").write_text('extends = "sub/child.toml"\n[run]\nseed = 7\n')
    made = load("grandchild.toml")
    assert (made.run.name, made.run.seed, made.train.steps) == ("minimal", 7, 50)
    assert made.train.global_batch_size == 8
    assert made.time_sampler == load("minimal.toml", "time_sampler.eps=0.1").time_sampler


def test_another_component_starts_afresh_and_the_same_one_does_not(here: Path):
    (here / "base.toml").write_text(MINIMAL + "[time_sampler]\nuse='bell'\nwidth=0.3\n")
    (here / "same.toml").write_text("extends='base.toml'\n[time_sampler]\nuse='bell'\ncentre=.4\n"
                                    .replace(".4", "0.4"))  # fmt: skip
    (here / "other.toml").write_text("extends='base.toml'\n[time_sampler]\nuse='uniform'\n")
    assert attrs.asdict(load("same.toml").time_sampler)["width"] == 0.3
    assert attrs.asdict(load("other.toml").time_sampler) == {"eps": 0.0}


def test_naming_the_default_component_forgets_nothing(here: Path):
    (here / "base.toml").write_text(MINIMAL + "[time_sampler]\neps = 0.2\n")
    (here / "child.toml").write_text("extends='base.toml'\n[time_sampler]\nuse='uniform'\n")
    (here / "bell.toml").write_text("extends='base.toml'\n[time_sampler]\nuse='bell'\n")
    assert attrs.asdict(load("child.toml").time_sampler) == {"eps": 0.2}
    assert type(load("bell.toml").time_sampler).__name__ == "Bell"


def test_a_line_names_the_file_that_said_it(here: Path):
    (here / "base.toml").write_text(
        MINIMAL.replace("steps = 100", "steps = 0") + "[time_sampler]\nuse='bell'\nwidth=0\n"
    )
    (here / "child.toml").write_text(
        'extends = "base.toml"\n[train]\nglobal_batch_size = "x"\n[evaluators.test]\n'
    )
    assert lines("child.toml", "run.seed=-1") == [
        "--set: [run] seed: expected a value >= 0, got -1",
        "base.toml: [time_sampler] width: expected a value > 0 and <= 1000, got 0",
        "base.toml: [train] steps: expected a value >= 1, got 0",
        'child.toml: [train] global_batch_size: expected an integer, got the string "x"',
        "child.toml: [evaluators.test] use: missing; expected the name of an evaluator; known: "
        "context, duel, few_step, generative_perplexity, gradient, last_word, locality, "
        "loss_by_mask_ratio, mauve, multiple_choice, mutual_information, nelbo",
    ]


def test_what_a_child_resets_is_no_longer_said_by_the_parent(here: Path):
    (here / "base.toml").write_text(
        MINIMAL.replace('{ use = "state_of_the_union" }', '{ use = "lm1b", path = "x" }')
    )
    (here / "child.toml").write_text('extends="base.toml"\n[data.corpus]\nuse = "hub"\n')
    assert lines("child.toml") == ["child.toml: [data.corpus] dataset: missing; expected a string"]


@pytest.mark.parametrize(
    ("files", "line"),
    [
        ({"a": "a.toml"}, "a.toml: extends: goes in a circle: a.toml -> a.toml"),
        (
            {"a": "b.toml", "b": "./a.toml"},
            "b.toml: extends: goes in a circle: a.toml -> b.toml -> a.toml",
        ),
        ({"a": "b.toml"}, "a.toml: extends: b.toml: there is no such file"),
    ],
)
def test_an_ancestor_that_cannot_be(here: Path, files: dict[str, str], line: str):
    for name, parent in files.items():
        (here / f"{name}.toml").write_text(f'extends = "{parent}"\n')
    assert lines("a.toml") == [line]


def test_extends_must_be_a_string(here: Path):
    (here / "a.toml").write_text("extends = 3\n")
    assert lines("a.toml") == ["a.toml: extends: expected a string, got the integer 3"]


def test_extends_may_name_a_shipped_recipe(here: Path):
    (here / "mine.toml").write_text('extends = "quickstart_bell"\n[run]\nname = "mine"\n')
    shipped = load("quickstart_bell")
    assert load("mine.toml") == attrs.evolve(shipped, run=attrs.evolve(shipped.run, name="mine"))
    (here / "none.toml").write_text('extends = "quickstart_bel"\n')
    (line,) = lines("none.toml")
    assert line.startswith('none.toml: extends: no shipped recipe "quickstart_bel"; did you mean')


# --- --set ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("train.steps=10", {"train": {"steps": 10}}),
        (" train . steps = 10 ", {"train": {"steps": 10}}),
        ("a.b=text", {"a": {"b": "text"}}),
        ("a.b=/data/x.txt", {"a": {"b": "/data/x.txt"}}),
        ('a.b="3"', {"a": {"b": "3"}}),
        ("a.b=", {"a": {"b": ""}}),
        ("a.b=c=d", {"a": {"b": "c=d"}}),
        ("a.b=[1, 2]", {"a": {"b": [1, 2]}}),
        ("a={b = 1}", {"a": {"b": 1}}),
        ("a.b=true", {"a": {"b": True}}),
        ("a.b=1\nc = 2", {"a": {"b": "1\nc = 2"}}),
        ('evaluators."my label".use=nelbo', {"evaluators": {"my label": {"use": "nelbo"}}}),
        ("a.'b.c'=1", {"a": {"b.c": 1}}),
    ],
)
def test_an_override_is_toml_or_else_text(text: str, data: dict[str, object]):
    assert parse_overrides([text]).data == data


@pytest.mark.parametrize("text", ["", "train.steps", "=3", "a..b=3", ".a=3", 'a."b=3', "a b=3"])
def test_an_override_without_a_key_is_refused(text: str):
    with pytest.raises(RecipeError) as caught:
        parse_overrides([text, "fine=1"])
    assert caught.value.problems == (
        f"--set: expected table.key=value, got the string {json.dumps(text)}",
    )


def test_an_override_below_a_value_is_refused():
    with pytest.raises(RecipeError, match=r"--set: a\.b\.c goes through what is set to a value"):
        parse_overrides(["a.b=1", "a.b.c=2"])


@pytest.mark.usefixtures("here")
def test_overrides_choose_components_in_any_order():
    overrides = ["time_sampler.width=0.1", "time_sampler.use=bell"]
    assert load("minimal.toml", *overrides) == load("minimal.toml", *reversed(overrides))
    assert attrs.asdict(load("minimal.toml", *overrides).time_sampler)["width"] == 0.1


@pytest.mark.usefixtures("here")
def test_an_override_goes_through_the_same_converter():
    assert lines("minimal.toml", "train.steps=many", "nope=1") == [
        "--set: nope: unknown key",
        '--set: [train] steps: expected an integer, got the string "many"',
    ]


# --- what does not fit together ------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ["objective.use=autoregressive"],
            'minimal.toml: [sampler]: drives a network whose prediction is "masked", but the '
            'objective trains one whose prediction is "next_token"; choose another sampler or '
            "objective with use",
        ),
        (
            ["train.micro_batch_size=3"],
            "--set: [train] micro_batch_size: expected a divisor of global_batch_size (8), got 3",
        ),
        (
            ["train.steps=5"],
            "minimal.toml: [learning_rate] warmup_steps: expected at most the 5 steps of the run, "
            "got 10",
        ),
        (
            ["evaluators.'a/b'.use=nelbo"],
            '--set: [evaluators."a/b"]: a label names files: expected letters, digits and . _ -, '
            'with a letter or digit first; got the string "a/b"',
        ),
    ],
)
@pytest.mark.usefixtures("here")
def test_tables_that_do_not_fit_together(overrides: list[str], line: str):
    assert lines("minimal.toml", *overrides) == [line]


@pytest.mark.usefixtures("here")
def test_everything_that_does_not_fit_is_said_at_once():
    assert len(lines("minimal.toml", "train.steps=5", "train.micro_batch_size=3")) == 2


@attrs.frozen(kw_only=True)
class Rigid:
    """A denoiser that can do little."""

    depth: int = 1
    supports = frozenset({"padding"})
    length_multiple = 16

    def build(self, vocab):
        raise NotImplementedError

    def check(self, recipe):
        yield f"depth: {self.depth} is not enough for {recipe.data.length} tokens"
        yield "this: is no option"


@attrs.frozen(kw_only=True)
class Twins:
    """A mask pattern of two rows."""

    group: int = 2
    every_context = True
    count_law = "binomial"
    needs = frozenset({"positions", "padding"})

    def rate(self, rate, member, size):
        return rate

    def mask(self, *, maskable, **_):
        return maskable


def with_components(*entries: tuple[str, str, type]) -> Catalogue:
    owner = {"distribution": "d", "version": "1", "plugin": "p"}
    added = tuple(
        Component(hook=hook, kind=name, name=name, cls=cls, **owner) for hook, name, cls in entries
    )
    return Catalogue(components=CATALOGUE.components + added)


@pytest.mark.usefixtures("here")
def test_a_denoiser_must_support_what_is_needed_and_components_may_object():
    catalogue = with_components(
        ("mdmkit_denoisers", "rigid", Rigid), ("mdmkit_mask_patterns", "twins", Twins)
    )
    overrides = ["denoiser.use=rigid", "mask_pattern.use=twins", "train.micro_batch_size=1"]
    overrides += ["objective.use=autoregressive", "sampler.use=autoregressive"]
    with pytest.raises(RecipeError) as caught:
        load_recipe("minimal.toml", overrides, catalogue=catalogue)
    assert caught.value.problems == (
        "minimal.toml: [data] length: the denoiser needs a multiple of 16, got 8; 16 is the "
        "nearest",
        "--set: [mask_pattern]: needs a denoiser that supports positions; this one supports "
        "padding",
        "--set: [objective]: needs a denoiser that supports causal; this one supports padding",
        "--set: [train] micro_batch_size: expected a multiple of 2, because the mask pattern makes "
        "2 rows of each sequence; got 1",
        "--set: [denoiser] depth: 1 is not enough for 8 tokens",
        "--set: [denoiser]: this: is no option",
    )


@attrs.frozen(kw_only=True)
class Objecting:
    """A time sampler inside of another that does not like the recipe."""

    def at(self, step):
        return self

    def check(self, recipe):
        yield f"not for {recipe.train.steps} steps"


@attrs.frozen(kw_only=True)
class Holding:
    """A time sampler that holds another."""

    first: TimeSampler

    def at(self, step):
        return self.first


@pytest.mark.usefixtures("here")
def test_a_component_inside_of_another_may_object_too():
    catalogue = with_components(
        ("mdmkit_time_samplers", "objecting", Objecting),
        ("mdmkit_time_samplers", "holding", Holding),
    )
    overrides = ["time_sampler.use=holding", "time_sampler.first.use=objecting"]
    with pytest.raises(RecipeError) as caught:
        load_recipe("minimal.toml", overrides, catalogue=catalogue)
    steps = load().train.steps
    assert caught.value.problems == (f"--set: [time_sampler.first]: not for {steps} steps",)


@pytest.mark.usefixtures("here")
def test_a_recipe_made_in_python_is_checked_by_the_same_rules():
    made = load()
    assert check_recipe(made) == []
    train = attrs.evolve(made.train, micro_batch_size=3)
    assert check_recipe(attrs.evolve(made, train=train)) == [
        "[train] micro_batch_size: expected a divisor of global_batch_size (8), got 3"
    ]


# --- dumping -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_is_right_and_its_dump_is_a_recipe(name: str, tmp_path: Path):
    made = load(name)
    text = recipe_toml(made, CATALOGUE)
    (tmp_path / "shown.toml").write_text(text)
    assert load(tmp_path / "shown.toml") == made
    plain = dump_recipe(made, CATALOGUE)
    assert tomllib.loads(text) == plain == json.loads(json.dumps(plain))
    assert recipe_from_dict(plain, catalogue=CATALOGUE) == made
    assert made.run.name == name


def test_the_recipes_that_are_promised_are_shipped():
    assert set(recipe_names()) >= {
        "quickstart_bell", "quickstart_uniform", "quickstart_ar", "lm1b_bell", "lm1b_uniform",
    }  # fmt: skip


def test_the_two_quickstarts_differ_in_name_time_sampler_and_weighting_alone():
    a, b = (dump_recipe(load(f"quickstart_{x}"), CATALOGUE) for x in ("bell", "uniform"))
    tables = {line.split(".", 1)[0] for line in differing_keys(a, b)}
    assert tables == {"run", "time_sampler", "loss_weighting"}


@given(st.floats(1e-300, 1e300), st.floats(0, 1, exclude_max=True), st.integers(0, 2**63 - 1))
def test_any_number_survives_the_file(peak: float, beta: float, seed: int):
    made = load("quickstart_bell")
    made = attrs.evolve(
        made,
        run=attrs.evolve(made.run, seed=seed),
        optimizer=attrs.evolve(made.optimizer, beta1=beta),
        learning_rate=attrs.evolve(made.learning_rate, peak=peak),
    )
    assert (
        recipe_from_dict(tomllib.loads(recipe_toml(made, CATALOGUE)), catalogue=CATALOGUE) == made
    )


@pytest.mark.usefixtures("here")
def test_the_hash_is_of_what_is_resolved(here: Path):
    made = recipe_hash(load(), CATALOGUE)
    assert len(made) == 8
    assert int(made, 16) >= 0
    (here / "explicit.toml").write_text(MINIMAL + "[noise_schedule]\nuse = 'linear'\neps = 0\n")
    assert recipe_hash(load("explicit.toml"), CATALOGUE) == made
    assert recipe_hash(load("minimal.toml", "train.log_every=11"), CATALOGUE) != made


LAYOUT = {
    "train.micro_batch_size": 4,
    "parallel.mode": "hsdp",
    "parallel.shard_size": 2,
    "parallel.reshard_after_forward": "false",
    "parallel.cpu_offload": "true",
    "parallel.activation_checkpointing": "full",
    "parallel.compile": "true",
}


@pytest.mark.usefixtures("here")
def test_the_hash_leaves_out_the_layout_and_nothing_else():
    made = recipe_hash(load(), CATALOGUE)
    for key, value in LAYOUT.items():
        assert recipe_hash(load("minimal.toml", f"{key}={value}"), CATALOGUE) == made, key
    for key in ("train.precision=bf16_weights", "parallel.param_dtype=bf16"):
        assert recipe_hash(load("minimal.toml", key), CATALOGUE) != made, key
    fields = {f"parallel.{field.name}" for field in attrs.fields(Parallel)}
    assert fields - LAYOUT.keys() == {"parallel.param_dtype", "parallel.reduce_dtype"}


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("mode", ["ddp", "fsdp"])
def test_a_shard_size_that_would_be_ignored_is_refused(mode: str):
    with pytest.raises(RecipeError) as caught:
        load("minimal.toml", f"parallel.mode={mode}", "parallel.shard_size=2")
    (problem,) = caught.value.problems
    assert "[parallel] shard_size: is for hsdp" in problem


@pytest.mark.usefixtures("here")
def test_a_saved_recipe_that_no_longer_fits_names_its_file():
    plain = dump_recipe(load(), CATALOGUE)
    plain["train"]["stepz"] = plain["train"].pop("steps")
    with pytest.raises(RecipeError) as caught:
        recipe_from_dict(plain, "runs/x/resolved.json", catalogue=CATALOGUE)
    assert caught.value.problems == (
        "runs/x/resolved.json: [train] stepz: unknown key; did you mean steps?",
        "runs/x/resolved.json: [train] steps: missing; expected an integer",
    )


@pytest.mark.usefixtures("here")
def test_a_component_that_no_hook_provides_cannot_be_dumped():
    made = attrs.evolve(load(), mask_pattern=Twins())
    with pytest.raises(PluginError, match="Twins is not a registered mask pattern"):
        dump_recipe(made, CATALOGUE)


def test_differing_keys_give_both_values():
    a = {"train": {"steps": 1, "same": 2}, "data": {"x": "a"}, "only": {"left": [1]}}
    b = {"train": {"steps": 2, "same": 2}, "data": {"x": "a"}, "right key": True}
    assert differing_keys(a, b) == [
        "train.steps: 1 -> 2",
        "only.left: [1] -> (not set)",
        '"right key": (not set) -> true',
    ]
    assert differing_keys(a, a) == []


# --- shipped recipes -----------------------------------------------------------------------


def test_a_shipped_recipe_is_copied_and_never_overwrites(here: Path):
    assert RECIPES.copy("quickstart_bell", Path()) == Path("quickstart_bell.toml")
    assert Path("quickstart_bell.toml").read_bytes() == recipe_path("quickstart_bell").read_bytes()
    assert load("quickstart_bell.toml") == load("quickstart_bell")
    before = Path("minimal.toml").read_bytes()
    for target in (Path("minimal.toml"), Path()):
        with pytest.raises(RecipeError, match="exists already"):
            RECIPES.copy("quickstart_bell", target)
    assert Path("minimal.toml").read_bytes() == before
    with pytest.raises(RecipeError, match="cannot be written"):
        RECIPES.copy("quickstart_bell", here / "no/such/folder.toml")
    with pytest.raises(RecipeError, match="no shipped recipe"):
        RECIPES.copy("nothing_like_it", Path())
