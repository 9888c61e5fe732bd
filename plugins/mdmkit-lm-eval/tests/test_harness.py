from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mdmkit
from mdmkit.cli import main

pytest.importorskip("lm_eval", reason="the harness is not installed: pip install lm_eval")
pytest.importorskip("mdmkit_lm_eval", reason="not installed: pip install -e plugins/mdmkit-lm-eval")

from mdmkit_lm_eval import harness
from mdmkit_lm_eval.likelihood import Key
from mdmkit_lm_eval.model import MdmkitLM
from mdmkit_lm_eval.tasks import load_tasks, prepare


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, and no bars."""
    import datasets
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def model(runs: Path, name: str = "masked", **options: Any) -> MdmkitLM:
    facts = {"runs_dir": str(runs), "device": "cpu", "draws": 4, **options}
    return MdmkitLM(name, **facts)


def run(lm: MdmkitLM, tasks: Path, *names: str, limit: float | None = None) -> harness.Outcome:
    return harness.run_tasks(lm, load_tasks(names, include=[tasks]), limit=limit)


def by_name(outcome: harness.Outcome) -> dict[tuple[str, str], harness.Number]:
    return {(number.task, number.metric): number for number in outcome.numbers}


def test_a_choice_is_that_of_our_own_evaluator(runs: Path, tasks: Path, questions: Path) -> None:
    lm = model(runs, seed=2)
    found = by_name(run(lm, tasks, "choice"))
    ours = mdmkit.evaluate(
        "masked",
        runs_dir=runs,
        device="cpu",
        seed=2,
        overrides=[
            'evaluators.own={use="multiple_choice", task="arc_easy", draws=4, '
            f'path="{questions}"}}'
        ],
    )["own"].measurements
    for metric, own in (("acc", "accuracy"), ("acc_bytes", "accuracy_per_byte")):
        number = found["choice", metric]
        assert number.value == pytest.approx(ours[own].value)
        assert number.draws_stderr == pytest.approx(ours[own].draws_stderr)
        assert number.documents == 12
        assert (number.stderr_by, number.higher_is_better) == ("harness", True)
        assert number.stderr is not None
        assert number.stderr == pytest.approx(
            math.sqrt(number.value * (1 - number.value) / 11), abs=1e-9
        )


def harness_task(name: str, file: Path, cache: Path) -> Any:
    """The harness's own task of this name, on a local file."""
    import lm_eval.tasks
    import yaml

    (path,) = Path(lm_eval.tasks.__file__).parent.glob(f"*/{name}.yaml")
    config = yaml.safe_load(path.read_text()) | {
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {"test": str(file)}, "cache_dir": str(cache)},
        "training_split": None,
        "validation_split": None,
        "test_split": "test",
    }
    manager = lm_eval.tasks.TaskManager(include_defaults=False)
    return manager.load([config])["tasks"][name]


@pytest.mark.parametrize("name", ["arc_easy", "piqa", "made up"])
def test_prompts_of_the_harness_are_those_of_our_tasks(
    questions: Path, tmp_path: Path, name: str
) -> None:
    from mdmkit.builtin.evaluators.choice.tasks import TASKS

    file = questions
    if name != "made up":
        folder = os.environ.get("MDMKIT_SHARED_DATA", "")
        found = Path(folder) / "choice" / f"{name}.validation.jsonl"
        if not folder or not found.is_file():
            pytest.skip("needs a copy of the set: MDMKIT_SHARED_DATA names no folder that has it")
        file = tmp_path / f"{name}.jsonl"
        file.write_text("".join(found.read_text().splitlines(keepends=True)[:20]))
    name = "arc_easy" if name == "made up" else name
    task = harness_task(name, file, tmp_path / "cache")
    prepare(task, None)
    task.build_all_requests(rank=0, world_size=1)
    theirs = {(one.doc_id, one.idx): one.args for one in task.instances}
    ours = {
        (question.number, index): (option.context, option.answer)
        for number, row in enumerate(TASKS[name].source(None, str(file)).rows())
        for question in [TASKS[name].question(row, number)]
        for index, option in enumerate(question.options)
    }
    assert theirs == ours


def test_batches_change_nothing_and_seeds_something(runs: Path, tasks: Path) -> None:
    one, same, other = (model(runs, batch_size=size, seed=seed, greedy=False, enumerate=1)
                        for size, seed in ((1, 0), (64, 0), (64, 1)))  # fmt: skip
    for lm in (one, same, other):
        run(lm, tasks, "choice", "generate", limit=2)
    nats = [[answer.nats for answer in lm.answers.values()] for lm in (one, same, other)]
    assert nats[0] == pytest.approx(nats[1], abs=1e-4)
    assert nats[0] != pytest.approx(nats[2], abs=1e-4)
    texts = [[text.text for text in lm.texts.values() for text in text] for lm in (one, same)]
    assert texts[0] == texts[1]


