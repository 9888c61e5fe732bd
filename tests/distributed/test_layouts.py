"""However the work is laid out over processes, a recipe has one curve (gloo, float32)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mdmkit import evaluate
from mdmkit.training.checkpoint import load_weights

from ..conftest import write_tiny_recipe
from .worlds import curve, deviation, train_in_world

pytestmark = pytest.mark.timeout(900)  # processes start slowly on a busy machine

# No line between validations is saved, and the average differs: a weight that stayed gathered
# through a validation would be noticed.
COMMON = [
    "train.steps=8",
    "train.checkpoint_every=0",
    "train.ema_decay=0.5",
    "train.validate_every=4",
    "train.validate_blocks=8",
    "sampler.steps=1",
    "train.diagnose_every=0",
    "evaluators={}",
]
ACCUMULATED = "train.micro_batch_size=1"
MIXED = [  # some micro-batches have no causal row
    'objective={use = "mixed_causal", share = 0.25, final_share = 0.0}',
    "objective.anneal.end=0.8",
    "denoiser.adaln=false",
]
FULL = "parallel.activation_checkpointing=full"
SELECTIVE = "parallel.activation_checkpointing=selective"
DROPOUT = "denoiser.dropout=0.2"
NARROW = "train.precision=bf16_weights"

ONE = {
    "plain": ["parallel.mode=hsdp", "parallel.shard_size=2", "parallel.cpu_offload=true"],
    "accumulated": ["train.micro_batch_size=2"],
    "mixed": MIXED,
    "narrow": [NARROW, 'evaluators={held_out={use = "nelbo", split = "test"}}'],
    "wide": ["train.precision=bf16"],
}
TWO = {
    "ddp": ["parallel.mode=ddp"],
    "ddp mixed": ["parallel.mode=ddp", "train.micro_batch_size=2", *MIXED],
    "fsdp": ["parallel.mode=fsdp", "parallel.cpu_offload=true"],
    "fsdp accumulated": ["parallel.mode=fsdp", ACCUMULATED, SELECTIVE],
    "fsdp kept": ["parallel.reshard_after_forward=false", ACCUMULATED, FULL],
    "narrow": [NARROW],
    "param_dtype": ["train.precision=bf16", "parallel.param_dtype=bf16",
                    "parallel.reduce_dtype=fp32"],
    "dropout": [DROPOUT],
    "dropout selective": [DROPOUT, SELECTIVE],
}  # fmt: skip
FOUR = {
    "hsdp accumulated": ["parallel.mode=hsdp", "parallel.shard_size=2", ACCUMULATED],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every run, in three starts of a world."""
    folder = tmp_path_factory.mktemp("layouts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MDMKIT_CACHE_DIR", str(folder / "cache"))
        recipe = write_tiny_recipe(folder / "tiny")
        found = {}
        for ranks, variants in ((1, ONE), (2, TWO), (4, FOUR)):
            variants = {name: [*COMMON, *changes] for name, changes in variants.items()}
            trained = train_in_world(ranks, recipe, folder, variants)
            found |= {f"{ranks} {name}": run for name, run in trained.items()}
    return found


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1 plain", "1 accumulated"),
        ("1 plain", "2 ddp"),
        ("1 mixed", "2 ddp mixed"),
        ("1 plain", "2 fsdp"),
        ("1 plain", "2 fsdp accumulated"),
        ("1 plain", "2 fsdp kept"),
        ("1 plain", "4 hsdp accumulated"),
    ],
)
def test_a_layout_does_not_change_the_curve(runs: dict[str, Path], one: str, other: str) -> None:
    found = deviation(runs[one], runs[other])
    assert len(curve(runs[one])) == 22  # 8 losses and norms, 3 validations with their errors
    assert max(found.values()) < 1e-5, found
    left, right = (load_weights(runs[name], ema=False).state for name in (one, other))
    assert left.keys() == right.keys()  # whatever was wrapped, checkpoints name the same
    for name, tensor in left.items():
        assert right[name] == pytest.approx(tensor, rel=1e-3, abs=1e-6), name


def test_what_is_worked_out_again_drops_the_same(runs: dict[str, Path]) -> None:
    plain, repeated = curve(runs["2 dropout"]), curve(runs["2 dropout selective"])
    assert repeated == plain  # bitwise
    assert plain != curve(runs["2 fsdp"])


def test_a_policy_of_bfloat16_is_close_to_autocast_and_not_the_same(runs: dict[str, Path]) -> None:
    found = deviation(runs["1 wide"], runs["2 param_dtype"])
    assert 0 < found["train/loss"] < 5e-3


def test_bfloat16_weights_learn_the_same_on_two_ranks(runs: dict[str, Path]) -> None:
    assert 0 < deviation(runs["1 wide"], runs["1 narrow"])["train/loss"] < 5e-3
    assert deviation(runs["1 narrow"], runs["2 narrow"])["train/loss"] < 5e-3
    for name in ("1 narrow", "2 narrow"):
        weights = load_weights(runs[name], ema=False).state
        assert all(torch.equal(w, w.bfloat16().float()) for w in weights.values())
        averaged = load_weights(runs[name]).state
        assert any(not torch.equal(w, w.bfloat16().float()) for w in averaged.values())


def test_bfloat16_weights_are_evaluated_as_they_were_trained(
    runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs["1 narrow"]
    monkeypatch.setenv("MDMKIT_CACHE_DIR", str(run.parents[1] / "cache"))
    then = json.loads((run / "eval" / "held_out.json").read_text())["measurements"]
    (now,) = evaluate(run).values()
    for name, number in then.items():
        assert now.measurements[name].value == pytest.approx(number["value"], rel=1e-6), name
