"""Which texts are asked for, and whether a run can generate them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs
from attrs import frozen

from mdmkit.data.cache import Notify
from mdmkit.errors import RecipeError
from mdmkit.evaluation.infilling.frames import Frame, Start, frame_of_prompt, frame_of_template
from mdmkit.evaluation.infilling.gap_lengths import CANDIDATES, Candidate
from mdmkit.evaluation.infilling.templates import Gap, Template, parse_template
from mdmkit.plugins import load_catalogue
from mdmkit.protocols import Prediction, Sampler, Tokenizer
from mdmkit.recipe import Recipe
from mdmkit.values import Vocabulary

DRAWS = 32
"""Masks for each candidate length, where nobody says."""
LONGEST = 2**20
"""Tokens of a text, whatever a sampler can do."""

Chooser = Callable[[Frame], tuple[Candidate, ...]]


@frozen(kw_only=True)
class Asked:
    """What is asked for; see `mdmkit.sample` for the meaning of each."""

    n: int | None = None
    length: int | None = None
    seed: int = 0
    prompt: str = ""
    templates: Sequence[str | Template] = ()
    draws: int | None = None
    batch_size: int | None = None
    use: str | None = None
    steps: int | None = None
    overrides: Sequence[str] = ()
    checkpoint: int | None = None
    ema: bool = True
    device: str = "auto"
    dtype: str | None = None
    compile: bool = False

    @property
    def copies(self) -> int:
        """Texts of each template, or all of them without templates."""
        return (1 if self.templates else 4) if self.n is None else self.n


@frozen(kw_only=True)
class Wanted:
    """One text that is to be generated.

    Attributes:
        place: its number among all of them.
        row: the number of its noise.
        start: what the sampler begins with.
        template: what it fills; None without templates.
        template_id: what that is called.
        candidates: the lengths that were tried for its gaps.
    """

    place: int
    row: int
    start: Start
    template: Template | None = None
    template_id: str | int | None = None
    candidates: tuple[Candidate, ...] = ()

    @property
    def chosen(self) -> Candidate | None:
        """The lengths that were taken, where there was a choice."""
        return next((one for one in self.candidates if one.chosen), None)


def wanted_texts(
    asked: Asked, recipe: Recipe, tokenizer: Tokenizer, choose: Chooser | None, notify: Notify
) -> list[Wanted]:
    """Every text that is asked for, those of one template together.

    Args:
        asked: the request.
        recipe: of the run, with its sampler.
        tokenizer: of the run.
        choose: scores the lengths of a frame; None where no template may leave them open.
        notify: is told of lengths that cannot be told apart.

    Raises:
        RecipeError: for whatever the run cannot do.
        DataError: where the tokenizer refuses a character.
    """
    check_asked(asked)
    _check_kind(recipe)
    if not asked.templates:
        length = recipe.data.length if asked.length is None else asked.length
        if length < 1:
            raise RecipeError(_too_long("length", length, recipe))
        frame = frame_of_prompt(asked.prompt, length, tokenizer)
        _check_length(frame, recipe)
        start = frame.start((length - frame.given,), tokenizer.vocab.mask_id)
        return [Wanted(place=row, row=row, start=start) for row in range(asked.copies)]
    named = _named(asked.templates)
    frames = {id: frame_of_template(template, tokenizer) for id, template in named.items()}
    for frame in frames.values():
        _check_frame(frame, recipe)
    if asked.draws is not None and all(frame.combinations == 1 for frame in frames.values()):
        raise RecipeError("draws: no template leaves a length open, as [MASK:3-8] does")
    wanted: list[Wanted] = []
    for id, frame in frames.items():
        start, candidates = _sized(frame, recipe, tokenizer.vocab.mask_id, choose, notify)
        wanted += [
            Wanted(
                place=len(wanted) + row,
                row=row,
                start=start,
                template=named[id],
                template_id=id,
                candidates=candidates,
            )
            for row in range(asked.copies)
        ]
    return wanted


def in_batches(wanted: Sequence[Wanted], size: int) -> Iterator[list[Wanted]]:
    """Batches of rows of one length, at most `size` each."""
    by_length: dict[int, list[Wanted]] = {}
    for one in wanted:
        by_length.setdefault(len(one.start.ids), []).append(one)
    for same in by_length.values():
        for first in range(0, len(same), size):
            yield same[first : first + size]


def fitting_samplers(prediction: Prediction, *, any_length: bool = False) -> list[str]:
    """The names of the samplers that drive such a network, or those for any length of text."""
    return [
        name
        for name, component in sorted(load_catalogue().of("mdmkit_samplers").items())
        if getattr(component.cls, "prediction", None) == prediction
        and (not any_length or getattr(component.cls, "any_length", False))
    ]


def check_asked(asked: Asked) -> None:
    """What can be seen without a run.

    Raises:
        RecipeError: for a request that no run could fulfil.
    """
    if asked.copies < 1:
        raise RecipeError(f"n: expected at least 1 text, got {asked.copies}")
    if asked.batch_size is not None and asked.batch_size < 1:
        raise RecipeError(f"batch_size: expected at least 1 row, got {asked.batch_size}")
    if asked.draws is not None and asked.draws < 2:
        raise RecipeError(f"draws: expected at least 2, for an error, got {asked.draws}")
    given = {"prompt": bool(asked.prompt), "length": asked.length is not None}
    if asked.templates and any(given.values()):
        raise RecipeError(
            "templates: a template says itself what a text begins with and how long it is; leave "
            f"out {' and '.join(name for name in given if given[name])}"
        )
    if asked.draws is not None and not asked.templates:
        raise RecipeError("draws: for templates with a gap whose length is open, as [MASK:3-8]")
    _named(asked.templates)


def check_eos(sampler: Sampler, vocab: Vocabulary) -> None:
    """Refuse ``eos = "stop"`` where no token could stop a text.

    Raises:
        RecipeError: naming the option, wherever in nested samplers it is.
    """
    if getattr(sampler, "eos", None) == "stop" and vocab.eos_id is None:
        raise RecipeError(
            '[sampler] eos: "stop" ends a text at EOS, and the tokenizer of this run has no such '
            f"token; expected --set {_place_of_eos(sampler)}=keep"
        )


def _place_of_eos(sampler: Any) -> str:
    """Where the option is, for ``--set``: a sampler may have that of the one inside of it."""
    place = "sampler"
    while "eos" not in (fields := attrs.fields_dict(type(sampler))):
        name = next(name for name in fields if hasattr(getattr(sampler, name), "eos"))
        place, sampler = f"{place}.{name}", getattr(sampler, name)
    return f"{place}.eos"


def _check_kind(recipe: Recipe) -> None:
    drives, predicts = recipe.sampler.prediction, recipe.objective.prediction
    if drives != predicts:
        raise RecipeError(
            f'[sampler] it drives a network that predicts "{drives}", and this one predicts '
            f'"{predicts}"; choose another with --use: {", ".join(fitting_samplers(predicts))}'
        )


def _named(templates: Sequence[str | Template]) -> Mapping[str | int, Template]:
    """The templates by id; without one of its own a template is called by its number."""
    named: dict[str | int, Template] = {}
    for number, text in enumerate(templates):
        template = parse_template(text) if isinstance(text, str) else text
        id = number if template.id is None else template.id
        if id in named:
            raise RecipeError(
                f"{template.where}: the id {id!r} is that of another one, too ({named[id].where}); "
                "expected an id once (without one a template is called by its number, from 0)"
            )
        named[id] = template
    return named


def _check_frame(frame: Frame, recipe: Recipe) -> None:
    if frame.combinations > 1 and frame.longest > recipe.data.length:
        raise RecipeError(
            f"{frame.where}: it may have {frame.longest} tokens, more than the "
            f"{recipe.data.length} that the network was trained on, so its lengths cannot be "
            "scored; fix them, as [MASK:8] does"
        )
    _check_length(frame, recipe)
    last = frame.pieces[-1]
    if recipe.objective.prediction == "next_token" and not (
        isinstance(last, Gap) and len(frame.gaps) == 1
    ):
        raise RecipeError(
            f"{frame.where}: this run predicts the next token, so a gap is filled without a look "
            "at what follows it; expected one gap, at the end (or a run that predicts masks)"
        )
    if frame.combinations == 1:
        return
    if recipe.objective.prediction == "next_token":
        raise RecipeError(
            f"{frame.where}: this run predicts the next token, so nothing says how long the last "
            "gap should be; expected a fixed length, as [MASK:8]"
        )
    if not frame.given:
        raise RecipeError(
            f"{frame.where}: a length is chosen by the text around the gap, and there is none; "
            "expected a fixed length, as [MASK:8]"
        )
    if frame.combinations > CANDIDATES:
        raise RecipeError(
            f"{frame.where}: its gaps can be sized in {frame.combinations} ways, and each is "
            f"tried; expected at most {CANDIDATES}: narrow the ranges, or fix some lengths"
        )


def _check_length(frame: Frame, recipe: Recipe) -> None:
    most = LONGEST if getattr(recipe.sampler, "any_length", False) else recipe.data.length
    if frame.longest > most:
        raise RecipeError(_too_long(frame.where, frame.longest, recipe))
    multiple = recipe.denoiser.length_multiple
    if frame.combinations == 1 and frame.longest % multiple:
        raise RecipeError(
            f"{frame.where}: this denoiser needs a multiple of {multiple} tokens, got "
            f"{frame.longest}"
        )


def _too_long(where: str, length: int, recipe: Recipe) -> str:
    if getattr(recipe.sampler, "any_length", False):
        return f"{where}: expected 1 to {LONGEST} tokens, got {length}"
    longest = recipe.data.length
    able = fitting_samplers(recipe.objective.prediction, any_length=True)
    hint = f"; samplers that go on beyond it: --use {' or '.join(able)}" if able else ""
    return (
        f"{where}: expected 1 to {longest} tokens (the run was trained on blocks of {longest}), "
        f"got {length}{hint if length > longest else ''}"
    )


def _sized(
    frame: Frame, recipe: Recipe, mask_id: int, choose: Chooser | None, notify: Notify
) -> tuple[Start, tuple[Candidate, ...]]:
    """The frame with the best lengths, and all that were tried."""
    if frame.combinations == 1:
        return frame.start([gap.shortest for gap in frame.gaps], mask_id), ()
    assert choose is not None
    candidates = choose(frame)
    if not candidates:
        raise RecipeError(
            f"{frame.where}: none of its lengths is a multiple of "
            f"{recipe.denoiser.length_multiple} tokens, which this denoiser needs; widen the range"
        )
    (best,) = (one for one in candidates if one.chosen)
    near = [one for one in candidates if not one.chosen and one.behind < 2 * one.behind_stderr]
    if near:
        sizes = " + ".join(map(str, best.lengths))
        notify(
            f"{frame.where}: {sizes} tokens fit best, but {len(near)} of {len(candidates) - 1} "
            "other lengths are within two standard errors of that; more --draws may tell"
        )
    return frame.start(best.lengths, mask_id), candidates
