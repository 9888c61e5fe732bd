"""A bench of the tiny recipe: complete, of training's own steps, and gone without a trace."""

from __future__ import annotations

import io
import json
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from rich.console import Console

from mdmkit import DataError, RecipeError, load_recipe, train
from mdmkit.benchmarking import measuring, summing_up
from mdmkit.benchmarking.bench import as_benched, bench
from mdmkit.benchmarking.find_batch import LargestBatch
from mdmkit.benchmarking.profiling import STEPS as PROFILED
from mdmkit.benchmarking.result import BenchResult
from mdmkit.benchmarking.summing_up import PHASES
from mdmkit.metrics_log import read_metrics
from mdmkit.recipe import recipe_hash
from mdmkit.report.bench import print_bench

from ...conftest import write_tiny_recipe

STEPS, WARMUP = 3, 2
ALL = WARMUP + STEPS + STEPS + PROFILED + 1
CHANGES = [f"train.steps={ALL + 1}", "train.micro_batch_size=4", "denoiser.dropout=0.1"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for the recipe, caches and runs, and one for temporary files."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "temporary").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MDMKIT_CACHE_DIR", str(folder / "cache"))
        patch.setenv("MDMKIT_RUNS_DIR", str(folder / "runs"))
        patch.setattr(tempfile, "tempdir", str(folder / "temporary"))
        yield folder


@pytest.fixture(scope="module")
def recipe(home: Path) -> Path:
    return write_tiny_recipe(home / "tiny")


@pytest.fixture(scope="module")
def found(recipe: Path) -> BenchResult:
    loaded = load_recipe(recipe, CHANGES)
    return bench(loaded, steps=STEPS, warmup=WARMUP, device="cpu", seconds=0.05, command=["x"])


def left_in(folder: Path) -> list[str]:
    """The names in a folder but for torch's own cache."""
    return [path.name for path in folder.iterdir() if not path.name.startswith("torchinductor")]


def test_the_steps_are_those_of_training(found: BenchResult, recipe: Path) -> None:
    run = train(load_recipe(recipe, CHANGES), device="cpu").directory
    lines = read_metrics(run / "metrics.jsonl")
    losses = {line["step"]: line["train/loss"] for line in lines if "train/loss" in line}
    assert found.losses == {step: losses[step] for step in range(1, ALL + 1)}  # bitwise


def test_nothing_is_left(found: BenchResult, home: Path) -> None:
    assert left_in(home / "temporary") == []
    assert [t for t in threading.enumerate() if t.name.startswith("mdmkit")] == []


def test_the_json_is_complete(found: BenchResult, recipe: Path) -> None:
    plain = json.loads(json.dumps(found.to_json(), allow_nan=False))
    names = {field.name for field in attrs.fields(BenchResult)}
    assert set(plain) == names | {"ceiling_step"}
    empty = {name for name, value in plain.items() if value in (None, [], {})}
    assert empty == {"compile_seconds", "largest_batch"}
    assert plain["recipe"] == {"name": "tiny", "hash": recipe_hash(load_recipe(recipe, CHANGES))}
    assert (plain["text"], plain["devices"], plain["command"]) == ("real", 1, ["x"])
    assert plain["environment"]["threads"] == torch.get_num_threads()
    assert {"mdmkit", "torch", "python", "device"} <= set(plain["environment"])
    assert plain["machines"][0]["peak_flops"] > 0
    assert plain["memory"][0]["peak"] > 0


def test_what_a_step_consists_of(found: BenchResult) -> None:
    sizes = found.sizes
    assert (sizes.rows, sizes.micro_batches, sizes.length, sizes.vocab_size) == (8, 2, 16, 280)
    assert sizes.parameters == sizes.updated_parameters > 280 * 16
    assert 0.3 < sizes.scored_share < 0.7  # the bell is centred at a half
    assert sizes.causal_share == 0
    assert found.flops_per_token is not None
    assert found.flops_per_token.head == pytest.approx(2 * 280 * 16 * sizes.scored_share)


def test_phases_add_up_to_their_step(found: BenchResult) -> None:
    assert tuple(found.phases) == PHASES
    assert all(spread.count == STEPS for spread in found.phases.values())
    assert all(spread.median > 0 for spread in found.phases.values())
    assert found.step.count == found.phase_step.count == STEPS
    for which in ("lower", "median", "upper"):  # a sum is no less than any of its parts
        parts = [getattr(spread, which) for spread in found.phases.values()]
        assert getattr(found.phase_step, which) >= max(parts)


