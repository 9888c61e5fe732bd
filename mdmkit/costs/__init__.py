"""What a recipe costs: parameters, FLOPs, memory and time, counted without running it."""

from mdmkit.costs.flops import Flops, flops_per_token
from mdmkit.costs.parameters import Parameters, count_parameters
from mdmkit.costs.shares import Shares, expected_shares, inputs_per_position, scored_share

__all__ = [
    "Flops",
    "Parameters",
    "Shares",
    "count_parameters",
    "expected_shares",
    "flops_per_token",
    "inputs_per_position",
    "scored_share",
]
