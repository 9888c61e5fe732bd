"""``mdmkit eval --suite``: the table, the file, what is missing, replay; and plugins in suites."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from mdmkit.data.detokenizers import detokenize
from mdmkit.data.text_tokenizer import load_tokenizer
from mdmkit.shipped import SUITES
from mdmkit.suites import load_suite
from mdmkit.training.checkpoint import load_weights
from mdmkit.training.distributed import World
from mdmkit.training.saving import save_checkpoint

from ..unit.evaluation.runs import make_run
from .commands import mdmkit, refused

AR = '[objective]\nuse = "autoregressive"\n[sampler]\nuse = "autoregressive"\n'
SUITE = """# Two sets
title = "Two sets"
[protocol]
packing = { use = "packed" }
evaluator = { use = "nelbo", split = "test", draws = 2 }
[sets.squares]
[sets.lines]
corpus = { use = "text", test = "lines.txt" }
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("suites")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MDMKIT_CACHE_DIR", str(folder / "cache"))
        patch.setenv("MDMKIT_RUNS_DIR", str(folder / "runs"))
        patch.setenv("MDMKIT_PLUGINS", "none")
        (folder / "ar").mkdir()
        masked, ar = make_run(folder, extra=""), make_run(folder / "ar", extra=AR)
        shutil.move(ar, folder / "runs" / "next")
        shutil.move(masked, folder / "runs" / "masked")
        yield folder


@pytest.fixture(autouse=True)
def here(home, tmp_path, monkeypatch):
    """A working directory with a suite and its text; the runs of `home`, without results."""
    monkeypatch.chdir(tmp_path)
    for run in (home / "runs").iterdir():
        shutil.rmtree(run / "eval", ignore_errors=True)
    Path("lines.txt").write_text("".join(f"{n}, {n + 1} and {n + 2}\n" for n in range(60)))
    Path("two.toml").write_text(SUITE)
    return tmp_path


def test_a_suite_is_a_row_a_set_and_a_file(home):
    said = mdmkit("eval", "masked", "--suite", "two.toml")
    assert said.code == 0, said.err
    title, weights, header, *rows = said.lines
    assert title == "two · Two sets"
    assert weights == "  run masked · step 6, EMA · fp32 · seed 0"
    assert header.split()[:3] == ["set", "nats/token", "ppl"]
    assert header.split()[3:] == ["bits/byte", "tokens", "blocks", "draws"]
    assert [row.split()[0] for row in rows] == ["squares", "lines"]
    plain = json.loads((home / "runs" / "masked" / "eval" / "two.json").read_text())
    told = plain["sets"]["lines"]["provenance"]
    assert rows[1].split()[-3:] == [str(told["tokens_scored"]), str(told["blocks"]), "2"]
    assert "≤" in rows[1]
    assert said.err.endswith(f"{home}/runs/masked/eval/two.json: written\n")


def test_json_is_what_the_file_holds(home):
    said = mdmkit("eval", "masked", "--suite", "two.toml", "--json")
    path = home / "runs" / "masked" / "eval" / "two.json"
    assert json.loads(said.out) == json.loads(path.read_text())


def test_masked_and_autoregressive_runs_stand_in_one_table():
    said = mdmkit("eval", "masked", "next", "--suite", "two.toml", "--only", "lines")
    assert said.code == 0, said.err
    *_, header, masked, ar = said.lines
    assert header.split()[:2] == ["set", "run"]
    assert masked.split()[:3] == ["lines", "masked", "≤"]
    assert ar.split()[:2] == ["lines", "next"]
    assert ar.endswith(" exact")
    assert "≤" not in ar
    both = json.loads(mdmkit("eval", "masked", "next", "--suite", "two.toml", "--json").out)
    assert [entry["sets"]["lines"]["provenance"]["exact"] for entry in both] == [False, True]


def test_two_suites_and_sources_for_their_sets():
    Path("more.toml").write_text(SUITE.replace("Two", "More").replace("lines]", "more]"))
    shutil.move("lines.txt", "moved.txt")
    suites = ("--suite", "two.toml", "--suite", "more.toml")
    sources = ("--source", "lines=moved.txt", "--source", "more=moved.txt")
    said = mdmkit("eval", "masked", *suites, *sources)
    assert said.code == 0, said.err
    assert [line.split(" · ")[0] for line in said.lines if "·" in line and line[0] != " "] == [
        "two", "more",
    ]  # fmt: skip
    message = refused("eval", "masked", *suites, "--source", "moer=moved.txt")
    assert message.startswith('--source: there is no set "moer"; did you mean "more"?')


def test_what_is_missing_is_one_error_or_stands_in_the_table(home):
    Path("lines.txt").unlink()
    message = refused("eval", "masked", "--suite", "two.toml")
    assert message.startswith("suite two: 1 of 2 sets cannot be had:\n  lines: sets.lines.corpus.t")
    assert "--source lines=FILE" in message
    said = mdmkit("eval", "masked", "--suite", "two.toml", "--allow-missing")
    assert said.code == 0
    assert [line.split()[:2] for line in said.lines[-2:]] == [["lines", "missing"], ["lines", "is"]]
    plain = json.loads((home / "runs" / "masked" / "eval" / "two.json").read_text())
    assert list(plain["missing"]) == ["lines"]
    assert list(plain["sets"]) == ["squares"]