def test_figures_that_follow_from_others(found: BenchResult) -> None:
    used, flops = found.utilisation, found.flops_per_token
    assert used is not None
    assert flops is not None
    assert found.tokens_per_second == pytest.approx(8 * 16 / found.step.median)
    peak = found.machines[0].flops
    assert used.model == pytest.approx(flops.training * found.tokens_per_second / peak)
    assert used.hardware == used.model  # nothing is computed again
    parts = {part.name: part for part in found.roofline}
    assert list(parts) == ["blocks", "attention", "head", "optimizer", "rest"]
    assert parts["blocks"].flops == pytest.approx(3 * flops.blocks * 8 * 16)
    assert parts["optimizer"].measured == found.phases["update"].median
    measured = [part.measured or 0 for part in found.roofline]
    assert sum(measured) >= found.step.median * (1 - 1e-9)


def test_the_profile_knows_the_parts(found: BenchResult) -> None:
    profile = found.profile
    assert set(profile.parts) == {"blocks", "attention", "head", "other"}
    assert all(seconds > 0 for seconds in profile.parts.values())
    assert profile.communication is None  # one rank
    times = [operation.seconds for operation in profile.operations]
    assert times == sorted(times, reverse=True)


def test_only_what_comes_between_the_steps_is_left_out(recipe: Path) -> None:
    loaded = load_recipe(recipe, CHANGES)
    benched = as_benched(loaded)
    same = attrs.evolve(
        benched,
        evaluators=loaded.evaluators,
        trackers=loaded.trackers,
        train=attrs.evolve(
            benched.train,
            **{f"{name}_every": getattr(loaded.train, f"{name}_every")
               for name in ("validate", "checkpoint", "diagnose")},
        ),
    )  # fmt: skip
    assert same == loaded
    assert benched.evaluators == {}


def test_a_recipe_with_too_few_steps_is_refused(recipe: Path) -> None:
    too_few = load_recipe(recipe, [f"train.steps={ALL}"])
    with pytest.raises(RecipeError, match=rf"has {ALL}, this bench takes {ALL + 1}; .*--steps"):
        bench(too_few, steps=STEPS, warmup=WARMUP, device="cpu")


def test_what_fails_leaves_nothing_either(
    recipe: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise DataError("on purpose")

    monkeypatch.setattr(measuring, "phase_times", fail)
    with pytest.raises(DataError, match="on purpose"):
        bench(load_recipe(recipe, CHANGES), steps=1, warmup=2, device="cpu", seconds=0.01)
    assert left_in(home / "temporary") == []
    assert [t for t in threading.enumerate() if t.name.startswith("mdmkit")] == []


@pytest.mark.parametrize("terminal", [True, False])
def test_it_is_printed_whole(found: BenchResult, terminal: bool) -> None:
    batch = LargestBatch(
        rows=6, tried={4: True, 8: False, 6: True}, tokens_per_second=12_345.0, peak=2_000_000
    )
    several = attrs.evolve(
        found,
        largest_batch=batch,
        compile_seconds=83.0,
        profile=attrs.evolve(found.profile, communication=0.0123),
    )
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, no_color=True, width=160)
    print_bench(console, several, operations=True)
    text = out.getvalue()
    assert ("│" in text) is terminal  # frames are for terminals
    for words in (
        "largest micro-batch: 6 rows, 12.3k tokens/s, peak 2.0 MB",
        "does not fit",
        "12.3 ms",
        "1m23s",
        "of the measured peak",
        "aten::",
        *found.phases,
        *found.notes[0].split()[:3],
    ):
        assert words in text, words


def test_a_network_that_cannot_be_counted_is_timed_all_the_same(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RecipeError("it looks at numbers")

    monkeypatch.setattr(summing_up, "flops_per_token", refuse)
    network = 'denoiser={use = "transformer", width = 16, depth = 1, heads = 2}'
    found = bench(
        load_recipe(recipe, ["train.steps=50", network]),
        steps=1, warmup=2, device="cpu", seconds=0.01,
    )  # fmt: skip
    assert (found.flops_per_token, found.utilisation, found.roofline) == (None, None, ())
    assert "FLOPs are not counted" in found.notes[1]
    assert found.tokens_per_second > 0
    # Its output layer is wider than the vocabulary, and is known all the same.
    assert found.profile.parts["head"] > 0
    json.dumps(found.to_json(), allow_nan=False)
