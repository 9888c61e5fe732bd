from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch

from mdmkit.choosing import Choosing
from mdmkit.errors import MdmkitError

MASK = 5


def cut_off(logits: list[float], *, temperature: float, top_p: float, top_k: int) -> list[float]:
    """The distribution that the options ask for, step by step."""
    weights = {i: math.exp(x / temperature) for i, x in enumerate(logits) if i != MASK}
    best_first = sorted(weights, key=lambda i: (-weights[i], i))  # of equals the first id
    kept = best_first[: top_k or None]
    total, reached, nucleus = sum(weights[i] for i in kept), 0.0, []
    for i in kept:
        if reached >= top_p:
            break
        nucleus.append(i)
        reached += weights[i] / total
    mass = sum(weights[i] for i in nucleus)
    return [weights[i] / mass if i in nucleus else 0.0 for i in range(len(logits))]


@pytest.mark.parametrize(
    ("temperature", "top_p", "top_k"),
    list(product([0.3, 1.0, 2.5], [1e-9, 0.35, 0.8, 1.0], [0, 1, 3, 5, 99])),
)
def test_what_is_drawn_from_is_cut_off_as_asked(temperature, top_p, top_k):
    logits = torch.randn(30, 6, generator=torch.Generator().manual_seed(top_k)).double()
    logits[:10] = logits[:10].round()  # ties
    options: dict[str, Any] = {"temperature": temperature, "top_p": top_p, "top_k": top_k}
    found = Choosing(**options).log_probs(logits, MASK).exp()
    wanted = torch.tensor([cut_off(row, **options) for row in logits.tolist()])
    assert torch.allclose(found, wanted.double(), atol=1e-6)


def test_of_equal_tokens_at_the_edge_the_first_are_kept():
    logits = torch.tensor([[0.2, 0.3, 0.2, 0.1, 0.2, 0.0]]).double().log()
    for options in ({"top_p": 0.5 - 1e-9}, {"top_k": 2}):
        kept = Choosing(**options).log_probs(logits, MASK).isfinite()
        assert kept[0].tolist() == [True, True, False, False, False, False]
    halves = torch.tensor([[0.0, -torch.inf, 0.0, -torch.inf, -torch.inf, 9.0]])
    kept = Choosing(top_p=0.5).log_probs(halves, MASK).isfinite()  # the first half is enough
    assert kept[0].tolist() == [True, False, False, False, False, False]


def test_of_a_temperature_of_zero_comes_the_likeliest_and_what_the_network_gave_it():
    logits = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    u = torch.rand(40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    p = logits[:, :MASK].double().softmax(-1)
    for options in ({}, {"top_p": 0.3}, {"top_k": 2}, {"draws": "float32"}):
        cold = Choosing(temperature=0.0, **options).choose(logits, u, MASK)
        assert torch.equal(cold.tokens, p.argmax(-1))
        assert torch.allclose(cold.log_p.exp(), p.amax(-1))
    nearly = Choosing(temperature=1e-305).choose(logits, u, MASK)  # the quotients overflow
    assert torch.equal(nearly.tokens, p.argmax(-1))


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.4}, {"top_p": 0.6}, {"top_k": 2}], ids=str
)
@pytest.mark.parametrize("draws", ["float64", "float32"])
def test_draws_have_the_distribution_and_tell_what_the_network_gave(options, draws):
    row = torch.tensor([0.5, -1.0, 1.5, 0.0, 0.7, 9.0])
    n = 4000
    u = torch.rand(n, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = Choosing(draws=draws, **options).choose(row.expand(n, -1), u, MASK)
    asked = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, **options}
    wanted = torch.tensor(cut_off(row.tolist(), **asked)).double()
    shares = torch.bincount(found.tokens, minlength=6) / n
    error = (wanted * (1 - wanted) / n).sqrt()
    assert ((shares - wanted).abs() <= 4 * error).all()
    plain = row[:MASK].double().log_softmax(-1)
    assert torch.allclose(found.log_p, plain[found.tokens])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.0}, {"top_p": 0.5}, {"draws": "float32"}], ids=str
)
def test_logits_that_are_no_distribution_are_named(bad, options):
    logits = torch.zeros(3, 6)
    logits[1] = bad
    with pytest.raises(MdmkitError, match="logits are not finite"):
        Choosing(**options).choose(logits, torch.full((3,), 0.5).double(), MASK)
