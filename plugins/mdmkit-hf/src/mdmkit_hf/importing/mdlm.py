"""The network of MDLM as its authors keep it: names, shapes and order of its weights.

Facts of arXiv 2406.07524 and its code (kuleshov-group/mdlm, ``models/dit.py``): the weights are
those of our ``dit`` by name and shape, after the prefix ``backbone.``, and the frequencies of the
rotary positions are kept with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from attrs import frozen
from torch import Tensor

from mdmkit import DataError
from mdmkit_hf.importing.tensors import Shape, StoredTensors

PREFIX = "backbone."
ROTARY = "rotary_emb.inv_freq"
_SINUSOIDS = 256
_ROTARY_BASE = 10_000.0


@frozen(kw_only=True)
class Architecture:
    """What decides the shapes of MDLM's network.

    Attributes:
        vocab_size: V, with the mask.
        width: D.
        depth: blocks.
        heads: of attention.
        conditioning_width: C.
    """

    vocab_size: int
    width: int
    depth: int
    heads: int
    conditioning_width: int

    def parameters(self) -> dict[str, Shape]:
        """Names and shapes, in the order of ``parameters()``, which is that of its average."""
        width, narrow = self.width, self.conditioning_width
        return dict(
            [
                ("vocab_embed.embedding", (self.vocab_size, width)),
                ("sigma_map.mlp.0.weight", (narrow, _SINUSOIDS)),
                ("sigma_map.mlp.0.bias", (narrow,)),
                ("sigma_map.mlp.2.weight", (narrow, narrow)),
                ("sigma_map.mlp.2.bias", (narrow,)),
                *(entry for number in range(self.depth) for entry in self._block(number)),
                ("output_layer.norm_final.weight", (width,)),
                ("output_layer.linear.weight", (self.vocab_size, width)),
                ("output_layer.linear.bias", (self.vocab_size,)),
                ("output_layer.adaLN_modulation.weight", (2 * width, narrow)),
                ("output_layer.adaLN_modulation.bias", (2 * width,)),
            ]
        )

    def _block(self, number: int) -> Iterator[tuple[str, Shape]]:
        width = self.width
        shapes: Mapping[str, Shape] = {
            "norm1.weight": (width,),
            "attn_qkv.weight": (3 * width, width),
            "attn_out.weight": (width, width),
            "norm2.weight": (width,),
            "mlp.0.weight": (4 * width, width),
            "mlp.0.bias": (4 * width,),
            "mlp.2.weight": (width, 4 * width),
            "mlp.2.bias": (width,),
            "adaLN_modulation.weight": (6 * width, self.conditioning_width),
            "adaLN_modulation.bias": (6 * width,),
        }
        return ((f"blocks.{number}.{name}", shape) for name, shape in shapes.items())

    def stored(self) -> dict[str, Shape]:
        """Names and shapes of everything in a file of its weights, as they are there."""
        everything = {**self.parameters(), ROTARY: (self.width // self.heads // 2,)}
        return {f"{PREFIX}{name}": shape for name, shape in everything.items()}


def read_weights(stored: StoredTensors, architecture: Architecture) -> dict[str, Tensor]:
    """The weights in float32 by their names in our ``dit``.

    Raises:
        DataError: where names or shapes are not MDLM's, or the rotary positions turn otherwise.
    """
    if architecture.depth > len(stored.shapes):  # before they are listed
        raise DataError(
            f"{stored.where}: {len(stored.shapes)} tensors; expected those of a network of "
            f"{architecture.depth} blocks"
        )
    stored.require(architecture.stored())
    check_rotary(stored.read(f"{PREFIX}{ROTARY}"), architecture, where=stored.where)
    return {name: stored.read(f"{PREFIX}{name}").float() for name in architecture.parameters()}


def check_rotary(found: Tensor, architecture: Architecture, *, where: str) -> None:
    """Hold the kept frequencies against base 10,000, which ours have.

    Raises:
        DataError: where they are others.
    """
    head_width = architecture.width // architecture.heads
    exponent = torch.arange(0, head_width, 2, dtype=torch.float64) / head_width
    expected = _ROTARY_BASE**-exponent
    tolerance = 1e-5 if found.dtype in (torch.float32, torch.float64) else 1e-2
    if not torch.allclose(found.double(), expected, rtol=tolerance, atol=0.0):
        raise DataError(
            f"{where}: {PREFIX}{ROTARY} are not the frequencies of rotary positions of base "
            f"{_ROTARY_BASE:.0f}, which MDLM has; a network with others would say other things"
        )
