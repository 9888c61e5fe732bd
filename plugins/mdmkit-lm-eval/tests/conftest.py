from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import mdmkit
from mdmkit.data.blocks import build_tokenizer

RECIPE = """
[run]
name = "{name}"
[data]
length = 64
corpus = {{ use = "text", train = "{text}", validation = "{text}", test = "{text}" }}
tokenizer = {{ use = "bpe", vocab_size = 262 }}
[denoiser]
use = "dit"
width = 16
depth = 2
heads = 2
[objective]
use = "{objective}"
[sampler]
use = "{sampler}"
{options}
[train]
steps = 6
global_batch_size = 16
precision = "fp32"
[learning_rate]
warmup_steps = 2
"""
KINDS = {
    "masked": {"objective": "masked_diffusion", "sampler": "ancestral", "options": "steps = 8"},
    "next": {"objective": "autoregressive", "sampler": "autoregressive", "options": ""},
}


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs ``masked`` and ``next`` of random weights."""
    folder = tmp_path_factory.mktemp("lm_eval")
    text = folder / "text.txt"
    text.write_text("".join(f"line {i}: {i * i} is the square of {i}.\n" for i in range(60)))
    for name, parts in KINDS.items():
        path = folder / f"{name}.toml"
        path.write_text(RECIPE.format(name=name, text=text, **parts))
        recipe = mdmkit.load_recipe(path)
        tokenizer = build_tokenizer(recipe.data)
        torch.manual_seed(len(name))
        network = recipe.denoiser.build(tokenizer.vocab)
        weights = {
            key: value + 0.1 * torch.randn_like(value)
            for key, value in network.state_dict().items()
        }
        mdmkit.write_run(
            folder / "runs" / name, recipe, weights=weights, source={"made": "for a test"},
            tokenizer=tokenizer,
        )  # fmt: skip
    return folder / "runs"


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def arc_rows(count: int = 12) -> list[dict[str, Any]]:
    """Questions in the columns of ARC, with answers of few and of many tokens."""
    short = itertools.cycle(["four", "9", "is", "25"])
    long = itertools.cycle(["a square", "6 square", "one line", "the sum.", "of seven"])
    return [
        {
            "id": str(number),
            "question": f"What is {number} times {number}?",
            "choices": {
                "text": [next(long if number % 3 else short) for _ in range(3)],
                "label": ["A", "B", "C"],
            },
            "answerKey": "ABC"[number % 3],
        }
        for number in range(count)
    ]


HEAD = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files: {{test: "{data}"}}
  cache_dir: "{cache}"
test_split: test
metadata: {{version: 1.0}}
"""
KINDS_OF_TASKS = {
    "choice": """
output_type: multiple_choice
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_target: "{{choices.label.index(answerKey)}}"
doc_to_choice: "{{choices.text}}"
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_bytes, aggregation: mean, higher_is_better: true}
""",
    "rolling": """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list:
  - {metric: word_perplexity, aggregation: weighted_perplexity, higher_is_better: false}
  - {metric: bits_per_byte, aggregation: bits_per_byte, higher_is_better: false}
""",
    "word": """
output_type: loglikelihood
doc_to_text: "{{text.split(' ')[:-1]|join(' ')}}"
doc_to_target: "{{' ' + text.split(' ')[-1]}}"
metric_list:
  - {metric: perplexity, aggregation: perplexity, higher_is_better: false}
  - {metric: acc, aggregation: mean, higher_is_better: true}
""",
    "generate": """
output_type: generate_until
doc_to_text: "Say {{text}}:"
doc_to_target: "{{text}}"
generation_kwargs: {until: ["\\n", "."], max_gen_toks: 12, do_sample: false, temperature: 0.0}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
""",
}
GROUP = """
group: several
task: [choice, choice_again]
aggregate_metric_list:
  - {metric: acc, aggregation: mean, weight_by_size: true}
metadata: {version: 1.0}
"""


@pytest.fixture(scope="session")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of questions as ARC has them."""
    return write_rows(tmp_path_factory.mktemp("questions") / "questions.jsonl", arc_rows())


@pytest.fixture(scope="session")
def tasks(tmp_path_factory: pytest.TempPathFactory, questions: Path) -> Path:
    """A folder of tasks of local files, a group among them."""
    folder = tmp_path_factory.mktemp("tasks")
    texts = [f"line {i}: {i * i} is the square of {i} and of minus {i}" for i in range(3, 9)]
    lines = write_rows(folder / "lines.jsonl", [{"text": text} for text in texts])
    kinds = {**KINDS_OF_TASKS, "choice_again": KINDS_OF_TASKS["choice"]}
    for name, body in kinds.items():
        data = questions if "choice" in name else lines
        head = HEAD.format(name=name, data=data, cache=folder / "cache")
        (folder / f"{name}.yaml").write_text(head + body)
    (folder / "several.yaml").write_text(GROUP)
    return folder
