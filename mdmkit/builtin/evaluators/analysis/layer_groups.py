"""The parts of a network that gradients are told apart by: embedding, blocks, head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from attrs import frozen
from torch import Tensor, nn

from mdmkit.protocols import Denoiser, EvaluationContext, GradientCall
from mdmkit.values import Attention

EACH = 4
"""Up to so many blocks are groups of their own; of more each third is one."""


@frozen(kw_only=True)
class LayerGroups:
    """The parameters of each group, from the input to the output; no group is empty.

    Attributes:
        parameters: their names by group.
        sizes: how many numbers each group has.
    """

    parameters: Mapping[str, tuple[str, ...]]
    sizes: tuple[int, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the groups."""
        return tuple(self.parameters)

    def flat(self, gradient: Mapping[str, Tensor]) -> list[Tensor]:
        """The gradient of each group as one row, on the CPU."""
        return [
            torch.cat([gradient[name].flatten().cpu() for name in names])
            for names in self.parameters.values()
        ]


def layer_groups(context: EvaluationContext, gradient: GradientCall) -> LayerGroups:
    """The groups of the network: its ``blocks``, and what is registered before and after them.

    An embedding that is tied is read by ``unembed``, and goes with the head.
    """
    tokens = torch.full((1, context.length), context.tokenizer.vocab.mask_id).to(context.device)
    time = torch.full((1,), 0.5, device=context.device)
    blocks: list[set[str]] = []

    def logits(denoiser: Denoiser) -> Tensor:
        blocks[:] = _names_by_block(denoiser)
        h = denoiser(tokens, t=time, attention=Attention())
        # the second term keeps a graph where `unembed` has no parameters
        return denoiser.unembed(h.detach()).float().sum() + 0 * h.float().sum()

    found = gradient(logits)
    read = {name for name, part in found.items() if part.any()}
    inside = set().union(*blocks)
    places = [place for place, name in enumerate(found) if name in inside]
    first = min(places, default=len(found))
    before = set(list(found)[:first]) - read - inside
    tied = bool(read & set(list(found)[:first])) and bool(inside)
    groups = {
        "input" if tied else "embedding": before,
        **_of_blocks(blocks),
        "embedding and head" if tied else "head": found.keys() - before - inside,
    }
    parameters = {
        group: tuple(name for name in found if name in members)
        for group, members in groups.items()
        if members
    }
    sizes = [sum(found[name].numel() for name in names) for names in parameters.values()]
    return LayerGroups(parameters=parameters, sizes=tuple(sizes))


def _names_by_block(denoiser: Denoiser) -> list[set[str]]:
    """The parameters of each block, by their names in the denoiser."""
    assert isinstance(denoiser, nn.Module)
    names = {parameter: name for name, parameter in denoiser.named_parameters()}
    return [{names[parameter] for parameter in block.parameters()} for block in denoiser.blocks]


def _of_blocks(blocks: Sequence[set[str]]) -> dict[str, set[str]]:
    """Each block, or where there are many each third of them."""
    count = len(blocks)
    parts = count if count <= EACH else 3
    edges = [count * part // max(parts, 1) for part in range(parts + 1)]
    return {
        _title(first, last): set().union(*blocks[first:last]) for first, last in pairwise(edges)
    }


def _title(first: int, last: int) -> str:
    if last == first + 1:
        return f"block {last}"
    return f"blocks {first + 1} to {last}"
