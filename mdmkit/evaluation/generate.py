"""From a network to text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mdmkit.data.cache import Notify, ignore
from mdmkit.errors import RecipeError
from mdmkit.evaluation.find_run import find_run
from mdmkit.evaluation.infilling.gap_lengths import LengthChooser
from mdmkit.evaluation.infilling.templates import Template
from mdmkit.evaluation.run import open_trained, read_recipe
from mdmkit.evaluation.sample_states import SampleState
from mdmkit.evaluation.samples import Sample
from mdmkit.evaluation.session import Record, Session, Watch, rows_at_once
from mdmkit.evaluation.wanted import (
    DRAWS,
    Asked,
    check_asked,
    check_eos,
    fitting_samplers,
    wanted_texts,
)
from mdmkit.generation import Progress
from mdmkit.plugins import Catalogue, load_catalogue
from mdmkit.protocols import GenerateCall, Tokenizer
from mdmkit.recipe import Recipe, dump_recipe
from mdmkit.recipe_files import parse_overrides

__all__ = ["Sample", "generate_samples", "rows_at_once", "sample", "sample_states"]

TABLES = ("sampler",)
"""What may be changed for sampling."""
SAMPLERS = "mdmkit_samplers"


def generate_samples(
    recipe: Recipe,
    generate: GenerateCall,
    tokenizer: Tokenizer,
    *,
    n: int = 4,
    length: int | None = None,
    seed: int = 0,
    prompt: str = "",
    batch_size: int | None = None,
    facts: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    record: Record | None = None,
) -> list[Sample]:
    """Texts from a live network, by the recipe's sampler.

    Args:
        recipe: names the sampler.
        generate: runs the sampler on the network.
        tokenizer: of the run.
        n: how many texts.
        length: tokens of each; the recipe's block length by default.
        seed: of the noise.
        prompt: text that each begins with.
        batch_size: rows a network call; as in training by default.
        facts: what provenance says of the weights, from `weights_facts`.
        progress: called as ``progress(rows done, n)``.
        record: is given every state on the way, with what its batch is to become.

    Raises:
        RecipeError: where the sampler drives another kind of network, or `n`, `length` or
            `prompt` do not fit.
    """
    asked = Asked(n=n, length=length, seed=seed, prompt=prompt, batch_size=batch_size)
    session = Session(
        wanted=wanted_texts(asked, recipe, tokenizer, None, ignore),
        recipe=recipe,
        generate=generate,
        tokenizer=tokenizer,
        asked=asked,
        facts=facts or {},
    )
    return session.samples(record=record, progress=progress)


def sample(
    run: str | Path,
    *,
    n: int | None = None,
    length: int | None = None,
    seed: int = 0,
    prompt: str = "",
    templates: Sequence[str | Template] = (),
    draws: int | None = None,
    use: str | None = None,
    steps: int | None = None,
    overrides: Sequence[str] = (),
    checkpoint: int | None = None,
    ema: bool = True,
    device: str = "auto",
    dtype: str | None = None,
    compile: bool = False,
    batch_size: int | None = None,
    runs_dir: str | Path | None = None,
    notify: Notify = ignore,
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> list[Sample]:
    """Generate text with a trained run.

    Args:
        run: a run directory, or its name under the runs folder.
        n: how many texts, 4 by default; with templates how many of each, 1 by default.
        length: tokens of each, the prompt included; the run's block length by default.
        seed: equal seeds give equal texts, whatever the batch size and the other templates.
        prompt: text that each begins with.
        templates: text with gaps, such as ``"The [MASK:12] of the sea."``; see
            `mdmkit.evaluation.infilling.templates.parse_template`.
        draws: masks for each length that an open gap may have, 32 by default.
        use: short for the override ``sampler.use=…``.
        steps: short for the override ``sampler.steps=…``.
        overrides: changes to the table ``[sampler]``, as for ``--set``.
        checkpoint: the step; the newest whole checkpoint by default.
        ema: the averaged weights, where the run has them.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        dtype: ``bf16`` or ``fp32``, of the network's forward; the run's own by default.
        compile: each block of the network by torch.compile, which pays for itself with many texts.
        batch_size: rows a network call.
        runs_dir: the folder of runs; else ``MDMKIT_RUNS_DIR``, else ``runs``.
        notify: is told of damaged checkpoints that are passed over, of what lowers quality, and in
            the end how fast it was.
        progress: called as ``progress(texts done, texts)``.
        watch: called with every state on the way.

    Returns:
        The texts, those of one template together.

    Raises:
        RecipeError: for a bad override, template or request.
        DataError: for text that the tokenizer refuses.
        CheckpointError: for a run that cannot be read.
    """
    asked = Asked(
        n=n,
        length=length,
        seed=seed,
        prompt=prompt,
        templates=templates,
        draws=draws,
        batch_size=batch_size,
        use=use,
        steps=steps,
        overrides=overrides,
        checkpoint=checkpoint,
        ema=ema,
        device=device,
        dtype=dtype,
        compile=compile,
    )
    session = _begin(find_run(run, runs_dir), asked, notify)
    return session.samples(watch=watch, progress=progress, notify=notify)


def sample_states(
    run: str | Path,
    *,
    n: int | None = None,
    length: int | None = None,
    seed: int = 0,
    prompt: str = "",
    templates: Sequence[str | Template] = (),
    draws: int | None = None,
    use: str | None = None,
    steps: int | None = None,
    overrides: Sequence[str] = (),
    checkpoint: int | None = None,
    ema: bool = True,
    device: str = "auto",
    dtype: str | None = None,
    compile: bool = False,
    batch_size: int | None = None,
    runs_dir: str | Path | None = None,
    notify: Notify = ignore,
) -> Iterator[SampleState]:
    """The states on the way to the texts of `sample`, which has the same arguments.

    Batches come one after the other, each with its states from the first to the last; `step` then
    begins again. What is wrong with the request is said at once, not with the first state.
    """
    asked = Asked(
        n=n,
        length=length,
        seed=seed,
        prompt=prompt,
        templates=templates,
        draws=draws,
        batch_size=batch_size,
        use=use,
        steps=steps,
        overrides=overrides,
        checkpoint=checkpoint,
        ema=ema,
        device=device,
        dtype=dtype,
        compile=compile,
    )
    session = _begin(find_run(run, runs_dir), asked, notify)
    return session.states()


def _begin(directory: Path, asked: Asked, notify: Notify) -> Session:
    """Load the run and see what is to be generated."""
    check_asked(asked)  # before much is loaded
    catalogue = load_catalogue()
    opened = open_trained(
        directory,
        overrides=_overrides(directory, asked, catalogue),
        tables=TABLES,
        checkpoint=asked.checkpoint,
        ema=asked.ema,
        device=asked.device,
        precision=asked.dtype,
        compile=asked.compile,
        notify=notify,
        catalogue=catalogue,
    )
    recipe, vocab = opened.recipe, opened.tokenizer.vocab
    check_eos(recipe.sampler, vocab)
    if getattr(recipe.sampler, "draws", None) == "float32":
        notify(
            'sampler.draws is "float32": 32-bit noise lowers the entropy of the text '
            "(arXiv 2409.02908); it is for comparison, float64 draws as it should be"
        )
    chooser = LengthChooser(
        call=opened.call,
        objective=opened.live.objective,
        mask_id=vocab.mask_id,
        device=opened.device,
        draws=asked.draws or DRAWS,
        seed=asked.seed,
        batch_size=asked.batch_size or rows_at_once(recipe),
        multiple=recipe.denoiser.length_multiple,
    )
    return Session(
        wanted=wanted_texts(asked, recipe, opened.tokenizer, chooser.candidates, notify),
        recipe=recipe,
        generate=opened.generate,
        tokenizer=opened.tokenizer,
        asked=asked,
        facts=opened.facts,
    )


def _overrides(directory: Path, asked: Asked, catalogue: Catalogue) -> list[str]:
    """What changes the recipe: `asked.overrides`, and what is short for one.

    Raises:
        RecipeError: where a thing is said twice, the sampler drives another kind of network, or
            it has no steps.
    """
    found = list(asked.overrides)
    said = parse_overrides(found).data.get("sampler", {})
    said = said if isinstance(said, dict) else {}
    short = {"use": asked.use, "steps": asked.steps}
    for key, value in short.items():
        if value is not None and key in said:
            raise RecipeError(f"--set: sampler.{key} is what --{key} says, too; leave one out")
    if asked.use is not None:
        found.append(f"sampler.use={json.dumps(asked.use)}")
    _check_kind(directory, asked.use or said.get("use"), catalogue)
    if asked.steps is None:
        return found
    recipe = read_recipe(directory, found, TABLES, catalogue=catalogue)
    if not hasattr(recipe.sampler, "steps"):
        name = dump_recipe(recipe, catalogue)["sampler"]["use"]
        raise RecipeError(f'steps: the sampler "{name}" has no such option; leave it out')
    return [*found, f"sampler.steps={asked.steps}"]


def _check_kind(directory: Path, use: object, catalogue: Catalogue) -> None:
    """Refuse a sampler for another kind of network; one that does not exist is not refused here."""
    component = catalogue.of(SAMPLERS).get(str(use))
    predicts = read_recipe(directory, catalogue=catalogue).objective.prediction
    drives = predicts if component is None else getattr(component.cls, "prediction", predicts)
    if drives != predicts:
        raise RecipeError(
            f'[sampler] use: "{use}" drives a network that predicts "{drives}", '
            f'and this run predicts "{predicts}"; expected one of these: '
            + ", ".join(fitting_samplers(predicts))
        )
