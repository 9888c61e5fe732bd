"""The recipes for LM1B: MDLM's settings, a local copy in the hub's layout, and no hub at all."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from mdmkit import load_recipe
from mdmkit.recipe import differing_keys, dump_recipe
from mdmkit.values import Vocabulary

from .commands import changed, in_a_process, mdmkit, run_directory

RECIPES = ("lm1b_bell", "lm1b_uniform")
WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "dog", "run", "##s", "##ning", "."]
PIECES = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
# The paper's settings are for GPUs; these make the same recipe small enough for a test.
TINY = (
    *("denoiser.width=16", "denoiser.depth=1", "denoiser.heads=2", "denoiser.conditioning_width=4"),
    *("data.length=16", "train.steps=2", "train.global_batch_size=8", "train.log_every=1"),
    *("learning_rate.warmup_steps=1", "sampler.steps=2"),
)


# --- settings ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
def test_the_settings_are_mdlms(name: str) -> None:
    recipe = dump_recipe(load_recipe(name))
    assert recipe["data"]["length"] == 128
    assert recipe["data"]["detokenizer"] == "lm1b"
    assert recipe["data"]["corpus"]["dataset"] == "billion-word-benchmark/lm1b"
    assert recipe["data"]["corpus"]["revision"] == "refs/convert/parquet"
    assert recipe["data"]["tokenizer"] == {"use": "bert", "repo": "bert-base-uncased"}
    network = {"width": 768, "depth": 12, "heads": 12, "mlp_ratio": 4, "conditioning_width": 128}
    network |= {"adaln": True, "time_conditioning": False, "tied": False, "dropout": 0.1}
    assert network.items() <= recipe["denoiser"].items()
    training = {"steps": 1_000_000, "global_batch_size": 512, "precision": "bf16"}
    training |= {"clip_norm": 1.0, "ema_decay": 0.9999}
    assert training.items() <= recipe["train"].items()
    assert recipe["optimizer"] == {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0}
    schedule = {"peak": 3e-4, "shape": "constant", "warmup_steps": 2500}
    assert schedule.items() <= recipe["learning_rate"].items()
    assert recipe["noise_schedule"]["use"] == "linear"


def test_only_what_is_trained_on_differs_between_them() -> None:
    bell, uniform = (dump_recipe(load_recipe(name)) for name in RECIPES)
    differing = {table for table in bell if bell[table] != uniform[table]}
    assert differing == {"run", "noise_schedule", "time_sampler", "loss_weighting"}
    assert uniform["time_sampler"] == {"use": "uniform", "eps": 1e-3}
    assert uniform["loss_weighting"]["use"] == "elbo"
    assert bell["time_sampler"]["use"] == "bell"
    assert bell["loss_weighting"] == {"use": "flat", "normalizer": "masked"}


def test_the_network_has_as_many_parameters_as_mdlms() -> None:
    with torch.device("meta"):
        network = load_recipe("lm1b_uniform").denoiser.build(Vocabulary(size=30522, mask_id=103))
    assert sum(parameter.numel() for parameter in network.parameters()) == 139_292_986


# --- a local copy --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def copy(home: Path) -> Path:
    """A small LM1B in the hub's layout, with a vocabulary beside it."""
    folder = home / "lm1b"
    for split, count in (("train", 60), ("test", 20)):
        sentences = [
            f"The cat sat on {'a' if n % 2 else 'the'} mat and saw dogs ." for n in range(count)
        ]
        path = folder / "plain_text" / split / "0000.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.table({"text": sentences}), path)
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    return folder


@pytest.mark.parametrize("name", RECIPES)
def test_it_runs_with_a_local_copy(name: str, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    local = (f"data.corpus.path={copy}", f"data.tokenizer.path={copy / 'vocab.txt'}")
    said = mdmkit("run", name, *changed(*local, *TINY))
    assert (said.code, said.err) == (0, "")
    assert "step 2/2  validation NELBO" in said.out
    assert "test · split test · " in said.out
    run = run_directory(said)
    saved = json.loads((run / "eval" / "test.json").read_text())
    data = saved["provenance"]["data"]
    assert data["corpus"]["local_copy"] is True
    assert data["corpus"]["files"] == ["0000.parquet"]
    assert data["documents"] == 20
    assert data["utf8_bytes"] == 20 * len("The cat sat on the mat and saw dogs.") - 10 * 2
    assert data["packing"]["use"] == "wrapped"
    # The run's recipe is the shipped one but for what was asked for.
    saved_recipe = json.loads((run / "resolved.json").read_text())
    differing = differing_keys(dump_recipe(load_recipe(name)), saved_recipe)
    asked_for = {assignment.partition("=")[0] for assignment in (*local, *TINY)}
    assert {line.partition(": ")[0] for line in differing} == asked_for
    generated = mdmkit("sample", run, "-n", 1, "--prompt", "The cat")
    assert generated.lines[1].startswith("  the cat")


def test_a_single_file_lacks_the_test_split(copy: Path) -> None:
    path = copy / "plain_text" / "train" / "0000.parquet"
    local = (f"data.corpus.path={path}", f"data.tokenizer.path={copy / 'vocab.txt'}")
    said = mdmkit("run", "lm1b_bell", *changed(*local, *TINY))
    assert said.code == 2
    assert f"data.corpus.path: '{path}' is a single file, which is taken for the train split" in (
        said.err
    )
    assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        ("[PAD]\n[UNK]\n[CLS]\n[SEP]\ncat\n", "vocab.txt: [MASK] not in it; expected BERT's"),
        ("\n".join([*PIECES, "cat"]), 'vocab.txt: the piece "cat" stands there twice'),
        (None, "cannot be read: No such file or directory; expected BERT's vocab.txt"),
    ],
)
def test_a_vocabulary_that_is_none(
    copy: Path, tmp_path: Path, vocabulary: str | None, message: str
) -> None:
    path = tmp_path / "vocab.txt"
    if vocabulary is not None:
        path.write_text(vocabulary)
    local = (f"data.corpus.path={copy}", f"data.tokenizer.path={path}")
    said = mdmkit("run", "lm1b_bell", *changed(*local, *TINY))
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(str(path))
    assert message in said.err
    assert len(said.err.splitlines()) == 1


# --- without the hub -----------------------------------------------------------------------


def assert_names_the_ways_out(error: str, reason: str) -> None:
    corpus, tokenizer = error.splitlines()
    assert corpus.startswith("billion-word-benchmark/lm1b (plain_text), split train")
    assert tokenizer.startswith("tokenizer bert-base-uncased")
    for line, option in ((corpus, "data.corpus.path"), (tokenizer, "data.tokenizer.path")):
        assert f"the Hugging Face hub cannot be reached: {reason}" in line
        assert "Two ways out: run once with network access, or" in line
        assert f"`--set {option}=…`" in line
    assert "plain_text/train/*" in corpus


@pytest.mark.parametrize("name", RECIPES)
def test_offline_both_ways_out_are_named(
    name: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("MDMKIT_CACHE_DIR", str(tmp_path))
    said = mdmkit("run", name)
    assert (said.code, said.out) == (2, "")
    assert_names_the_ways_out(said.err, "HF_HUB_OFFLINE is set")


def test_an_unreachable_hub_is_said_at_once(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("MDMKIT_CACHE_DIR", str(tmp_path))
    for switch in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(switch, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    said = in_a_process("run", "lm1b_bell")  # the endpoint is read when its client is imported
    assert (said.code, said.out) == (2, "")
    assert_names_the_ways_out(said.err, "no connection to 127.0.0.1:9 (Connection refused)")
