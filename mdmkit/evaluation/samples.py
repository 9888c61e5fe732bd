"""A generated text, and how it came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import field, frozen

from mdmkit.evaluation.infilling.gap_lengths import Candidate
from mdmkit.protocols import Tokenizer


@frozen(kw_only=True)
class FilledGap:
    """A stretch of generated text.

    Attributes:
        text: what stands in it.
        start, stop: where that is in the tokens; ``ids[start:stop]``.
        text_start, text_stop: where it is in the text, in characters.
    """

    text: str
    start: int
    stop: int
    text_start: int
    text_stop: int


@frozen(kw_only=True)
class Sample:
    """A generated text and how it came about.

    Attributes:
        text: decoded; special tokens are kept. Where the sampler stops at EOS (``eos = "stop"``) it
            ends before the first one that was generated.
        ids: all L token ids, what is given included.
        row: its number, counted from 0 for every template; with the seed it fixes the noise.
        seed: of the generation.
        sampler: the sampler's name in the recipe.
        network_evaluations: how often the network was called for the batch it was in, which the
            batch shared; not for this text alone.
        prompt: the text it begins with.
        log_p: sum of the log-probabilities that the network gave the generated tokens when they
            were drawn, in nats (at temperature 1, nothing cut off). It is no likelihood of the
            text: tokens drawn together did not see each other. Of a text that ends before an EOS
            up to and with that one. None where the sampler does not tell.
        token_log_p: those of each of the L tokens, 0 where a token was given; or None.
        gaps: where generated text stands.
        template: the template it fills; None without.
        template_id: what the template is called, or its number.
        nelbo, nelbo_stderr: where the template left lengths open, the chosen candidate's; in nats.
        candidates: all lengths that were tried.
        provenance: run, checkpoint, precision and the sampler's options, as plain JSON.
    """

    text: str
    ids: tuple[int, ...]
    row: int
    seed: int
    sampler: str
    network_evaluations: int
    prompt: str = ""
    log_p: float | None = None
    token_log_p: tuple[float, ...] | None = None
    gaps: tuple[FilledGap, ...] = ()
    template: str | None = None
    template_id: str | int | None = None
    nelbo: float | None = None
    nelbo_stderr: float | None = None
    candidates: tuple[Candidate, ...] = ()
    provenance: Mapping[str, Any] = field(factory=dict)


def end_of_text(ids: Sequence[int], gaps: Sequence[tuple[int, int]], eos_id: int | None) -> int:
    """Where the first generated EOS stands; L without one.

    >>> end_of_text([9, 1, 2, 9, 9], [(1, 5)], eos_id=9)
    3
    """
    ends = (i for start, stop in gaps for i in range(start, stop) if ids[i] == eos_id)
    return next(ends, len(ids))


def filled_gaps(
    ids: Sequence[int], gaps: Sequence[tuple[int, int]], tokenizer: Tokenizer
) -> tuple[FilledGap, ...]:
    """What stands in each gap of ``ids``; gaps behind their end are left out."""
    found = []
    for start, stop in gaps:
        stop = min(stop, len(ids))
        if start < stop:
            before, until = tokenizer.decode(ids[:start]), tokenizer.decode(ids[:stop])
            found.append(
                FilledGap(
                    text=until[len(before) :],
                    start=start,
                    stop=stop,
                    text_start=len(before),
                    text_stop=len(until),
                )
            )
    return tuple(found)
