"""Training on from an autoregressive model: attention that opens, and the recipe."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from attrs import evolve
from safetensors.torch import load_file
from torch import Tensor

import mdmkit
from mdmkit.builtin.objectives import Autoregressive, MaskedDiffusion
from mdmkit.draws import StepDraws
from mdmkit.errors import RunInterrupted
from mdmkit.metrics_log import read_metrics
from mdmkit.testing import check_objective
from mdmkit.testing.facts import HashDenoiser, objective_context, random_batch
from mdmkit.training.checkpoint import load_weights

plugin = pytest.importorskip("mdmkit_hf", reason="not installed: pip install -e plugins/mdmkit-hf")
transformers = pytest.importorskip(
    "transformers", reason="not installed: pip install 'transformers>=5.17'"
)
opening = pytest.importorskip("mdmkit_hf.opening")
OpeningAttention = plugin.OpeningAttention

RECIPE = Path(__file__).parents[1] / "recipes" / "cpt_from_ar.toml"
TINY = (
    "data.length=16",
    "train.steps=6",
    "objective.steps=4",
    "train.global_batch_size=8",
    "train.micro_batch_size=4",
    "train.log_every=1",
    "train.validate_every=3",
    "train.validate_blocks=4",
    "train.checkpoint_every=2",
    "learning_rate.warmup_steps=1",
    "sampler.steps=4",
    "evaluators.test.blocks=4",
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama over bytes, as ``transformers`` and ``tokenizers`` save them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("ar") / "ar-checkpoint"
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|endoftext|>"])
    config = transformers.LlamaConfig(
        vocab_size=257,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=32,
    )
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        transformers.LlamaForCausalLM(config).save_pretrained(folder)
    backend.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def here(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory that has the checkpoint, and some text."""
    shutil.copytree(checkpoint, tmp_path / "ar-checkpoint")
    for split in ("train", "validation"):
        lines = (f"{split} {i}: {i * i} is the square of {i}" for i in range(60))
        (tmp_path / f"{split}.txt").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MDMKIT_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


def tiny(*more: str) -> mdmkit.Recipe:
    corpus = 'data.corpus={use="text", train="train.txt", validation="validation.txt"}'
    return mdmkit.load_recipe(RECIPE, [corpus, *TINY, *more])


# --- attention that opens ------------------------------------------------------------------


def test_the_objective_keeps_its_contract_while_it_is_causal() -> None:
    """The contract is tried at steps 0 and 3, and with the defaults, open, by `check_all`."""
    check_objective(OpeningAttention(steps=10**6, masked=MaskedDiffusion()))


def test_the_share_of_causal_steps_falls_to_nothing() -> None:
    causal = [opening.is_causal(step, 1000) for step in range(1100)]
    assert causal[0]
    assert not any(causal[1000:])
    for start in range(0, 1000, 100):
        expected = 100 * (1 - (start + 50) / 1000)
        assert sum(causal[start : start + 100]) == pytest.approx(expected, abs=3)
    assert not opening.is_causal(0, 0)


def test_only_attention_changes_and_validation_sees_it_open() -> None:
    context = objective_context()
    batch = random_batch(12, 8, context.vocab)
    draws = StepDraws(seed=5, step=0, rows=torch.arange(12), global_rows=12)
    plain = MaskedDiffusion().build(context)
    ours = OpeningAttention(steps=10, masked=MaskedDiffusion()).build(context)
    expected, found = plain.corrupt(batch, draws), ours.corrupt(batch, draws)
    assert (expected.attention.causal, found.attention.causal) == (False, True)
    assert found.attention.padding is expected.attention.padding is batch.real
    assert torch.equal(found.inputs, expected.inputs)
    assert torch.equal(found.weights, expected.weights)
    later = ours.corrupt(batch, evolve(draws, step=10))
    assert not later.attention.causal
    denoiser = HashDenoiser(context.vocab.size)
    assert torch.equal(
        ours.bound(denoiser, batch, draws).nats, plain.bound(denoiser, batch, draws).nats
    )
    mask = torch.rand(12, 8, generator=torch.Generator().manual_seed(0)) < 0.5
    assert torch.equal(ours.nll(denoiser, batch, mask), plain.nll(denoiser, batch, mask))


def test_it_asks_for_what_the_objective_inside_does() -> None:
    masked: Any = SimpleNamespace(needs=frozenset({"padding"}), shifts_text=True)
    assert OpeningAttention(masked=masked).needs == {"causal", "padding"}
    assert OpeningAttention(masked=masked).shifts_text
    assert not OpeningAttention(masked=MaskedDiffusion()).shifts_text


class Remembering:
    """An objective with a state, and nothing else."""

    def __init__(self) -> None:
        self.state: dict[str, Tensor] = {"seen": torch.zeros(3)}

    def state_dict(self) -> dict[str, Tensor]:
        return self.state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.state = state


