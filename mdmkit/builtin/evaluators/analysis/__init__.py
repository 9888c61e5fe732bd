"""Analyses: evaluators that show why a network learns as it does, in pictures."""

from mdmkit.builtin.evaluators.analysis.gradient import Gradient
from mdmkit.builtin.evaluators.analysis.loss_by_mask_ratio import LossByMaskRatio

__all__ = ["Gradient", "LossByMaskRatio"]
