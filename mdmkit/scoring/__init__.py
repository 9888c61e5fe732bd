"""Scoring given texts: the NELBO of an answer given its context, and filling it in greedily.

What the downstream evaluators do, for those who bring questions of their own. With a trained run:

    with_context = mdmkit.trained_context(mdmkit.open_run("my-run"))
    question = Question(
        number=0,
        options=(
            Option(context="Water is", answer=" wet"), Option(context="Water is", answer=" dry"),
        ),
        right=0,
    )
    ((wet, dry),) = score_answers(with_context, [question])

The lower NELBO (`Score.nats`) wins.
"""

from __future__ import annotations

from mdmkit.scoring.questions import Encoded, Option, Question, encode, windows
from mdmkit.scoring.score import (
    Score,
    Together,
    filled_in_greedily,
    score_answers,
    score_rows,
)

__all__ = [
    "Encoded",
    "Option",
    "Question",
    "Score",
    "Together",
    "encode",
    "filled_in_greedily",
    "score_answers",
    "score_rows",
    "windows",
]
