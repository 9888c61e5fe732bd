from __future__ import annotations

from typing import Any

import pytest

from mdmkit.comparison.groups import COOLED, ENVELOPE, choose_baseline, group_runs
from mdmkit.comparison.runs import find_runs, load_run
from mdmkit.errors import CheckpointError, MdmkitError
from mdmkit.plugins import load_catalogue

CATALOGUE = load_catalogue({"MDMKIT_PLUGINS": "none"})


def grouped(*paths: Any, labels: Any = None, free: Any = frozenset()):
    notes: list[str] = []
    runs = [load_run(path, catalogue=CATALOGUE, notify=notes.append) for path in paths]
    methods = group_runs(runs, labels=labels or {}, free=free, notify=notes.append)
    return {m.label: [v.seeds for v in m.variants] for m in methods}, notes


def test_runs_that_differ_in_the_seed_alone_are_one_method(make_run):
    paths = [
        make_run("bell", seed=2),
        make_run("flat", overrides=["time_sampler.use=uniform"]),
        make_run("bell", seed=1, overrides=["train.log_every=7", "sampler.steps=3"]),
    ]
    assert grouped(*paths) == ({"bell": [(1, 2)], "flat": [(1,)]}, [])


def test_a_method_is_called_what_its_names_share(make_run):
    paths = [make_run("bell-seed1", seed=1), make_run("bell-seed2", seed=2)]
    assert list(grouped(*paths)[0]) == ["bell"]


def test_methods_of_one_name_are_told_apart_by_what_differs(make_run):
    paths = [
        make_run("bell", directory="a", overrides=["learning_rate.peak=0.002"]),
        make_run("bell", directory="b", overrides=["learning_rate.peak=0.004"]),
        make_run("other", directory="c", overrides=["time_sampler.width=0.3"]),
        make_run("other", directory="d", overrides=["loss_weighting.use=elbo"]),
    ]
    found = list(grouped(*paths)[0])
    assert found[:2] == ["bell peak=0.002", "bell peak=0.004"]
    assert found[2:] == [
        "other width=0.3 loss_weighting=flat",
        "other width=0.1 loss_weighting=elbo",
    ]


def test_what_is_free_makes_variants(make_run):
    paths = [
        make_run("m", directory=f"{peak}-{steps}", overrides=[
            f"learning_rate.peak={peak}", f"train.steps={steps}", "learning_rate.shape=wsd",
        ], steps=(0, steps))
        for peak in ("0.001", "0.002") for steps in (300, 600)
    ]  # fmt: skip
    assert grouped(*paths, free=ENVELOPE | COOLED)[0] == {"m": [(1,)] * 4}
    assert len(grouped(*paths, free=ENVELOPE)[0]) == 2
    assert len(grouped(*paths)[0]) == 4


def test_labels_put_runs_together_and_say_in_what_they_differ(make_run):
    paths = [
        make_run("one", seed=1),
        make_run("two", seed=2, overrides=["time_sampler.width=0.3"]),
        make_run("three", overrides=["time_sampler.use=uniform"]),
    ]
    found, notes = grouped(*paths, labels={"both": ["one*", str(paths[1])]})
    assert found == {"both": [(1, 2)], "three": [(1,)]}
    assert notes == [
        "both: its runs were put together by --label though they differ in time_sampler.width"
    ]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"x": ["nothing*"]}, "--label x=nothing*: fits none of the runs"),
        ({"x": ["one*"], "y": ["*"]}, "fits x and y"),
        ({"x": ["*"]}, "are the same seed of the same method"),
    ],
)
def test_labels_that_cannot_be(make_run, labels, words):
    paths = [make_run("one"), make_run("two")]
    with pytest.raises(MdmkitError) as caught:
        grouped(*paths, labels=labels)
    assert words in str(caught.value)


def test_the_baseline_is_the_first_or_the_one_that_is_named(make_run):
    paths = [make_run("one"), make_run("two", overrides=["time_sampler.width=0.3"])]
    runs = [load_run(path, catalogue=CATALOGUE, notify=print) for path in paths]
    methods = group_runs(runs, labels={}, notify=print)
    assert choose_baseline(methods, None).label == "one"
    assert choose_baseline(methods, "two").label == "two"
    with pytest.raises(MdmkitError, match=r'no method "tow"; did you mean "two"'):
        choose_baseline(methods, "tow")


def test_folders_names_and_shared_names_find_runs(make_run, tmp_path):
    a, b = make_run("bell", seed=1), make_run("bell", seed=2)
    root = tmp_path / "runs"
    inner = make_run("x", directory="deep/er/x")
    assert find_runs(["bell"], root) == [a, b]
    assert find_runs([b, root], root) == [b, a, inner]
    assert find_runs([a.name], root) == [a]
    with pytest.raises(CheckpointError, match="no such run directory"):
        find_runs(["bel"], root)