def test_the_state_inside_is_kept() -> None:
    inside = Remembering()
    live: Any = opening.LiveOpeningAttention(steps=1, masked=inside)
    assert live.state_dict() is inside.state
    live.load_state_dict({"seen": torch.ones(3)})
    assert inside.state["seen"].sum() == 3
    stateless: Any = opening.LiveOpeningAttention(steps=1, masked=object())
    assert stateless.state_dict() == {}


@pytest.mark.usefixtures("here")
def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(mdmkit.RecipeError, match="causal up to step 6, but the run has 6"):
        tiny("objective.steps=6")
    with pytest.raises(mdmkit.RecipeError) as raised:
        tiny('objective.masked.use="autoregressive"')
    assert '[objective] masked: predicts "next_token"' in str(raised.value)
    assert tiny().objective == OpeningAttention(steps=4, masked=MaskedDiffusion())
    assert Autoregressive.prediction == "next_token"


# --- the recipe ----------------------------------------------------------------------------


def test_without_the_folder_or_the_plugin_the_recipe_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(mdmkit.DataError) as raised:
        mdmkit.load_recipe(RECIPE)
    (line,) = str(raised.value).splitlines()
    assert line.startswith('denoiser.pretrained: there is no folder "./ar-checkpoint"; expected')
    monkeypatch.setenv("MDMKIT_PLUGINS", "none")
    with pytest.raises(mdmkit.RecipeError, match='no denoiser "transformers"'):
        mdmkit.load_recipe(RECIPE)


def metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's log without what the clock has a say in."""
    clock = ("seconds", "train/tokens_per_second")
    lines = read_metrics(run / "metrics.jsonl")
    return [{k: v for k, v in line.items() if k not in clock} for line in lines]


def test_a_run_from_it_stands_by_itself(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained, stopped on the way, and gone on with when the folder is no more: the same run."""
    recipe = tiny()
    whole = mdmkit.train(recipe, runs_dir="whole").directory
    assert {line["step"] for line in metrics(whole)} == set(range(7))

    live = opening.LiveOpeningAttention
    original, calls = live.loss, []

    def stopping(self: Any, denoiser: Any, noised: Any) -> Any:
        calls.append(noised.attention.causal)
        if len(calls) == 7:
            signal.raise_signal(signal.SIGINT)
        return original(self, denoiser, noised)

    monkeypatch.setattr(live, "loss", stopping)
    with pytest.raises(RunInterrupted, match=r"stopped at step [45] of 6"):
        mdmkit.train(recipe, runs_dir="cut")
    assert calls[:8] == [opening.is_causal(step, 4) for step in range(4) for _ in range(2)]
    assert {True, False} == set(calls)
    shutil.rmtree("ar-checkpoint")
    (run,) = Path("cut").iterdir()
    resumed = mdmkit.train(mdmkit.load_recipe(run / "recipe.toml"), resume=run)
    assert resumed.directory == run
    assert metrics(run) == metrics(whole)
    ours, theirs = load_weights(run).state, load_weights(whole).state
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)

    monkeypatch.undo()
    monkeypatch.chdir(here)
    found = mdmkit.evaluate(whole)["test"].measurements["nelbo_per_token"]
    assert 4 < found.value < 6.5
    saved = json.loads((whole / "resolved.json").read_text())["denoiser"]
    assert saved["config"]["hidden_size"] == 16


@pytest.mark.usefixtures("here")
def test_it_begins_with_the_weights_of_the_checkpoint() -> None:
    """One step at a learning rate of next to nothing: what is saved is what was read."""
    changes = (
        "train.steps=1",
        "objective.steps=0",
        "train.ema_decay=0",
        "learning_rate.peak=1e-12",
    )
    run = mdmkit.train(tiny(*changes), runs_dir="runs").directory
    theirs = load_file("ar-checkpoint/model.safetensors")
    ours = load_file(run / "model.safetensors")
    assert {name.removeprefix("inner.") for name in ours} == set(theirs)
    for name, value in theirs.items():
        assert torch.allclose(ours[f"inner.{name}"][: len(value)], value, atol=1e-9), name
    table = ours["inner.model.embed_tokens.weight"]
    mean = theirs["model.embed_tokens.weight"].mean(0)
    assert torch.allclose(table[257], mean, atol=1e-7)  # the mask


@pytest.mark.usefixtures("here")
def test_tied_and_averaged_it_is_opened_again() -> None:
    """The table and the head are one weight, of which the run keeps one average."""
    folder = "ar-checkpoint"
    config = transformers.LlamaConfig.from_pretrained(folder, tie_word_embeddings=True)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    recipe = tiny("train.steps=3", "objective.steps=0", "train.ema_decay=0.9")
    run = mdmkit.train(recipe, runs_dir="runs").directory
    opened, weights = mdmkit.open_run(run), load_weights(run)
    assert weights.ema
    inner: Any = opened.call.root.denoiser.inner
    assert inner.lm_head.weight is inner.model.embed_tokens.weight
    average = weights.state["denoiser.inner.model.embed_tokens.weight"]
    assert torch.equal(inner.lm_head.weight.cpu(), average)
    assert mdmkit.evaluate(run)["test"].measurements["nelbo_per_token"].value > 4
    assert len(mdmkit.sample(run, n=1)) == 1
