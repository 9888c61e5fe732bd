from __future__ import annotations

import json
import shutil
from pathlib import Path

import attrs
import pytest
import torch

from mdmkit.builtin.schedules import Linear
from mdmkit.errors import CheckpointError, DataError, RecipeError
from mdmkit.evaluation.contexts import evaluation_context
from mdmkit.evaluation.evaluate import evaluate, validate
from mdmkit.evaluation.find_run import find_run
from mdmkit.evaluation.generate import sample
from mdmkit.evaluation.run import open_trained

from .runs import make_run


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _cache(monkeypatch, cache):
    monkeypatch.setenv("MDMKIT_CACHE_DIR", str(cache))


@pytest.fixture(scope="module")
def made(tmp_path_factory, cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MDMKIT_CACHE_DIR", str(cache))
        return make_run(tmp_path_factory.mktemp("made"))


@pytest.fixture
def run(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "runs" / made.name))


def nelbo(results, label="nelbo"):
    return results[label].measurements["nelbo_per_token"]


def test_every_evaluator_of_the_recipe_is_run_and_kept(run):
    results = evaluate(run)
    assert list(results) == ["nelbo", "twice"]
    for label, result in results.items():
        assert json.loads((run / "eval" / f"{label}.json").read_text()) == result.to_json()
        assert set(result.measurements) == {
            "nelbo_per_token",
            "bits_per_token",
            "bits_per_byte",
            "ppl",
        }


def test_provenance_is_complete(run):
    found = evaluate(run, seed=4, batch_size=3)["twice"].provenance
    expected = {
        "split": "test",
        "draws": 2,
        "seed": 4,
        "batch_size": 3,
        "precision": "fp32",
        "ranks": 1,
        "checkpoint": {"step": 6, "ema": True},
        "run": {"name": "tiny", "recipe_hash": run.name.removeprefix("tiny-")},
    }
    assert {key: found[key] for key in expected} == expected
    asked = {"use": "nelbo", "split": "test", "draws": 2, "blocks": 0, "estimator": "controlled"}
    assert {key: found["evaluator"][key] for key in asked} == asked
    assert found["data"]["corpus"]["source"] == "local files"
    assert found["data"]["tokenizer_fingerprint"] == found["tokenizer_fingerprint"]
    assert found["data"]["corpus_fingerprint"]
    assert found["data"]["packing"]["use"] == "packed"
    assert {"mdmkit", "torch", "python", "device", "threads"} <= set(found["environment"])


def test_checkpoint_and_average_are_as_asked(run):
    newest, raw, early = (
        evaluate(run, **which)["nelbo"] for which in ({}, {"ema": False}, {"checkpoint": 3})
    )
    told = [result.provenance["checkpoint"] for result in (newest, raw, early)]
    assert told == [{"step": 6, "ema": True}, {"step": 6, "ema": False}, {"step": 3, "ema": True}]
    values = {result.measurements["ppl"].value for result in (newest, raw, early)}
    assert len(values) == 3


def test_the_same_again_is_the_same_and_the_batch_size_does_not_matter(run):
    one, again, small = evaluate(run), evaluate(run), evaluate(run, batch_size=3)
    assert one == again
    assert nelbo(small).value == pytest.approx(nelbo(one).value, rel=1e-6)
    assert nelbo(small).stderr == pytest.approx(nelbo(one).stderr, rel=1e-4)


def test_overrides_change_and_add_evaluators(run):
    results = evaluate(
        run, overrides=["evaluators.twice.blocks=4", 'evaluators."v-1".use=nelbo'], draws=3
    )
    told = {label: result.provenance for label, result in results.items()}
    assert [told[label]["draws"] for label in ("nelbo", "twice", "v-1")] == [3, 3, 3]
    assert told["twice"]["blocks"] == 4
    assert (run / "eval" / "v-1.json").exists()


def test_a_short_option_sets_the_split_of_all(run):
    results = evaluate(run, split="train")
    assert {result.provenance["split"] for result in results.values()} == {"train"}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"overrides": ["train.steps=9"]}, r"\[train\] is fixed once a run is trained"),
        ({"overrides": ["evaluators.nelbo.drwas=2"]}, "did you mean draws"),
        ({"overrides": ["evaluators.nelbo.draws=0"]}, "draws: expected a value >= 1"),
        ({"split": "tset"}, "--set.*split"),
        ({"dtype": "fp8"}, 'expected bf16 or fp32, got "fp8"'),
        ({"device": "gpu"}, "device: expected auto, cpu"),
    ],
)
def test_bad_requests_are_said_in_words(run, asked, words):
    with pytest.raises(RecipeError, match=words):
        evaluate(run, **asked)
    assert not (run / "eval").exists()


def test_a_run_without_evaluators_says_how_to_get_one(tmp_path):
    run = make_run(tmp_path, extra="")
    with pytest.raises(RecipeError, match=r"--set evaluators\.nelbo\.use=nelbo"):
        evaluate(run)
    assert nelbo(evaluate(run, overrides=["evaluators.nelbo.use=nelbo"])).stderr > 0


