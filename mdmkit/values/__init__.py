"""What travels between components: the small frozen values that the contracts speak of.

Shapes: B rows (sequences), L positions, V vocabulary, D width. ``t`` is 0 for clean text and 1
for fully masked text.
"""

from mdmkit.values.noised import Loss, MixedNoised, Noised, NoisedRows
from mdmkit.values.numbers import BlockTable, Bound, Generation, Measurement, Metrics
from mdmkit.values.pictures import HeatMap, Line, Picture, picture_from_json
from mdmkit.values.text import Attention, Batch, Vocabulary

__all__ = [
    "Attention",
    "Batch",
    "BlockTable",
    "Bound",
    "Generation",
    "HeatMap",
    "Line",
    "Loss",
    "Measurement",
    "Metrics",
    "MixedNoised",
    "Noised",
    "NoisedRows",
    "Picture",
    "Vocabulary",
    "picture_from_json",
]