def test_replay_says_whether_a_file_is_found_again(home, tmp_path):
    mdmkit("eval", "masked", "--suite", "two.toml", "--seed", 2)
    path = home / "runs" / "masked" / "eval" / "two.json"
    said = mdmkit("eval", "--replay", path)
    assert said.code == 0, said.err
    assert said.lines[-1] == f"{path}: found again"
    assert all("the same, bit for bit" in line for line in said.lines[1:-1])
    copy = Path(shutil.copytree(home / "runs" / "masked", tmp_path / "copy"))
    state = load_weights(copy).state
    shutil.rmtree(copy / "checkpoints" / "step-00000006")
    tensors = {f"{kind}/{name}": 1.2 * value for name, value in state.items()
               for kind in ("model", "ema")}  # fmt: skip
    save_checkpoint(copy, 6, tensors, {}, world=World(device=torch.device("cpu")), keep=0)
    for arguments in (("--replay", copy / "eval" / "two.json"), (copy, "--replay", path)):
        changed = mdmkit("eval", *arguments)
        assert changed.code == 1
        assert "not the same measurement: squares: weights_sha256: " in changed.out
        assert changed.lines[-1].endswith("two.json: NOT found again")
    plain = json.loads(mdmkit("eval", copy, "--replay", path, "--json").out)
    assert plain["matches"] is False
    assert {entry["bitwise"] for entry in plain["numbers"]} == {False}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("masked --precision bf16", "for the arithmetic use --dtype bf16"),
        ("masked --precision fp32 --suite two.toml", "for the arithmetic use --dtype fp32"),
        ("masked --precision little", 'expected a number such as 0.01, got "little"'),
        ("masked --source lines=x", "--source: needs a suite; add --zero-shot or --suite NAME"),
        ("masked --allow-missing", "--allow-missing: needs a suite"),
        ("masked --preset mdlm", "--preset: needs a suite"),
        ("masked next", "RUN: 2 runs need a suite to be measured on"),
        ("--suite two.toml", "RUN: missing"),
        ("", "RUN: missing"),
        ("masked --suite two.toml --source lines", '--source: expected LABEL=FILE, got "lines"'),
        ("masked --suite two.toml --source lines=a --source lines=b", '"lines" is given twice'),
        ("masked --suite two.toml --only lnes", 'there is no set "lnes"; did you mean "lines"?'),
        ("masked --suite tow.toml", "tow.toml: there is no such file"),
        ("masked --suite zero_shto", 'did you mean "zero_shot'),
        ("masked --suite two.toml --preset mdml", 'no shipped preset "mdml"'),
        ("masked --replay x.json --suite two.toml", "--replay: repeats what the file says; leave"),
        ("masked next --replay x.json", "--replay: expected one RUN or none, got 2"),
        ("masked --suite two.toml --set train.steps=3", "[train] is fixed once a run is trained"),
    ],
)
def test_arguments_that_cannot_be(arguments, words):
    said = refused("eval", *arguments.split())
    assert words in said
    assert len(said.splitlines()) == 1


def test_the_arithmetic_has_an_option_of_its_own():
    said = mdmkit("eval", "masked", "--suite", "two.toml", "--dtype", "bf16")
    assert said.lines[1] == "  run masked · step 6, EMA · bf16 · seed 0"
    assert "--dtype bf16" in refused("sample", "masked", "--precision", "bf16")


# --- shipped suites ------------------------------------------------------------------------


@pytest.mark.parametrize("name", SUITES.names())
def test_a_shipped_suite_is_valid_by_name_and_by_path(name):
    path = SUITES.path(name)
    said = mdmkit("check", name, path)
    assert (said.code, said.err) == (0, "")
    assert said.out == f"{name}: ok\n{path}: ok\n"
    assert load_suite(name).title


def test_the_offline_suite_needs_nothing():
    said = mdmkit("eval", "masked", "--suite", "zero_shot_mini", "--draws", 1)
    assert said.code == 0, said.err
    labels = list(load_suite("zero_shot_mini").sets)
    assert [line.split()[0] for line in said.lines[3:]] == labels


ZERO_SHOT = ("ptb", "wikitext", "lm1b", "lambada", "ag_news", "pubmed", "arxiv")
COLUMNS = {"ptb": "sentence", "pubmed": "article", "arxiv": "article"}  # the others: text


