"""The card of an exported run, ``README.md``: what it is, how good, from what, how to load it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from mdmkit import TrainedRun
from mdmkit_hf.exporting.numbers import Measured, last_validation, measured, weights_of

_OURS = """\
```python
import mdmkit_hf.auto  # pip install mdmkit-hf; registers the class, nothing remote is run
from transformers import {auto}, AutoTokenizer

model = {auto}.from_pretrained("{place}")
tokenizer = AutoTokenizer.from_pretrained("{place}")
```"""

_THEIRS = """\
```python
from transformers import {auto}, AutoTokenizer

model = {auto}.from_pretrained("{place}")
tokenizer = AutoTokenizer.from_pretrained("{place}")
```"""


@frozen(kw_only=True)
class Facts:
    """What a card says besides what is in the run's directory.

    Attributes:
        recipe_toml: the recipe's file.
        data: the table ``[data]`` of the recipe.
        auto: the class of transformers that loads it.
        own: whether that needs this package.
        dtype: of the weights.
        parameters: how many.
        logits: how many at each position; those past the vocabulary mean nothing.
        place: the folder's name.
        imported: where the weights came from, if they were not trained by mdmkit.
    """

    recipe_toml: str
    data: Mapping[str, Any]
    auto: str
    own: bool
    dtype: str
    parameters: int
    logits: int
    place: str
    imported: Mapping[str, Any] | None


def card(trained: TrainedRun, facts: Facts) -> str:
    """The text of the card.

    Raises:
        DataError: where a file of the run's evaluations cannot be read.
    """
    of = weights_of(trained.step, trained.ema)
    averages = trained.recipe.train.ema_decay > 0
    validation = last_validation(trained.directory, trained.step, ema=averages)
    results = ([] if validation is None else [validation]) + measured(trained.directory)
    parts = [
        _front(facts),
        f"# {trained.recipe.run.name}",
        f"A {_kind(trained)} of {facts.parameters:,} parameters, made with mdmkit. The weights "
        f"are those of {of}, in {facts.dtype}.",
        "## How to load it",
        _loading(trained, facts),
        "## Numbers",
        _numbers(results, of),
        *_provenance(results),
        "## What it was made of",
        _made_of(trained, facts),
        "## Recipe",
        "```toml\n" + facts.recipe_toml.strip() + "\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _front(facts: Facts) -> str:
    task = "text-generation" if facts.auto == "AutoModelForCausalLM" else "fill-mask"
    tags = ("mdmkit", "masked-diffusion")
    lines = ["---", "library_name: transformers", f"pipeline_tag: {task}", "tags:"]
    return "\n".join([*lines, *(f"- {tag}" for tag in tags), "---"])


def _kind(trained: TrainedRun) -> str:
    masked = trained.recipe.objective.prediction == "masked"
    return "masked diffusion language model" if masked else "next-token language model"


def _loading(trained: TrainedRun, facts: Facts) -> str:
    code = (_OURS if facts.own else _THEIRS).format(auto=facts.auto, place=facts.place)
    special, vocab = trained.tokenizer.special, trained.tokenizer.vocab
    spare = (
        f" There are {vocab.size} ids, and logits for {facts.logits}: leave out those from "
        f"{vocab.size} on, too."
        if facts.logits > vocab.size
        else ""
    )
    says = (
        f"A masked token is `{special.mask}` (id {vocab.mask_id}); its own logit means nothing, so "
        f"set it to −∞ before a softmax.{spare}"
    )
    back = f"`mdmkit import {facts.place} --out RUN` makes a run of it again, to measure and sample"
    both = (
        "\n\nThis class attends to earlier positions alone, unless it is told otherwise. The "
        "network looks both ways: give it an `attention_mask` of shape `[1, 1, L, L]` that is True "
        "everywhere, or use the run that `mdmkit import` makes."
        if facts.auto == "AutoModelForCausalLM" and trained.recipe.objective.prediction == "masked"
        else ""
    )
    shift = (
        "\n\nThe logits are shifted by one: what stands at position i is read at i − 1; the first "
        "position, and the first of each document, are read at themselves."
        if not facts.own and getattr(trained.recipe.denoiser, "shift", False)
        else ""
    )
    return f"{code}\n\n{says} {back}; the weights are plain safetensors.{both}{shift}"


def _numbers(results: Sequence[Measured], of: str) -> str:
    rows = [number for result in results for number in result.numbers]
    if not rows:
        return "Nothing was measured."
    lines = [
        "| by | number | value ± standard error | unit | of the weights |",
        "|---|---|---|---|---|",
        *(
            f"| {n.label} | {n.name} | {n.value:.6g} ± {n.stderr:.2g} | {n.unit} | {n.of} |"
            for n in rows
        ),
    ]
    others = any(number.of != of for number in rows)
    note = f"\n\nSome are not of the weights in this folder, which are those of {of}."
    return "\n".join(lines) + (note if others else "")


def _provenance(results: Sequence[Measured]) -> Iterator[str]:
    for result in results:
        text = json.dumps(result.provenance, indent=2, ensure_ascii=False)
        if result.provenance:
            yield f"What `{result.label}` measured:\n\n```json\n{text}\n```"


def _made_of(trained: TrainedRun, facts: Facts) -> str:
    recipe = trained.recipe
    rows: dict[str, object] = {
        "data set": _options(facts.data["corpus"]),
        "tokenizer": f"{_options(facts.data['tokenizer'])}, {trained.tokenizer.vocab.size} ids",
        "packing": f"{_options(facts.data['packing'])}, {recipe.data.length} tokens a block",
        "checkpoint": f"step {trained.step} of {recipe.train.steps}",
        "weights": "averaged over training (EMA)" if trained.ema else "as they are, no average",
        "precision": f"{recipe.train.precision} in training, {facts.dtype} in this folder",
        "seed": recipe.run.seed,
        "recipe hash": trained.recipe_hash,
    }
    lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]
    text = "\n".join(lines)
    if facts.imported is not None:
        said = json.dumps(facts.imported, indent=2, ensure_ascii=False)
        text += f"\n\nThe weights were imported, not trained by mdmkit:\n\n```json\n{said}\n```"
    return text


def _options(table: Mapping[str, Any]) -> str:
    """A component in words: its name, and its options."""
    options = ", ".join(f"{key} = {value}" for key, value in table.items() if key != "use")
    return f"{table['use']} ({options})" if options else str(table["use"])


def read_imported(directory: Path) -> Mapping[str, Any] | None:
    """What a run says of where its weights are from, or None."""
    path = directory / "imported.json"
    if not path.is_file():
        return None
    found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
