"""How many parameters a denoiser has, and where."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from attrs import frozen
from torch import Tensor, nn

from mdmkit.costs.meta import META, LikeCuda, in_words, on_meta
from mdmkit.protocols import Denoiser
from mdmkit.training.parallel import blocks_of
from mdmkit.values import Attention


@frozen(kw_only=True)
class Parameters:
    """Numbers of parameters; one that is shared between places counts once, where it is first.

    Attributes:
        embedding: read by a look-up of tokens.
        blocks: of the repeated blocks.
        head: read by ``unembed``, without those of a tied embedding.
        other: the rest: last norm, time embedding, ….
        trained: of all, those that have a gradient.
        tied: whether ``unembed`` reads the embedding.
    """

    embedding: int
    blocks: int
    head: int
    other: int
    trained: int
    tied: bool

    @property
    def total(self) -> int:
        """N, all of them."""
        return self.embedding + self.blocks + self.head + self.other


def count_parameters(denoiser: nn.Module, *, length: int = 2) -> Parameters:
    """Count the parameters of a denoiser, on whatever device it is; its weights are not read.

    Args:
        denoiser: a `mdmkit.protocols.Denoiser`, not sharded.
        length: L, of the one row that is sent through it on the meta device.

    Raises:
        RecipeError: where its forward does not run on the meta device.
    """
    network = on_meta(denoiser)
    assert isinstance(network, nn.Module)
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    network.requires_grad_()  # of this copy, so that the graph shows what is read where
    embedding, head = _ends(network, length)
    blocks = [parameter for block in blocks_of(network) for parameter in block.parameters()]
    left = {id(parameter): parameter for parameter in network.parameters()}
    total = sum(parameter.numel() for parameter in left.values())

    def take(parameters: Iterable[Tensor]) -> int:
        taken = (left.pop(id(parameter), None) for parameter in parameters)
        return sum(parameter.numel() for parameter in taken if parameter is not None)

    counts = {"blocks": take(blocks), "embedding": take(embedding), "head": take(head)}
    return Parameters(
        **counts,
        other=total - sum(counts.values()),
        trained=trained,
        tied=bool({id(p) for p in embedding} & {id(p) for p in head}),
    )


def _ends(network: Denoiser, length: int) -> tuple[list[Tensor], list[Tensor]]:
    """The parameters of token look-ups, and those that ``unembed`` reads."""
    tokens = torch.zeros(1, length, dtype=torch.int64, device=META)
    with in_words("called"), torch.enable_grad(), LikeCuda(autocast=False):
        h = network(tokens, t=torch.full((1,), 0.5, device=META), attention=Attention())
        logits = network.unembed(h.detach()[0])
    embeddings = [node for node in _nodes(h) if type(node).__name__.startswith("Embedding")]
    return (
        [leaf for node in embeddings for leaf in _leaves(node)],
        [leaf for node in _nodes(logits) for leaf in _leaves(node)],
    )


def _nodes(output: Tensor) -> list[torch.autograd.graph.Node]:
    """Every node of the graph that made `output`."""
    left = [output.grad_fn]
    found: dict[torch.autograd.graph.Node, None] = {}
    while left:
        node = left.pop()
        if node is not None and node not in found:
            found[node] = None
            left += [before for before, _ in node.next_functions]
    return list(found)


def _leaves(node: torch.autograd.graph.Node) -> list[Tensor]:
    """The parameters that `node` reads by itself, or through a cast or a view."""
    if hasattr(node, "variable"):
        return [node.variable]
    inputs = [before for before, _ in node.next_functions if before is not None]
    return [leaf for before in inputs for leaf in _leaves(before)] if len(inputs) == 1 else []
