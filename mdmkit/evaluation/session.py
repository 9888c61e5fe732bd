"""Texts that are being generated: batches, their states, and the texts in the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from attrs import frozen

from mdmkit.data.cache import Notify, ignore
from mdmkit.evaluation.sample_states import SampleState, Showing
from mdmkit.evaluation.samples import Sample, end_of_text, filled_gaps
from mdmkit.evaluation.wanted import DRAWS, Asked, Wanted, in_batches
from mdmkit.generation import Progress
from mdmkit.protocols import GenerateCall, Tokenizer
from mdmkit.recipe import Recipe, dump_recipe
from mdmkit.values import Generation

Watch = Callable[[SampleState], object]
"""Called with every state on the way."""
Record = Callable[[Sequence[Wanted], Generation], object]
"""Called with every state of a batch as it comes from the sampler, nothing decoded."""


@frozen(kw_only=True, eq=False)
class Session:
    """Texts that are about to be generated.

    Attributes:
        wanted: the texts.
        recipe: names the sampler.
        generate: runs the sampler on the network.
        tokenizer: of the run.
        asked: the request.
        facts: what provenance says of the weights.
    """

    wanted: Sequence[Wanted]
    recipe: Recipe
    generate: GenerateCall
    tokenizer: Tokenizer
    asked: Asked
    facts: Mapping[str, Any]

    def batches(self) -> Iterator[tuple[list[Wanted], Iterator[Generation]]]:
        """Every batch, and its states from the first to the last."""
        for batch in in_batches(self.wanted, self.asked.batch_size or rows_at_once(self.recipe)):
            start = torch.tensor([one.start.ids for one in batch])
            rows = [one.row for one in batch]
            yield batch, self.generate(self.recipe.sampler, start, rows=rows, seed=self.asked.seed)

    def states(self) -> Iterator[SampleState]:
        """Every state of every batch, as it can be shown."""
        for batch, states in self.batches():
            yield from map(Showing(batch, self.tokenizer), states)

    def samples(
        self,
        *,
        watch: Watch | None = None,
        record: Record | None = None,
        progress: Progress | None = None,
        notify: Notify = ignore,
    ) -> list[Sample]:
        """Generate all of them.

        Args:
            watch: is shown every state.
            record: is given every state.
            progress: called as ``progress(texts done, texts)``.
            notify: is told in the end how fast it was.
        """
        begun, calls, tokens = time.perf_counter(), 0, 0
        done: dict[int, Sample] = {}
        table = dump_recipe(self.recipe)["sampler"]
        for batch, states in self.batches():
            show = Showing(batch, self.tokenizer)
            for state in states:  # all but the last are let go at once
                if record is not None:
                    record(batch, state)
                if watch is not None:
                    watch(show(state))
            for i, one in enumerate(batch):
                done[one.place] = self._sample(one, state, i, table)
                tokens += one.start.ids.count(self.tokenizer.vocab.mask_id)
            calls += state.network_evaluations
            if progress is not None:
                progress(len(done), len(self.wanted))
        seconds = time.perf_counter() - begun
        notify(
            f"{len(done)} text{'' if len(done) == 1 else 's'}: {tokens:,} tokens generated in "
            f"{seconds:.2f} s "
            f"({tokens / seconds:,.0f} tokens/s), {calls:,} network calls"
        )
        return [done[place] for place in sorted(done)]

    def _sample(self, one: Wanted, state: Generation, i: int, table: Mapping[str, Any]) -> Sample:
        """The text of row `i` of the last state of its batch."""
        ids, gaps = state.tokens[i].tolist(), one.start.gaps
        stops = getattr(self.recipe.sampler, "eos", None) == "stop"
        end = end_of_text(ids, gaps, self.tokenizer.vocab.eos_id) if stops else len(ids)
        log_p = None if state.log_p is None else state.log_p[i]
        chosen = one.chosen
        facts = {**self.facts, "sampler": table}
        if chosen is not None:
            facts["gap_lengths"] = {
                "score": "nelbo of the given tokens with the gaps masked",
                "draws": self.asked.draws or DRAWS,
            }
        return Sample(
            text=self.tokenizer.decode(ids[:end]),
            ids=tuple(ids),
            row=one.row,
            seed=self.asked.seed,
            sampler=table["use"],
            network_evaluations=state.network_evaluations,
            prompt=self.asked.prompt,
            log_p=None if log_p is None else log_p[: end + 1].sum().item(),
            token_log_p=None if log_p is None else tuple(log_p.tolist()),
            gaps=filled_gaps(ids[:end], gaps, self.tokenizer),
            template=None if one.template is None else one.template.text,
            template_id=one.template_id,
            nelbo=None if chosen is None else chosen.nelbo,
            nelbo_stderr=None if chosen is None else chosen.nelbo_stderr,
            candidates=one.candidates,
            provenance=facts,
        )


def rows_at_once(recipe: Recipe) -> int:
    """Rows a network call where nobody says: as in training, at most 64 without a micro-batch."""
    train = recipe.train
    return train.micro_batch_size or min(train.global_batch_size, 64)
