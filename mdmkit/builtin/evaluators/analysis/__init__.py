"""Analyses: evaluators that show why a network learns as it does, in pictures."""

from mdmkit.builtin.evaluators.analysis.loss_by_mask_ratio import LossByMaskRatio

__all__ = ["LossByMaskRatio"]
