"""Do the harness and our own evaluator say the same of a run? ARC-Easy and PIQA, both ways.

    mdmkit run quickstart_bell --set train.steps=300
    python benchmarks/lm_eval_agreement.py quickstart_bell --arc-easy arc_easy.validation.jsonl \
        --piqa piqa.validation.jsonl > benchmarks/results/lm_eval_agreement.json

With the same seed: how far apart are the scores of the answers at most, and are the accuracies
equal? With another seed: how far apart are the accuracies, in standard errors of the draws? Needs
plugins/mdmkit-lm-eval.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")

from mdmkit_lm_eval.harness import Number, run_tasks
from mdmkit_lm_eval.likelihood import Key
from mdmkit_lm_eval.model import MdmkitLM
from mdmkit_lm_eval.tasks import load_tasks

import mdmkit
from mdmkit.builtin.evaluators.choice import MultipleChoice
from mdmkit.environment import environment

TASK = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files: {{test: "{path}"}}
  cache_dir: "{cache}"
output_type: multiple_choice
test_split: test
doc_to_text: "Question: {{{{{question}}}}}\\nAnswer:"
doc_to_target: "{{{{{right}}}}}"
doc_to_choice: "{{{{{choices}}}}}"
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
  - metric: acc_bytes
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1.0
"""
# prompts as those of the harness's own tasks of these names
TASKS = {
    "arc_easy": {
        "question": "question",
        "right": "choices.label.index(answerKey)",
        "choices": "choices.text",
    },
    "piqa": {"question": "goal", "right": "label", "choices": "[sol1, sol2]"},
}
SAME = {"acc": "accuracy", "acc_bytes": "accuracy_per_byte"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    for name in TASKS:
        parser.add_argument(f"--{name.replace('_', '-')}", type=Path, help="a file of its rows")
    parser.add_argument("--questions", type=int, default=100, help="the first so many")
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="fp32")
    asked = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in TASKS:
            if (path := getattr(asked, name)) is not None:
                results[name] = compared(name, path, asked, Path(folder))
                print(json.dumps({name: results[name]}), file=sys.stderr, flush=True)
    opened = mdmkit.open_run(asked.run, device=asked.device, precision=asked.dtype)
    files = {name: getattr(asked, name).name for name in results}
    plain = {
        "command": " ".join(
            ["python", "benchmarks/lm_eval_agreement.py", opened.directory.name]
            + [f"--{name.replace('_', '-')} {file}" for name, file in files.items()]
            + [f"--questions {asked.questions} --draws {asked.draws}"]
            + [f"--device {asked.device} --dtype {asked.dtype}"]
        ),
        "facts": opened.facts,
        "environment": {**environment(opened.device), "lm_eval": version("lm_eval")},
        "results": results,
    }
    print(json.dumps(plain, indent=1))


def compared(name: str, path: Path, asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One task both ways."""
    rows = path.read_text(encoding="utf-8").splitlines(keepends=True)[: asked.questions]
    short = folder / f"{name}.jsonl"
    short.write_text("".join(rows), encoding="utf-8")
    begun = time.perf_counter()
    ours = by_evaluator(name, short, asked)
    middle = time.perf_counter()
    theirs = by_harness(name, short, asked, folder, seed=0)
    end = time.perf_counter()
    again = by_harness(name, short, asked, folder, seed=1)
    apart = [abs(nats - theirs["nats"][key]) for key, nats in ours["nats"].items()]
    both = {key.doc for key in ours["nats"]}
    return {
        "questions": len(rows),
        "questions_too_long_for_the_evaluator": len(rows) - len(both),
        "answers_of_both": len(apart),
        "largest_difference_nats": max(apart),
        "mean_nats": sum(ours["nats"].values()) / len(apart),
        "harness_on_questions_of_both": {
            metric: sum(one[metric] for one in theirs["samples"] if one["doc_id"] in both)
            / len(both)
            for metric in SAME
        },
        "same_seed": beside(ours["numbers"], theirs["numbers"]),
        "other_seed": beside(ours["numbers"], again["numbers"]),
        "seconds": {"evaluator": middle - begun, "harness": end - middle},
    }


def beside(ours: Mapping[str, Any], theirs: Mapping[str, Number]) -> dict[str, Any]:
    """The accuracies next to one another."""
    return {
        metric: {
            "evaluator": {
                "value": ours[own].value,
                "stderr": ours[own].stderr,
                "draws_stderr": ours[own].draws_stderr,
            },
            "harness": {
                "value": theirs[metric].value,
                "stderr": theirs[metric].stderr,
                "draws_stderr": theirs[metric].draws_stderr,
            },
        }
        for metric, own in SAME.items()
    }


def by_evaluator(name: str, path: Path, asked: argparse.Namespace) -> dict[str, Any]:
    opened = mdmkit.open_run(asked.run, device=asked.device, precision=asked.dtype)
    context = mdmkit.trained_context(opened)
    live = MultipleChoice(task=name, path=str(path), draws=asked.draws).build(context)
    for index in range(len(live)):
        live.update(index)
    nats = live.answers.nats(live.table)
    return {
        "numbers": live.compute(),
        "nats": {
            Key(task=name, doc=question.number, index=index): float(nats[row, 2])
            for question, rows in zip(live.answers.questions, live.answers.rows, strict=True)
            for index, row in enumerate(rows)
        },
    }


def by_harness(
    name: str, path: Path, asked: argparse.Namespace, folder: Path, *, seed: int
) -> dict[str, Any]:
    text = TASK.format(name=name, path=path, cache=folder / "cache", **TASKS[name])
    (folder / f"{name}.yaml").write_text(text)
    lm = MdmkitLM(
        asked.run,
        device=asked.device,
        dtype=asked.dtype,
        draws=asked.draws,
        seed=seed,
        greedy=False,
    )
    outcome = run_tasks(lm, load_tasks([name], include=[folder]))
    return {
        "numbers": {number.metric: number for number in outcome.numbers},
        "nats": {key: answer.nats for key, answer in lm.answers.items()},
        "samples": outcome.samples[name],
    }


if __name__ == "__main__":
    main()