def test_a_run_is_found_by_path_name_or_beginning(run):
    root = run.parent
    for name in (run, str(run), run.name, "tiny"):
        assert find_run(name, root) == run
    with pytest.raises(CheckpointError, match="did you mean"):
        find_run(run.name[:-1], root)
    with pytest.raises(CheckpointError, match="holds no run"):
        find_run(root, root)
    shutil.copytree(run, root / "tiny-0")
    with pytest.raises(CheckpointError, match="2 runs"):
        find_run("tiny", root)
    with pytest.raises(CheckpointError, match="there are no runs in"):
        find_run("tiny", root / "nowhere")


def test_missing_and_misfitting_weights_are_said_in_words(run, tmp_path):
    with pytest.raises(CheckpointError, match="step 5"):
        evaluate(run, checkpoint=5)
    resolved = json.loads((run / "resolved.json").read_text())
    resolved["denoiser"]["width"] = 16
    (run / "resolved.json").write_text(json.dumps(resolved))
    with pytest.raises(CheckpointError, match=r"do not fit the network") as caught:
        evaluate(run)
    assert "the weights have (32,), the network (64,)" in str(caught.value)
    assert "and 10 more" in str(caught.value)


def test_damaged_files_are_named(run):
    (run / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match=r"tokenizer\.json"):
        evaluate(run)
    (run / "resolved.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"resolved\.json: cannot be read"):
        evaluate(run)


def test_validation_reads_as_many_blocks_as_the_recipe_says(run):
    opened = open_trained(run)
    recipe = attrs.evolve(
        opened.recipe, train=attrs.evolve(opened.recipe.train, validate_blocks=5, validate_draws=2)
    )
    assert isinstance(opened.live.noise_schedule, Linear)

    def context(seed):
        return evaluation_context(
            recipe,
            opened.live,
            opened.tokenizer,
            call=opened.call,
            blocks=opened.blocks,
            device=opened.device,
            seed=seed,
        )

    found = validate(recipe, context(0))
    options = ("blocks=5", "draws=2", 'estimator="count"')
    same = evaluate(run, overrides=[f"evaluators.nelbo.{option}" for option in options])
    assert found.nelbo == nelbo(same)
    assert found.table.nats.shape == (5, 2)
    again = validate(recipe, context(7))  # its seed is always the same
    assert found.nelbo == again.nelbo
    assert torch.equal(found.table.nats, again.table.nats)


# --- samples -------------------------------------------------------------------------------


def test_samples_are_texts_with_their_origin(run):
    texts = sample(run, n=3, seed=5, steps=4)
    assert [(text.row, text.seed, text.sampler) for text in texts] == [
        (row, 5, "ancestral") for row in range(3)
    ]
    assert all(len(text.ids) == 16 and text.network_evaluations <= 4 for text in texts)
    tokenizer = open_trained(run).tokenizer
    assert [text.text for text in texts] == [tokenizer.decode(text.ids) for text in texts]
    assert "<|mask|>" not in texts[0].text
    told = texts[0].provenance
    assert told["sampler"]["use"] == "ancestral"
    assert told["sampler"]["steps"] == 4
    assert told["checkpoint"] == {"step": 6, "ema": True}


def test_samples_do_not_depend_on_the_batch(run):
    whole = sample(run, n=5, steps=4)
    assert [text.ids for text in sample(run, n=5, steps=4, batch_size=2)] == [
        text.ids for text in whole
    ]
    assert sample(run, n=5, steps=4, ema=False)[0].ids != whole[0].ids


def test_a_prompt_and_a_length(run):
    (text,) = sample(run, n=1, prompt="line 7", length=12)
    assert text.text.startswith("line 7")
    assert len(text.ids) == 12


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"n": 0}, "n: expected at least 1"),
        ({"length": 17}, "length: expected 1 to 16"),
        ({"length": 0}, "length: expected 1 to 16"),
        ({"prompt": "x" * 16}, "16 tokens and leaves nothing"),
        ({"steps": 0}, "steps: expected a value >= 1"),
        ({"overrides": ["sampler.use=autoregressive"]}, "predict"),
        ({"overrides": ["evaluators.nelbo.draws=2"]}, "only sampler may be changed"),
    ],
)
def test_bad_sampling_requests_are_said_in_words(run, asked, words):
    with pytest.raises(RecipeError, match=words):
        sample(run, **asked)


def test_the_autoregressive_run_is_exact_and_generates(tmp_path):
    extra = '[objective]\nuse = "autoregressive"\n[sampler]\nuse = "autoregressive"\n'
    run = make_run(tmp_path, extra=extra + "[evaluators.nll]\nuse = 'nelbo'\ndraws = 9\n")
    found = evaluate(run)["nll"]
    assert found.provenance["exact"] is True
    assert found.provenance["draws"] == 1
    assert sample(run, n=1)[0].network_evaluations == 16
    with pytest.raises(RecipeError, match="steps"):
        sample(run, steps=3)


def test_bf16_agrees_with_fp32_roughly(run):
    precise, rough = (nelbo(evaluate(run, dtype=p)).value for p in ("fp32", "bf16"))
    assert rough == pytest.approx(precise, rel=0.02)
    assert rough != precise
    assert not torch.is_autocast_enabled("cpu")
