"""From a network to text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import field, frozen

from mdmkit.data.cache import Notify, ignore
from mdmkit.errors import RecipeError
from mdmkit.evaluation.run import find_run, open_trained
from mdmkit.generation import Progress, final_states, masks
from mdmkit.protocols import GenerateCall, Tokenizer
from mdmkit.recipe import Recipe, dump_recipe


@frozen(kw_only=True)
class Sample:
    """A generated text and how it came about.

    Attributes:
        text: decoded; special tokens are kept.
        ids: L token ids, the prompt's included.
        row: its number; with the seed it fixes the text.
        seed: of the generation.
        sampler: the sampler's name in the recipe.
        network_evaluations: how often the network was called for the batch it was in.
        prompt: the text it begins with.
        provenance: run, checkpoint, precision and the sampler's options, as plain JSON.
    """

    text: str
    ids: tuple[int, ...]
    row: int
    seed: int
    sampler: str
    network_evaluations: int
    prompt: str = ""
    provenance: Mapping[str, Any] = field(factory=dict)


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

    Raises:
        RecipeError: where the sampler drives another kind of network, or `n`, `length` or
            `prompt` do not fit.
    """
    table = dump_recipe(recipe)["sampler"]
    length = recipe.data.length if length is None else length
    prompt_ids = tokenizer.encode_batch([prompt])[0] if prompt else []
    _check_request(recipe, n=n, length=length, prompt_tokens=len(prompt_ids))
    states = final_states(
        generate,
        recipe.sampler,
        masks(n, length, tokenizer.vocab, prompt_ids),
        seed=seed,
        batch_size=batch_size or rows_at_once(recipe),
        progress=progress,
    )
    samples: list[Sample] = []
    for state in states:
        for ids in state.tokens.tolist():
            samples.append(
                Sample(
                    text=tokenizer.decode(ids),
                    ids=tuple(ids),
                    row=len(samples),
                    seed=seed,
                    sampler=table["use"],
                    network_evaluations=state.network_evaluations,
                    prompt=prompt,
                    provenance={**(facts or {}), "sampler": table},
                )
            )
    return samples


def sample(
    run: str | Path,
    *,
    n: int = 4,
    length: int | None = None,
    seed: int = 0,
    prompt: str = "",
    steps: int | None = None,
    overrides: Sequence[str] = (),
    checkpoint: int | None = None,
    ema: bool = True,
    device: str = "auto",
    dtype: str | None = None,
    batch_size: int | None = None,
    runs_dir: str | Path | None = None,
    notify: Notify = ignore,
    progress: Progress | None = None,
) -> list[Sample]:
    """Generate text with a trained run.

    Args:
        run: a run directory, or its name under the runs folder.
        n: how many texts.
        length: tokens of each, the prompt included; the run's block length by default.
        seed: equal seeds give equal texts, whatever the batch size.
        prompt: text that each begins with.
        steps: short for the override ``sampler.steps=…``.
        overrides: changes to the table ``[sampler]``, as for ``--set``.
        checkpoint: the step; the newest whole checkpoint by default.
        ema: the averaged weights, where the run has them.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        dtype: ``bf16`` or ``fp32``, of the network's forward; the run's own by default.
        batch_size: rows a network call.
        runs_dir: the folder of runs; else ``MDMKIT_RUNS_DIR``, else ``runs``.
        notify: is told of damaged checkpoints that are passed over.
        progress: called as ``progress(rows done, n)``.

    Raises:
        RecipeError: for a bad override or request.
        CheckpointError: for a run that cannot be read.
    """
    short = [] if steps is None else [f"sampler.steps={steps}"]
    opened = open_trained(
        find_run(run, runs_dir),
        overrides=[*overrides, *short],
        tables=("sampler",),
        checkpoint=checkpoint,
        ema=ema,
        device=device,
        precision=dtype,
        notify=notify,
    )
    return generate_samples(
        opened.recipe,
        opened.generate,
        opened.tokenizer,
        n=n,
        length=length,
        seed=seed,
        prompt=prompt,
        batch_size=batch_size,
        facts=opened.facts,
        progress=progress,
    )


def rows_at_once(recipe: Recipe) -> int:
    """Rows a network call where nobody says: as in training, at most 64 without a micro-batch."""
    train = recipe.train
    return train.micro_batch_size or min(train.global_batch_size, 64)


def _check_request(recipe: Recipe, *, n: int, length: int, prompt_tokens: int) -> None:
    drives, predicts = recipe.sampler.prediction, recipe.objective.prediction
    if drives != predicts:
        raise RecipeError(
            f'[sampler] it drives a network that predicts "{drives}", and this one predicts '
            f'"{predicts}"; choose another with --set sampler.use=… (`mdmkit plugins` lists them)'
        )
    longest, multiple = recipe.data.length, recipe.denoiser.length_multiple
    if n < 1:
        raise RecipeError(f"n: expected at least 1 text, got {n}")
    if not 1 <= length <= longest:
        raise RecipeError(
            f"length: expected 1 to {longest} tokens (the run was trained on blocks of {longest}), "
            f"got {length}"
        )
    if length % multiple:
        raise RecipeError(
            f"length: this denoiser needs a multiple of {multiple} tokens, got {length}"
        )
    if prompt_tokens >= length:
        raise RecipeError(
            f"prompt: it has {prompt_tokens} tokens and leaves nothing to generate in a length of "
            f"{length}; shorten it or ask for a greater length"
        )