def test_limit_leaves_the_rest_as_it_is(runs: Path, tasks: Path) -> None:
    whole, part = model(runs, greedy=False), model(runs, greedy=False)
    run(whole, tasks, "choice")
    outcome = run(part, tasks, "choice", limit=0.25)
    assert outcome.tasks["choice"]["documents"] == 3
    assert outcome.tasks["choice"]["documents_in_split"] == 12
    assert {key.doc for key in part.answers} == {0, 1, 2}
    for key, answer in part.answers.items():
        assert answer.nats == pytest.approx(whole.answers[key].nats, abs=1e-4)


def test_texts_in_windows(runs: Path, tasks: Path) -> None:
    lm = model(runs)
    outcome = run(lm, tasks, "rolling")
    found = by_name(outcome)
    texts = [row["doc"]["text"] for row in outcome.samples["rolling"]]
    nats = math.fsum(answer.nats for answer in lm.answers.values())
    octets = sum(len(text.encode()) for text in texts)
    bits = found["rolling", "bits_per_byte"]
    assert bits.value == pytest.approx(nats / octets / math.log(2))
    spread = math.hypot(*(answer.stderr for answer in lm.answers.values()))
    assert bits.draws_stderr == pytest.approx(spread / octets / math.log(2), rel=0.2)
    assert bits.stderr_by == "bootstrap over documents"
    assert bits.stderr is not None
    assert bits.stderr > 0
    assert found["rolling", "word_perplexity"].draws_stderr > 0


@pytest.mark.parametrize("name", ["masked", "next"])
def test_a_last_word(runs: Path, tasks: Path, name: str) -> None:
    lm = model(runs, name)
    found = by_name(run(lm, tasks, "word"))
    nats = [answer.nats for answer in lm.answers.values()]
    number = found["word", "perplexity"]
    assert number.value == pytest.approx(math.exp(math.fsum(nats) / len(nats)))
    assert number.stderr is not None
    greedy = [bool(answer.greedy) for answer in lm.answers.values()]
    assert found["word", "acc"].value == sum(greedy) / len(greedy)
    if name == "next":
        assert number.draws_stderr == 0.0


def test_generated_text(runs: Path, tasks: Path) -> None:
    told: list[str] = []
    lm = model(runs, sampler="confidence", notify=told.append, **{"sampler.steps": 3})
    outcome = run(lm, tasks, "generate")
    (number,) = outcome.numbers
    assert (number.metric, number.documents, number.draws_stderr) == ("exact_match", 6, None)
    texts = [one for texts in lm.texts.values() for one in texts]
    assert len(texts) == 6
    assert all("\n" not in one.text and "." not in one.text for one in texts)
    assert {(one.tokens, one.network_evaluations) for one in texts} == {(12, 3)}
    assert told == [
        "generate: asks for do_sample=False, temperature=0.0; here the options of the sampler "
        "decide"
    ]
    resps = [row["resps"] for row in outcome.samples["generate"]]
    assert resps == [[[one.text]] for one in texts]


def test_a_group_has_the_errors_of_its_tasks(runs: Path, tasks: Path) -> None:
    found = by_name(run(model(runs, greedy=False, draws=2), tasks, "several"))
    one, again, both = (found[name, "acc"] for name in ("choice", "choice_again", "several"))
    assert both.documents == 24
    assert both.value == pytest.approx((one.value + again.value) / 2)
    assert one.draws_stderr
    assert both.draws_stderr == pytest.approx(math.hypot(one.draws_stderr, again.draws_stderr) / 2)


def test_repeated_and_nameless_requests(runs: Path) -> None:
    from lm_eval.api.instance import Instance

    lm = model(runs)
    asked = [
        Instance(request_type="loglikelihood", doc={}, arguments=("line", " 3: 9 is"), idx=0)
        for _ in range(2)
    ]
    one, two = lm.loglikelihood(asked)
    assert one != two  # each a document of its own
    assert lm.loglikelihood(asked[:1]) == [one]
    assert set(lm.answers) == {Key(task="", doc=doc, index=0) for doc in (0, 1)}


# --- the commands


@pytest.fixture
def command(
    runs: Path, tasks: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: str, run: str = "masked") -> tuple[int, str, str]:
        given = ["--runs-dir", str(runs), "--include-path", str(tasks), "--device", "cpu"]
        status = main(["lm-eval", run, *given, *arguments])
        return status, *capsys.readouterr()

    return call


