"""How a token is drawn from what the network says, with the options that all samplers share.

Draws are made in float64. 32-bit Gumbel noise lowers the effective temperature (arXiv 2409.02908,
§4): its largest values are cut off. Here one uniform number is looked up in the cumulative
distribution; the 32-bit way of other projects is there to be compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import attrs
import torch
from attrs import frozen
from torch import Tensor

from mdmkit.diffusion import masked_logits
from mdmkit.errors import MdmkitError
from mdmkit.options import option

CHUNK = 2**24
"""Logits that are turned to float64 at once: 128 MiB a copy."""

DrawPrecision = Literal["float64", "float32"]
EosRule = Literal["keep", "stop"]


class Drawn(NamedTuple):
    """What was drawn.

    Attributes:
        tokens: ``[N]`` int64.
        log_p: ``[N]`` float64, the log-probabilities that the network gave them, in nats: at
            temperature 1 and with nothing cut off.
    """

    tokens: Tensor
    log_p: Tensor


@frozen(kw_only=True)
class Choosing:
    """Options of every sampler: how a token is chosen."""

    temperature: float = option(
        1.0, ge=0, doc="divides the logits; 1: as trained, 0: always the likeliest token"
    )
    top_p: float = option(
        1.0, gt=0, le=1, doc="only the likeliest tokens that together reach this probability"
    )
    top_k: int = option(0, ge=0, doc="only so many of the likeliest tokens; 0: all")
    eos: EosRule = option(
        "keep", doc="stop: a text ends at the first EOS that is generated; keep: it goes on"
    )
    draws: DrawPrecision = option(
        "float64", doc="float32 draws by 32-bit Gumbel noise, as others do; it lowers entropy"
    )

    def choose(self, logits: Tensor, u: Tensor, mask_id: int) -> Drawn:
        """One token a row from softmax(logits/temperature), cut off, the mask excluded.

        Args:
            logits: ``[N, V]``.
            u: ``[N]`` float64 on [0, 1).
            mask_id: the id that is never drawn.

        Raises:
            MdmkitError: where the logits are no distribution.
        """
        rows = _rows_at_once(logits)
        parts = [
            self._choose(part, v, mask_id)
            for part, v in zip(torch.split(logits, rows), torch.split(u, rows), strict=True)
        ]
        tokens, log_p = (torch.cat(part) for part in zip(*parts, strict=True))
        if not log_p.isfinite().all():
            raise MdmkitError(
                "the network's logits are not finite: no token can be drawn from them; its weights "
                "are damaged, or training diverged (a smaller learning_rate.peak, or an earlier "
                "--checkpoint)"
            )
        return Drawn(tokens, log_p)

    def log_probs(self, logits: Tensor, mask_id: int) -> Tensor:
        """What is drawn from: log-probabilities ``[N, V]`` float64 at the temperature, cut off.

        At temperature 0 they are those at temperature 1, of which the largest is taken.
        """
        log_p = plain_log_probs(logits, mask_id)
        if self.temperature not in (0, 1):
            log_p = log_p - log_p.amax(-1, keepdim=True)  # no temperature makes this overflow
            log_p = log_p.div(self.temperature).log_softmax(-1)
        if self.top_p == 1 and not 0 < self.top_k < log_p.shape[-1]:
            return log_p
        order = log_p.argsort(dim=-1, descending=True, stable=True)
        best = log_p.gather(-1, order)
        kept = torch.ones_like(best, dtype=torch.bool)
        if self.top_k:
            kept[:, self.top_k :] = False
            best = best.masked_fill(~kept, -torch.inf).log_softmax(-1)
        before = best.exp().cumsum(-1).roll(1, -1)
        before[:, 0] = 0.0
        kept &= before < self.top_p  # what stands before it falls short
        kept = torch.zeros_like(kept).scatter_(-1, order, kept)
        return log_p.masked_fill(~kept, -torch.inf).log_softmax(-1)

    def _choose(self, logits: Tensor, u: Tensor, mask_id: int) -> Drawn:
        log_p = self.log_probs(logits, mask_id)
        if self.temperature == 0:
            tokens = log_p.argmax(-1)
        elif self.draws == "float32":
            tokens = _by_float32_noise(log_p, u)
        else:
            tokens = _by_cumulation(log_p, u)
        plain = self.temperature in (0, 1) and self.top_p == 1 and self.top_k == 0
        own = log_p if plain else plain_log_probs(logits, mask_id)
        return Drawn(tokens, own.gather(-1, tokens[:, None])[:, 0])


@frozen(kw_only=True)
class Unmasking(Choosing):
    """Options of every sampler that lifts masks, many at a time."""

    min_steps: int = option(
        1,
        ge=1,
        doc="steps that a row is given at least, or as many as it has masks: with r of them left, "
        "a step lifts at most 1/r of its masks",
    )


def plain_log_probs(logits: Tensor, mask_id: int) -> Tensor:
    """log p(token) at temperature 1, nothing cut off, the mask excluded: ``[N, V]`` float64."""
    return masked_logits(logits.double(), mask_id).log_softmax(-1)


def measured(
    functions: Sequence[Callable[[Tensor], Tensor]], logits: Tensor, mask_id: int
) -> list[Tensor]:
    """Functions of `plain_log_probs`, ``[N, V] -> [N]`` each, of many logits: ``[N]`` each."""
    parts = []
    for part in torch.split(logits, _rows_at_once(logits)):
        log_p = plain_log_probs(part, mask_id)
        parts.append([function(log_p) for function in functions])
    return [torch.cat(values) for values in zip(*parts, strict=True)]


def refuse_options_of_others(
    component: Any, choice: str, options: Mapping[str, Sequence[str]]
) -> None:
    """For ``__attrs_post_init__``: an option that the choice makes no use of must not be set.

    Args:
        component: of an attrs class.
        choice: the name of the option that chooses.
        options: for each of its values the options that only it, and others that name them, use.

    Raises:
        ValueError: naming the option.
    """
    chosen = getattr(component, choice)
    users: dict[str, list[str]] = {}
    for value, names in options.items():
        for name in names:
            users.setdefault(name, []).append(value)
    fields = attrs.fields_dict(type(component))
    for name, values in users.items():
        if chosen not in values and getattr(component, name) != fields[name].default:
            wanted = " or ".join(f'"{value}"' for value in values)
            raise ValueError(
                f'{name} is for {choice} = {wanted}; with {choice} = "{chosen}" leave it out'
            )


def _rows_at_once(logits: Tensor) -> int:
    return max(1, CHUNK // logits.shape[-1])


def _by_cumulation(log_p: Tensor, u: Tensor) -> Tensor:
    """The token at which the cumulative distribution passes u: ``[N]``."""
    cumulative = log_p.exp().cumsum(-1)
    total = cumulative[:, -1:]
    # strictly below the total, so that no id behind the last likely one can be hit
    wanted = torch.minimum(u[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    found = torch.searchsorted(cumulative, wanted, right=True).squeeze(-1)
    return found.clamp(max=log_p.shape[-1] - 1)  # past the end where nothing is finite


def _by_float32_noise(log_p: Tensor, u: Tensor) -> Tensor:
    """The largest of p/E with E = −log of 32-bit uniform noise, as MDLM's code has it: ``[N]``.

    The noise comes in steps of 2^−24 and so does 1 − E near its end: E is never as small as the
    rarest tokens would need. Its seed is made of u, so that a row keeps its own noise.
    """
    noise = torch.empty(log_p.shape, dtype=torch.float32)
    for row, seed in zip(noise, (u.cpu() * 2**53).long().tolist(), strict=True):
        row.uniform_(generator=torch.Generator().manual_seed(seed))
    exponential = 1e-10 - (noise.to(log_p.device) + 1e-10).log()
    return (log_p.float().exp() / exponential).argmax(-1)
