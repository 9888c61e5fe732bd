"""Analyses: evaluators that show why a network learns as it does, in pictures."""

from mdmkit.builtin.evaluators.analysis.context import ContextAllocation
from mdmkit.builtin.evaluators.analysis.gradient import Gradient
from mdmkit.builtin.evaluators.analysis.locality import Locality
from mdmkit.builtin.evaluators.analysis.loss_by_mask_ratio import LossByMaskRatio
from mdmkit.builtin.evaluators.analysis.mutual_information import MutualInformation

__all__ = ["ContextAllocation", "Gradient", "Locality", "LossByMaskRatio", "MutualInformation"]
