"""Block after block from the left, each by another sampler; also past the trained length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from attrs import evolve, frozen
from torch import Tensor

from mdmkit.builtin.samplers.canvas import texts_ended
from mdmkit.choosing import DrawPrecision, EosRule
from mdmkit.diffusion import times_of_counts
from mdmkit.draws import RowStreams
from mdmkit.errors import PluginError
from mdmkit.options import component, option
from mdmkit.protocols import NetworkLogits, Prediction, Sampler, SamplerContext
from mdmkit.protocols.outcome import no_cache
from mdmkit.values import Attention, Generation


@frozen(kw_only=True)
class SemiAutoregressive:
    """Fills blocks of ``block_length`` tokens from left to right, each by ``sampler``.

    The network sees a window of the length that it was trained on (of the row, where that is
    shorter): the first of the row, with the masks to the right of the block, as LLaDA has it
    (arXiv 2502.09992), then the one that ends where the block does. So rows may be longer than
    the trained length, and every call has one shape. Whatever time the inner sampler believes it
    is in its block, the network is told the one at which the schedule masks the window's share
    of masks. With a ``block_length`` of 1 this is left to right.

    Temperature, EOS and all else are options of the inner sampler. With its ``eos = "stop"`` the
    blocks behind the one in which a row ended are filled up without calls.
    """

    sampler: Sampler = component("cached", doc="fills a block")
    block_length: int = option(
        32, ge=1, doc="tokens of a block; the trained length where that is less"
    )
    prediction: ClassVar[Prediction] = "masked"
    any_length: ClassVar[bool] = True

    def __attrs_post_init__(self) -> None:
        """Refuse an inner sampler that drives another kind of network."""
        if self.sampler.prediction != "masked":
            raise ValueError(
                f'sampler: it drives a network that predicts "{self.sampler.prediction}"; '
                'expected one for networks that predict "masked" tokens'
            )

    @property
    def eos(self) -> EosRule:
        """That of the inner sampler."""
        rule: EosRule = getattr(self.sampler, "eos", "keep")
        return rule

    @property
    def draws(self) -> DrawPrecision:
        """That of the inner sampler."""
        precision: DrawPrecision = getattr(self.sampler, "draws", "float64")
        return precision

    def generate(self, tokens: Tensor, context: SamplerContext) -> Iterator[Generation]:
        """Fill the masks of ``tokens [B, L]``; see `mdmkit.protocols.Sampler`."""
        hidden = tokens == context.vocab.mask_id
        log_p: Tensor | None = torch.zeros(tokens.shape, dtype=torch.float64, device=tokens.device)
        # what noise a block gets must not depend on how many steps a batch spent on others
        keys = (context.uniform()[:, 0] * 2**53).long().tolist()
        step = calls = 0
        size = min(self.block_length, context.length)  # a block must fit into its window
        alpha = context.noise_schedule.alpha
        times = times_of_counts(alpha, min(context.length, tokens.shape[1]), context.device)
        for first in range(0, tokens.shape[1], size):
            block = _Block(
                row=tokens,
                first=first,
                length=min(size, tokens.shape[1] - first),
                times=times,
                context=context,
            )
            if not (block.tokens == context.vocab.mask_id).any():
                continue
            evaluations = 0
            for state in self.sampler.generate(block.tokens, block.inner_context(keys)):
                tokens = block.placed(state.tokens)
                log_p = block.with_log_p(log_p, state.log_p)
                step, evaluations = step + 1, state.network_evaluations
                yield Generation(
                    tokens=tokens, step=step, network_evaluations=calls + evaluations, log_p=log_p
                )
            calls += evaluations
            if self.eos == "stop":
                # not sooner: the sampler of the block may still take its EOS back
                ended = texts_ended(tokens, hidden, context.vocab)
                if not torch.equal(ended, tokens):
                    tokens, step = ended, step + 1
                    yield Generation(
                        tokens=tokens, step=step, network_evaluations=calls, log_p=log_p
                    )
        if step == 0:
            yield Generation(tokens=tokens, step=1, network_evaluations=0, log_p=log_p)


@frozen(kw_only=True, eq=False)
class _Block:
    """A block of rows, which a sampler fills as if it were all there is.

    Attributes:
        row: ``[B, L]``, the whole rows as they are before it is filled.
        first, length: where it is.
        times: ``[W + 1]`` float64, by the masks in a window of W tokens.
        context: of the whole rows.
    """

    row: Tensor
    first: int
    length: int
    times: Tensor
    context: SamplerContext

    @property
    def tokens(self) -> Tensor:
        """``[B, block]``."""
        return self.row[:, self.first : self.first + self.length]

    def placed(self, tokens: Tensor, rows: Tensor | None = None) -> Tensor:
        """Whole rows with ``tokens [R, block]`` in them: ``[R, L]``; all rows by default."""
        row = self.row if rows is None else self.row[rows]
        behind = self.first + self.length
        return torch.cat([row[:, : self.first], tokens, row[:, behind:]], dim=-1)

    def with_log_p(self, whole: Tensor | None, own: Tensor | None) -> Tensor | None:
        """``[B, L]`` with the block's ``[B, block]`` in it; None where a sampler does not tell."""
        if whole is None or own is None:
            return None
        behind = self.first + self.length
        return torch.cat([whole[:, : self.first], own, whole[:, behind:]], dim=-1)

    def inner_context(self, keys: list[int]) -> SamplerContext:
        """What the sampler of the block may use; `keys` fix the noise of the rows."""
        noise, device = RowStreams(self.first, keys, self.length), self.row.device
        return evolve(
            self.context,
            logits=self._logits(None),
            some_rows=self._logits,
            uniform=lambda: noise().to(device),
            length=self.length,
            new_cache=no_cache,
        )

    def _logits(self, rows: Tensor | None) -> NetworkLogits:
        """The network's logits for the block of some rows, ``[R]`` int64, inside their windows."""
        size = len(self.times) - 1
        start = max(self.first + self.length, size) - size
        mask_id = self.context.vocab.mask_id
        show = self.context.logits if rows is None else self.context.logits_of(rows)
        count = len(self.row) if rows is None else len(rows)

        def logits(
            xt: Tensor, t: Tensor | None, attention: Attention, at: Tensor | None = None
        ) -> Tensor:
            _require_plain(xt, count, attention)
            window = self.placed(xt, rows)[:, start : start + size]
            everywhere = torch.ones_like(xt, dtype=torch.bool)
            wanted = torch.zeros_like(window, dtype=torch.bool)
            place = slice(self.first - start, self.first - start + self.length)
            wanted[:, place] = everywhere if at is None else at
            told = None if t is None else self.times[(window == mask_id).sum(-1)].to(t.dtype)
            found = show(window, told, attention, wanted)
            return found.view(*xt.shape, -1) if at is None else found

        return logits


def _require_plain(xt: Tensor, rows: int, attention: Attention) -> None:
    if len(xt) != rows:
        raise PluginError(
            f"a sampler in blocks: it shows the network {len(xt)} of {rows} rows; expected all of "
            "them, or a call through context.logits_of(rows)"
        )
    if attention.features():
        raise PluginError(
            f"a sampler in blocks: it asks for {', '.join(sorted(attention.features()))}; expected "
            "plain attention, for the network sees more than the block"
        )
