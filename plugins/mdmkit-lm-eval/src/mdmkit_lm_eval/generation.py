"""Text that goes on from a prompt until a stop string."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from attrs import frozen

from mdmkit import RecipeError, TrainedRun
from mdmkit.protocols import Tokenizer
from mdmkit.values import Generation
from mdmkit_lm_eval.likelihood import Key, Report
from mdmkit_lm_eval.protocol import Protocol

_LENGTH_KEYS = ("max_gen_toks", "max_new_tokens", "max_tokens")
_FOLLOWED = {*_LENGTH_KEYS, "until"}


@frozen(kw_only=True)
class Prompt:
    """A prompt and what the task says of its continuation.

    Attributes:
        key: which request it is.
        text: the prompt.
        options: the harness's ``generation_kwargs``.
    """

    key: Key
    text: str
    options: Mapping[str, Any]

    @property
    def until(self) -> list[str]:
        """The strings that end a text."""
        until = self.options.get("until") or []
        return [text for text in ([until] if isinstance(until, str) else until) if text]

    @property
    def not_followed(self) -> dict[str, Any]:
        """What the task asks for besides, which the sampler's own options say here."""
        return {key: value for key, value in self.options.items() if key not in _FOLLOWED}

    def wanted(self, otherwise: int) -> int:
        """How many tokens.

        Raises:
            RecipeError: where that is no whole number above 0.
        """
        for key in _LENGTH_KEYS:
            value = self.options.get(key)
            if value is not None:
                if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                    raise RecipeError(
                        f"{self.key.task}: {key}: expected a whole number of at least 1, got "
                        f"{value!r}"
                    )
                return value
        return otherwise


@frozen(kw_only=True)
class Continued:
    """A generated continuation.

    Attributes:
        text: up to the first stop string or EOS.
        tokens: generated, before anything was cut off.
        row: the number that fixes its noise, with the seed.
        prompt_cut: tokens that were cut off on the left of the prompt.
        short_by: tokens fewer than the task asked for, since no more fit.
        network_evaluations: for its batch.
    """

    text: str
    tokens: int
    row: int
    prompt_cut: int
    short_by: int
    network_evaluations: int


@frozen(kw_only=True)
class _Start:
    """What the sampler begins with: `given` tokens, then masks."""

    prompt: Prompt
    ids: tuple[int, ...]
    given: int
    row: int
    prompt_cut: int
    short_by: int


def continuations(
    trained: TrainedRun,
    prompts: Sequence[Prompt],
    protocol: Protocol,
    *,
    batch_size: int,
    report: Report,
) -> list[Continued]:
    """Generate with the run's sampler.

    The noise of a text depends on the seed, the task, the document, and which repetition of the
    request it is. Texts are generated together only where they have equally many tokens.
    """
    found: dict[int, Continued] = {}
    starts = _starts(trained, prompts, protocol)
    by_length: dict[int, list[int]] = defaultdict(list)
    for place, start in enumerate(starts):
        by_length[len(start.ids)].append(place)
    for places in by_length.values():
        for first in range(0, len(places), batch_size):
            batch = places[first : first + batch_size]
            state = Generation.last_of(
                trained.generate(
                    trained.recipe.sampler,
                    torch.tensor([starts[place].ids for place in batch]),
                    rows=[starts[place].row for place in batch],
                    seed=protocol.seed,
                )
            )
            for place, ids in zip(batch, state.tokens.tolist(), strict=True):
                found[place] = _continued(starts[place], ids, state, trained.tokenizer)
            report("texts generated", len(found), len(starts))
    return [found[place] for place in range(len(starts))]


def _starts(trained: TrainedRun, prompts: Sequence[Prompt], protocol: Protocol) -> list[_Start]:
    """The canvas of each prompt; one that does not fit loses its left end."""
    vocab, recipe = trained.tokenizer.vocab, trained.recipe
    first = [vocab.bos_id] if protocol.bos and vocab.bos_id is not None else []
    encoded = trained.tokenizer.encode_batch([prompt.text for prompt in prompts])
    unlimited = getattr(recipe.sampler, "any_length", False)
    length, multiple = recipe.data.length, recipe.denoiser.length_multiple
    repeated: Counter[Key] = Counter()
    starts = []
    for prompt, ids in zip(prompts, encoded, strict=True):
        wanted = prompt.wanted(protocol.max_gen_toks)
        new = wanted if unlimited else min(wanted, max(length - len(first) - len(ids), length // 2))
        kept = ids if unlimited else ids[max(0, len(ids) - (length - len(first) - new)) :]
        given = [*first, *kept]
        new += -(len(given) + new) % multiple
        starts.append(
            _Start(
                prompt=prompt,
                ids=(*given, *[vocab.mask_id] * new),
                given=len(given),
                row=noise_row(prompt.key, repeated[prompt.key]),
                prompt_cut=len(ids) - len(kept),
                short_by=max(0, wanted - new),
            )
        )
        repeated[prompt.key] += 1
    return starts


def noise_row(key: Key, repetition: int) -> int:
    """The number of a request's noise: a hash, so that no other request changes it."""
    text = f"{key.task}\x1f{key.doc}\x1f{key.index}\x1f{repetition}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "big")


def _continued(
    start: _Start, ids: Sequence[int], state: Generation, tokenizer: Tokenizer
) -> Continued:
    made = list(ids[start.given :])
    eos_id = tokenizer.vocab.eos_id
    end = made.index(eos_id) if eos_id is not None and eos_id in made else len(made)
    return Continued(
        text=until_stop(text_after(tokenizer, ids[: start.given], made[:end]), start.prompt.until),
        tokens=len(made),
        row=start.row,
        prompt_cut=start.prompt_cut,
        short_by=start.short_by,
        network_evaluations=state.network_evaluations,
    )


def text_after(tokenizer: Tokenizer, before: Sequence[int], ids: Sequence[int]) -> str:
    """The text of `ids` where they stand: a token's text may depend on the one before it."""
    whole, given = tokenizer.decode([*before[-1:], *ids]), tokenizer.decode(before[-1:])
    return whole.removeprefix(given) if whole.startswith(given) else tokenizer.decode(ids)


def until_stop(text: str, stops: Sequence[str]) -> str:
    """The text before the first of the strings.

    >>> until_stop("4. Next: 5", ["Next", "."])
    '4'
    """
    return text[: min((place for stop in stops if (place := text.find(stop)) >= 0), default=None)]