def seven_files() -> dict[str, str]:
    """Made-up text for each set of `zero_shot`: rows of a .jsonl, and of a .txt for two."""
    given = {}
    for number, label in enumerate(ZERO_SHOT):
        rows = [f"{label} row {n} of N , {n * number} @-@ fold . " * 2 for n in range(20)]
        path = Path(f"{label}.{'txt' if label in ('wikitext', 'lm1b') else 'jsonl'}")
        column = COLUMNS.get(label, "text")
        lines = rows if path.suffix == ".txt" else [json.dumps({column: row}) for row in rows]
        path.write_text("".join(f"{line}\n" for line in lines))
        given[label] = f"{label}={path}"
    return given


def test_zero_shot_from_seven_local_files(home, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    given = seven_files()
    sources = [word for source in given.values() for word in ("--source", source)]
    said = mdmkit("eval", "masked", "--zero-shot", *sources)
    assert said.code == 0, said.err
    assert [line.split()[0] for line in said.lines[3:]] == list(ZERO_SHOT)
    directory = home / "runs" / "masked"
    plain = json.loads((directory / "eval" / "zero_shot.json").read_text())
    tokenizer = load_tokenizer(directory / "tokenizer.json")
    splits, detokenizers = {}, {}
    for label, entry in plain["sets"].items():
        told = entry["provenance"]
        splits[label], detokenizers[label] = told["split"], told["set"]["detokenizer"]
        # wrapped: [BOS] + 14 tokens + [EOS], with EOS after each row and the tail dropped
        text = Path(given[label].partition("=")[2]).read_text().splitlines()
        if given[label].endswith(".jsonl"):
            text = [json.loads(line)[COLUMNS.get(label, "text")] for line in text]
        ids = tokenizer.encode_batch([detokenize(detokenizers[label], row) for row in text])
        blocks = sum(len(row) + 1 for row in ids) // 14
        assert (told["blocks"], told["tokens_scored"]) == (blocks, 16 * blocks)
    assert splits == dict.fromkeys(("ptb", "wikitext", "pubmed", "arxiv"), "validation") | (
        dict.fromkeys(("lm1b", "lambada", "ag_news"), "test")
    )
    assert detokenizers == {
        "ptb": "ptb", "wikitext": "wikitext", "lm1b": "lm1b", "lambada": "lambada",
        "ag_news": "none", "pubmed": "scientific_papers", "arxiv": "scientific_papers",
    }  # fmt: skip
    again = mdmkit("eval", "--replay", directory / "eval" / "zero_shot.json")
    assert again.code == 0, again.out


def test_zero_shot_without_a_network_names_all_that_is_missing(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", "none")
    message = refused("eval", "masked", "--zero-shot", "--source", seven_files()["ptb"])
    assert message.startswith("suite zero_shot: 6 of 7 sets cannot be had:\n")
    for label in ZERO_SHOT[1:]:
        assert f"\n  {label}: " in message
        assert f"--source {label}=FILE" in message
    assert "--source ptb" not in message
    assert "--set data.corpus" not in message


# --- plugins -------------------------------------------------------------------------------

LETTERS = """
from attrs import frozen
from mdmkit import hookimpl, option
from mdmkit.values import Measurement

@frozen(kw_only=True)
class Letters:
    letter: str = option("e")
    path: str = option("", doc="a file of its own")
    chief = ("share",)

    def build(self, context):
        from pathlib import Path
        from mdmkit import DataError
        if not Path(self.path).is_file():
            raise DataError(f"letters: there is no file {self.path!r}")
        return Live(self.letter, Path(self.path).read_text())

class Live:
    def __init__(self, letter, text):
        self.letter, self.text, self.count = letter, text, 0

    def __len__(self):
        return 1

    def update(self, index):
        self.count = self.text.count(self.letter)

    def compute(self):
        share = self.count / len(self.text)
        return {
            "share": Measurement(value=share, stderr=0.01, unit="of all"),
            "count": Measurement(value=self.count, stderr=0.0),
        }

    @property
    def provenance(self):
        return {"characters": len(self.text)}

@hookimpl
def mdmkit_evaluators():
    return {"letters": Letters}
"""


def test_a_suite_names_the_evaluator_of_a_stranger(distribution, monkeypatch):
    distribution("mdmkit-letters", LETTERS)
    monkeypatch.setenv("MDMKIT_PLUGINS", "mdmkit-letters")
    Path("mixed.toml").write_text(
        SUITE + '[sets.letters]\nevaluator = {use = "letters", letter = "a"}\n'
    )
    message = refused("eval", "masked", "--suite", "mixed.toml")
    assert "  letters: letters: there is no file ''" in message
    said = mdmkit("eval", "masked", "--suite", "mixed.toml", "--source", "letters=lines.txt")
    assert said.code == 0, said.err
    share = f"{60 / len(Path('lines.txt').read_text()):.3f} ± 0.010"
    header, *_, last = said.lines[2:]
    assert "of all" in header
    assert "count" not in header  # only the chief number is shown
    assert last.split() == ["letters", *share.split()]
    again = mdmkit("eval", "masked", "--suite", "mixed.toml", "--source", "letters=lines.txt")
    assert "squares, lines, letters: kept, for the same was measured before" in again.err
