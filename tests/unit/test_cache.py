from __future__ import annotations

from typing import Any

import pytest
import torch

from mdmkit.builtin.denoisers.dit import Dit
from mdmkit.builtin.denoisers.transformer import Transformer
from mdmkit.values import Attention, Vocabulary

VOCAB = Vocabulary(size=6, mask_id=5)
DENOISERS = [Dit(width=8, depth=2, heads=2), Transformer(width=8, depth=2, heads=2)]


@pytest.mark.parametrize("denoiser", DENOISERS)
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"cache": object()}, "new_cache"),
        ({"causal": False}, "causal attention"),
        ({"positions": torch.zeros(1, 4, dtype=torch.int64)}, "without document_ids"),
        ({"rows": 2}, "for 2 rows"),
        ({"length": 3}, "no room for 4"),
    ],
)
def test_a_cache_that_does_not_fit_is_refused(
    denoiser: Any, wrong: dict[str, Any], words: str
) -> None:
    net = denoiser.build(VOCAB)
    room = {"rows": 1, "length": 4, **wrong}
    cache = net.new_cache(room["rows"], room["length"])
    said = {key: value for key, value in wrong.items() if key not in ("rows", "length")}
    asked = Attention(**{"causal": True, "cache": cache, **said})
    with pytest.raises(ValueError, match=words):
        net(torch.zeros(1, 4, dtype=torch.int64), attention=asked)