def test_the_command(command: Any, tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    status, text, aside = command(
        "--tasks", "choice,rolling", "--limit", "3", "--draws", "4", "--out", str(out),
        "--batch-size", "4", "--seed", "7", "--no-greedy",
    )  # fmt: skip
    assert status == 0, aside
    assert text.split()[:3] == ["task", "metric", "filter"]
    assert [line.split()[:2] for line in text.splitlines()[1:]] == [
        ["choice", "acc"], ["choice", "acc_bytes"],
        ["rolling", "word_perplexity"], ["rolling", "bits_per_byte"],
    ]  # fmt: skip
    found = json.loads(out.read_text())
    assert set(found) == {"numbers", "tasks", "requests", "generated", "provenance"}
    assert [number["documents"] for number in found["numbers"]] == [3] * 4
    facts = found["provenance"]
    assert (facts["seed"], facts["draws"], facts["batch_size"], facts["limit"]) == (7, 4, 4, 3.0)
    assert facts["run"]["name"] == "masked"
    assert len(facts["weights_sha256"]) == 64
    assert len(found["requests"]) == 3 * 3 + 3
    assert all(one["nats"] > 0 and one["stderr"] >= 0 for one in found["requests"])
    assert "questions.jsonl" not in out.read_text()
    assert list(tmp_path.iterdir()) == [out]


def test_a_disk_that_is_full_in_the_end_costs_no_numbers(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    status, text, aside = command(
        "--tasks", "choice", "--limit", "2", "--no-greedy", "--out", str(tmp_path / "f.json")
    )
    assert (status, text.split()[:2]) == (2, ["task", "metric"])
    assert "f.json cannot be written (No space left on device)" in " ".join(aside.split())
    assert list(tmp_path.iterdir()) == []


def test_json_to_the_terminal_with_the_documents(command: Any) -> None:
    status, text, _ = command("--tasks", "generate", "--limit", "2", "--json", "--log-samples")
    assert status == 0
    found = json.loads(text)
    assert len(found["generated"]) == len(found["samples"]["generate"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "choicee"], '--tasks: no task "choicee"; did you mean "choice"'),
        (["--tasks", ","], "--tasks: missing"),
        (["--tasks", "choice", "--limit", "0"], "--limit: expected a number of documents"),
        (["--tasks", "choice", "--limit", "1.5"], "--limit: expected a number of documents"),
        (["--tasks", "choice", "--limit", "inf"], "--limit: expected a number of documents"),
        (["--tasks", "choice", "--limit", "1e300"], "--limit: expected a number of documents"),
        (["--tasks", "choice", "--seed", "-1"], "seed: expected at least 0, got -1"),
        (["--tasks", "choice", "--seed", "4294967296"], "seed: expected at most 4294967295, got"),
        (["--tasks", "choice", "--draws", "1"], "draws: expected at least 2, got 1"),
        (["--tasks", "choice", "--out", "/no/such/f.json"], "--out: there is no folder /no/such"),
        (["--tasks", "choice", "--out", "/proc/f.json"], "--out: /proc/f.json cannot be written"),
        (["--tasks", "choice", "--out", "/dev/null"], "--out: /dev/null is no plain file"),
        (["--tasks", "choice", "--set", "train.steps=3"], r"\[train\] is fixed once a run"),
        (["--tasks", "choice", "--use", "none"], 'no sampler "none"'),
        (["--tasks", "choice", "--include-path", "/no"], "--include-path: no folder /no"),
        (["--tasks", "generate", "--use", "autoregressive"], 'whose prediction is "next_token"'),
    ],
)  # fmt: skip
def test_bad_input_is_told_in_words(
    command: Any, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    import re

    import lm_eval.tasks

    manager = lm_eval.tasks.TaskManager  # that of the harness's own 14,000 tasks takes seconds
    monkeypatch.setattr(
        lm_eval.tasks,
        "TaskManager",
        lambda **options: manager(**{**options, "include_defaults": False}),
    )
    status, text, aside = command(*arguments)
    assert (status, text) == (2, "")
    assert re.search(message, " ".join(aside.split()))
    assert "Traceback" not in aside


def test_an_unknown_run(command: Any) -> None:
    status, _, aside = command("--tasks", "choice", run="maskd")
    assert status == 1
    assert 'run "maskd": no such run directory; did you mean "masked"?' in aside


def test_a_task_without_its_data(command: Any, tasks: Path, tmp_path: Path) -> None:
    text = (tasks / "choice.yaml").read_text().replace("questions.jsonl", "gone.jsonl")
    path = tmp_path / "gone.yaml"
    path.write_text(text.replace("task: choice", "task: gone"))
    status, _, aside = command("--tasks", str(path))
    assert status == 2
    assert "cannot be opened (FileNotFoundError" in aside


def test_the_harness_finds_the_model(runs: Path) -> None:
    """By its own registry, with arguments as its command gives them."""
    from lm_eval.api.registry import get_model

    made = get_model("mdmkit").create_from_arg_string(
        f"run=masked,runs_dir={runs},draws=6,sampler=confidence,sampler.steps=3",
        {"batch_size": "2", "device": "cuda:0", "max_batch_size": None},
    )
    assert (made.protocol.draws, made.trained.recipe.sampler.steps) == (6, 3)
    assert made._context.batch_size == 2
    for arguments, message in (
        ({"run": "masked", "drawz": 3}, "no argument 'drawz'; did you mean \"draws\"?"),
        ({"draws": 3}, "run is missing"),
    ):
        with pytest.raises(mdmkit.RecipeError, match=message.replace("?", r"\?")):
            get_model("mdmkit").create_from_arg_obj(arguments)


def test_several_processes_are_refused(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(mdmkit.RecipeError, match="one process"):
        model(runs)


def test_importing_the_command_loads_nothing_heavy() -> None:
    code = (
        "import sys, mdmkit_lm_eval.commands\n"
        "sys.exit(str([n for n in ('torch', 'lm_eval', 'datasets') if n in sys.modules] or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stderr.strip(), done.stdout) == ("", "")
