"""What `loss_by_mask_ratio` draws of one network."""

from __future__ import annotations

from torch import Tensor

from mdmkit.values import Line, Picture

LOSS, GAP = "loss", "gap"
"""Names of the pictures."""

NETWORK = "the network"
TRUE = "true conditional entropy"
UNIGRAM = "unigram entropy"
WITHOUT = "h_without_each_group"
"""Key of provenance: h at each mask count without each of some groups of the text, ``[G, K]``."""
MASK_RATIO = "mask ratio"
NATS = "nats per masked token"


def loss_picture(
    x: Tensor, h: Tensor, stderr: Tensor, *, unigram: float, true: Tensor | None
) -> Picture:
    """h by mask ratio.

    Args:
        x: ``[K]`` mask ratios, rising.
        h, stderr: ``[K]`` nats.
        unigram: entropy of a token by itself.
        true: ``[K]``, where it is known.
    """
    ratios = floats(x)
    lines = [Line(name=NETWORK, x=ratios, y=floats(h), stderr=floats(stderr))]
    if true is not None:
        lines.append(Line(name=TRUE, x=ratios, y=floats(true), known=True))
    lines.append(Line(name=UNIGRAM, x=ratios, y=(unigram,) * len(ratios), known=True))
    note = (
        "The NELBO per token is the area under the curve. "
        "The unigram entropy is the least that tokens cost whose context is not looked at, by the "
        "counts of this very text; those of the training text cost a little more. "
    )
    note += (
        "The distance to the true conditional entropy is what can still be learned."
        if true is not None
        else "How much lower the curve could be, this text does not tell: the loss of any network "
        "is but an upper bound on the conditional entropy."
    )
    return Picture(
        title="Loss by mask ratio",
        x_label=MASK_RATIO,
        y_label=NATS,
        lines=tuple(lines),
        note=note,
    )


def gap_picture(x: Tensor, gap: Tensor, stderr: Tensor) -> Picture:
    """What can still be learned, where the truth is known: ``[K]`` each."""
    return Picture(
        title="What can still be learned",
        x_label=MASK_RATIO,
        y_label=NATS,
        lines=(
            Line(name="loss minus true entropy", x=floats(x), y=floats(gap), stderr=floats(stderr)),
        ),
        note=(
            "The process that made the text is known, so nothing but this is left to gain. Below "
            "zero it is only by chance: the text is a sample."
        ),
    )


def floats(values: Tensor) -> tuple[float, ...]:
    """Numbers as a picture wants them."""
    return tuple(values.double().tolist())
