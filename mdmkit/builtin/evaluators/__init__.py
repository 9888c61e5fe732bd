"""Evaluators: numbers about a trained network, each with its standard error."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mdmkit.builtin.evaluators.analysis import (
    ContextAllocation,
    Gradient,
    Locality,
    LossByMaskRatio,
    MutualInformation,
)
from mdmkit.builtin.evaluators.choice import LastWord, MultipleChoice
from mdmkit.builtin.evaluators.duel import Duel
from mdmkit.builtin.evaluators.few_step import FewStep
from mdmkit.builtin.evaluators.generation import GenerativePerplexity, Judge, Mauve
from mdmkit.builtin.evaluators.nelbo import Nelbo
from mdmkit.builtin.samplers import Ancestral
from mdmkit.hookspecs import hookimpl

__all__ = [
    "ContextAllocation",
    "Duel",
    "FewStep",
    "GenerativePerplexity",
    "Gradient",
    "LastWord",
    "Locality",
    "LossByMaskRatio",
    "Mauve",
    "MultipleChoice",
    "MutualInformation",
    "Nelbo",
    "mdmkit_evaluators",
]


@hookimpl
def mdmkit_evaluators() -> Mapping[str, type]:
    """The evaluators of this package."""
    return {
        "nelbo": Nelbo,
        "duel": Duel,
        "few_step": FewStep,
        "multiple_choice": MultipleChoice,
        "last_word": LastWord,
        "generative_perplexity": GenerativePerplexity,
        "mauve": Mauve,
        "locality": Locality,
        "mutual_information": MutualInformation,
        "context": ContextAllocation,
        "loss_by_mask_ratio": LossByMaskRatio,
        "gradient": Gradient,
    }


def contract_examples(directory: Path) -> Iterator[Any]:
    """What `mdmkit.testing` tries beside the defaults: with data, or a judge, of our own."""
    questions, passages = directory / "questions.jsonl", directory / "passages.jsonl"
    answers = ("up", "down", "sideways", "out")
    pairs = [(one, two) for one in answers for two in answers if one != two]
    questions.write_text(
        "".join(
            json.dumps({"goal": "go", "sol1": one, "sol2": two, "label": i % 2}) + "\n"
            for i, (one, two) in enumerate(pairs)
        )
    )
    passages.write_text("".join(json.dumps({"text": f"go {word}"}) + "\n" for word in answers))
    yield MultipleChoice(task="piqa", path=str(questions))
    yield MultipleChoice(task="piqa", path=str(questions), questions=5, draws=4, bos=True)
    yield FewStep(blocks=0, points=3, steps=(2,), direct=(1, 3))
    yield LossByMaskRatio(blocks=5, points=3)
    yield Gradient(batches=3, rows=4, reference=1, bins=2)
    yield LastWord(path=str(passages))
    yield LastWord(path=str(passages), enumerate=0, questions=3)
    judge = Judge(run="judge")
    yield GenerativePerplexity(n=5, judge=judge)
    yield GenerativePerplexity(n=2, length=7, judge=judge, sampler=Ancestral(steps=2, eos="stop"))
    yield Mauve(n=20, seeds=2, judge=judge, split="validation")
