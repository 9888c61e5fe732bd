"""The states of texts that are being generated, kept for `mdmkit.samples_log`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mdmkit.evaluation.samples import Sample
from mdmkit.evaluation.wanted import Wanted
from mdmkit.protocols import Tokenizer
from mdmkit.samples_log import Change, LoggedSample
from mdmkit.values import Generation


class Recorder:
    """Keeps what each state of each text changes; hand it to a session as ``record``."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Begin with nothing."""
        self._tokenizer = tokenizer
        self._pieces: dict[int, str] = {}
        self._now: dict[int, Sequence[int]] = {}
        self._states: dict[int, list[tuple[Change, ...]]] = {}
        self._calls: dict[int, list[int]] = {}

    def __call__(self, batch: Sequence[Wanted], state: Generation) -> None:
        """Take the next state of a batch."""
        mask_id = self._tokenizer.vocab.mask_id
        for one, ids in zip(batch, state.tokens.tolist(), strict=True):
            before = self._now.get(one.place, [mask_id] * len(ids))
            changes = tuple(
                (position, None if now == mask_id else self._piece(now))
                for position, (now, old) in enumerate(zip(ids, before, strict=True))
                if now != old
            )
            self._now[one.place] = ids
            self._states.setdefault(one.place, []).append(changes)
            self._calls.setdefault(one.place, []).append(state.network_evaluations)

    def logged(self, samples: Mapping[int, Sample]) -> tuple[LoggedSample, ...]:
        """The texts by their place, with the states that led to them."""
        return tuple(
            LoggedSample(
                text=sample.text,
                length=len(sample.ids),
                network_evaluations=tuple(self._calls[place]),
                states=tuple(self._states[place]),
            )
            for place, sample in samples.items()
        )

    def _piece(self, token: int) -> str:
        """The text of one token."""
        if token not in self._pieces:
            self._pieces[token] = self._tokenizer.decode([token])
        return self._pieces[token]
