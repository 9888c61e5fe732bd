"""Any-order prediction, on a network that looks at positions: by enumeration, and by hand."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from attrs import evolve
from torch import Tensor

from mdmkit import RecipeError
from mdmkit.builtin.denoisers.dit import Dit
from mdmkit.builtin.objectives import AnyOrder
from mdmkit.builtin.position_orders import Interleaved
from mdmkit.builtin.samplers import AnyOrderSampler
from mdmkit.builtin.schedules import Linear
from mdmkit.draws import StepDraws
from mdmkit.generation import LiveGenerate
from mdmkit.network import InferenceCall, Root
from mdmkit.recipe import load_recipe
from mdmkit.testing import HashDenoiser, objective_context
from mdmkit.testing.networks import randomize
from mdmkit.values import Batch, Vocabulary

VOCAB = Vocabulary(size=4, mask_id=3)
LENGTH = 3
TEXTS = torch.tensor(list(itertools.product(range(3), repeat=LENGTH)))


def live(length: int = LENGTH, **options: Any) -> Any:
    return AnyOrder(**options).build(evolve(objective_context(), vocab=VOCAB, length=length))


def draws(rows: int, step: int = 0) -> StepDraws:
    return StepDraws(seed=3, step=step, rows=torch.arange(rows), global_rows=rows)


@pytest.fixture(scope="module")
def network() -> Any:
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        net: Any = Dit(width=8, depth=2, heads=2, adaln=False).build(VOCAB)
    randomize(net)
    return net.eval()


@torch.no_grad()
def bound(network: Any, tokens: Tensor, **options: Any) -> Tensor:
    objective = live(tokens.shape[1], **options)
    nats: Tensor = objective.bound(network, Batch(tokens=tokens), draws(len(tokens))).nats
    return nats


@pytest.mark.parametrize("order", ["left_to_right", "fixed"])
def test_probabilities_of_all_texts_sum_to_one(network: Any, order: str) -> None:
    found = (-bound(network, TEXTS, order=order)).exp()
    assert float(found.sum()) == pytest.approx(1, abs=1e-5)
    assert float(found.max()) > 2 * float(found.min())  # it is not uniform


def test_orders_differ_where_they_should(network: Any) -> None:
    seeds = [bound(network, TEXTS, order="fixed", seed=seed) for seed in range(8)]
    assert len({round(float(nats[5]), 4) for nats in seeds}) > 2
    assert torch.equal(seeds[0], bound(network, TEXTS, order="fixed"))
    same = TEXTS[5].expand(40, -1)
    assert len(bound(network, same, order="random").mul(1e4).round().unique()) > 3


@torch.no_grad()
def test_a_query_sees_no_later_token_and_knows_its_own_position(network: Any) -> None:
    objective, full = live(5, order="left_to_right"), torch.ones(1, 5, dtype=torch.bool)
    text = torch.tensor([[0, 1, 2, 0, 1]])
    found = objective.nll(network, Batch(tokens=text), full)
    for i in range(5):
        other = text.clone()
        other[0, i] = (text[0, i] + 1) % 3
        moved = (objective.nll(network, Batch(tokens=other), full) - found).abs()[0] > 1e-6
        assert moved.tolist() == [False] * i + [True] * (5 - i)
    order = torch.tensor([[2, 0, 1, 3, 4]])
    rows = Interleaved.of(Batch(tokens=text), order, VOCAB.mask_id)
    assert rows.inputs.tolist() == [[3, 2, 3, 0, 3, 1, 3, 0, 3, 1]]
    assert rows.attention.positions is not None
    assert rows.attention.positions.tolist() == [[2, 2, 0, 0, 1, 1, 3, 3, 4, 4]]
    assert rows.attention.features() == {"causal", "positions"}


@torch.no_grad()
def test_the_mean_over_all_orders_is_the_any_order_nelbo() -> None:
    """Of a network whose answers depend on what it sees alone, not on the order of it."""
    denoiser, text = HashDenoiser(VOCAB.size, seed=2), torch.tensor([2, 0, 1])
    orders = torch.tensor(list(itertools.permutations(range(LENGTH))))
    objective = live()
    everything = torch.ones(orders.shape, dtype=torch.bool)
    batch = Batch(tokens=text.expand(len(orders), -1))
    chains = objective._under(denoiser, batch, orders, everything).sum(-1)
    by_mask = 0.0
    for count in range(1, LENGTH + 1):
        masks = [[i in hidden for i in range(LENGTH)]
                 for hidden in itertools.combinations(range(LENGTH), count)]  # fmt: skip
        mask = torch.tensor(masks)
        of_masks = Batch(tokens=text.expand(len(mask), -1))
        by_mask += float(objective.nll(denoiser, of_masks, mask).sum(-1).mean()) / count
    assert len(chains.unique()) > 1
    assert float(chains.mean()) == pytest.approx(by_mask, rel=1e-5)
    many = Batch(tokens=text.expand(4000, -1))
    nats = objective.bound(denoiser, many, draws(4000)).nats
    assert float(nats.mean()) == pytest.approx(by_mask, abs=5 * float(nats.std()) / 4000**0.5)


def test_context_first_padding_last() -> None:
    tokens = torch.tensor([[0, 1, 2, 0, 1, 2], [0, 1, 2, 0, 1, 2]])
    real = torch.tensor([[True] * 4 + [False] * 2, [True] * 6])
    maskable = real.clone()
    maskable[:, 2] = False
    for order in ("random", "fixed", "left_to_right"):
        batch = Batch(tokens=tokens, real=real, maskable=maskable, document_ids=tokens // 2)
        noised = live(6, order=order).corrupt(batch, draws(2))
        where = noised.attention.positions[:, ::2]
        assert where[:, 0].tolist() == [2, 2]
        assert sorted(where[0, 4:].tolist()) == [4, 5]
        assert torch.equal(noised.attention.padding, real.gather(1, where).repeat_interleave(2, 1))
        assert torch.equal(noised.attention.document_ids[:, 1::2], (tokens // 2).gather(1, where))
        assert torch.equal(noised.in_loss[:, ::2], maskable.gather(1, where))
        assert not noised.in_loss[:, 1::2].any()
        assert float(noised.denominator) == 3 + 5
        assert torch.equal(noised.targets[:, ::2], tokens.gather(1, where))


def test_a_share_of_the_targets() -> None:
    batch = Batch(tokens=torch.randint(0, 3, (200, 10), generator=torch.Generator().manual_seed(0)))
    noised = live(10, target_share=0.45).corrupt(batch, draws(200))
    assert noised.in_loss.sum(-1).tolist() == [5] * 200  # rounded up
    hits = torch.zeros(10).index_add_(
        0, noised.attention.positions[noised.in_loss], torch.ones(1000)
    )
    assert (hits - 100).abs().max() < 35  # five standard deviations
    again = live(10, target_share=0.45).corrupt(batch, draws(200, step=1))
    assert not torch.equal(again.in_loss, noised.in_loss)


@torch.no_grad()
def test_the_sampler_draws_from_the_model(network: Any) -> None:
    call = InferenceCall(Root(network), torch.device("cpu"), "fp32")
    generate = LiveGenerate(
        call=call, vocab=VOCAB, noise_schedule=Linear(), length=LENGTH, device=torch.device("cpu")
    )
    rows, start = range(600), torch.full((600, LENGTH), VOCAB.mask_id)
    for order in ("left_to_right", "fixed"):
        *_, last = generate(AnyOrderSampler(order=order), start, rows=rows, seed=0)
        log_p = -bound(network, last.tokens, order=order)
        assert last.log_p is not None
        assert torch.allclose(last.log_p.sum(-1), log_p, atol=1e-4)
        assert last.network_evaluations == LENGTH
        number = (last.tokens * torch.tensor([9, 3, 1])).sum(-1)
        found = number.bincount(minlength=27) / 600
        expected = (-bound(network, TEXTS, order=order)).exp()
        assert (found - expected).abs().max() < 5 * math.sqrt(0.25 / 600)
    given = start.clone()
    given[:, 1] = 2
    *_, last = generate(AnyOrderSampler(), given, rows=rows, seed=0)
    assert last.network_evaluations == LENGTH - 1
    one = live(order="random").nll(network, Batch(tokens=last.tokens), given == VOCAB.mask_id)
    assert last.log_p is not None
    first = torch.isclose(-last.log_p, one, atol=1e-4) & (given == VOCAB.mask_id)
    assert first.any(-1).all()  # the first token drawn is given the visible one alone


@pytest.mark.parametrize(
    ("objective", "sampler", "said"),
    [
        ("order=fixed", "order=random", '[sampler] order: the objective trains the order "fixed"'),
        ("seed=3", "order=fixed", None),
        ("{order='fixed', seed=3}", "order=fixed", "[sampler] seed: the objective trains the"),
        ("order=random", "order=left_to_right", None),
    ],
)
def test_a_sampler_that_does_not_fit(objective: str, sampler: str, said: str | None) -> None:
    words = objective.strip("{}").split(", ")
    choice = [f"objective.{word}" for word in words] + [f"sampler.{sampler}"]
    choice = ["objective.use=any_order", "sampler.use=any_order", *choice]
    if said is None:
        load_recipe("quickstart_bell", choice)
        return
    with pytest.raises(RecipeError) as caught:
        load_recipe("quickstart_bell", choice)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("order", "packing", "fits"),
    [
        ("fixed", "score_bos = false", False),
        ("left_to_right", "score_bos = false", True),
        ("random", "score_bos = false", True),
        ("fixed", "score_bos = true", True),
    ],
)
@pytest.mark.parametrize("moved", [False, True])
def test_what_training_shows_first_must_be_first(
    order: str, packing: str, fits: bool, moved: bool
) -> None:
    table = f'{{ use = "wrapped", {packing} }}'
    table = f'{{ use = "rearranged", of = {table} }}' if moved else table
    choice = [
        *(f"{part}.use=any_order" for part in ("objective", "sampler")),
        *(f"{part}.order={order}" for part in ("objective", "sampler")),
        f"data.packing={table}",
    ]
    if fits and not (moved and order == "left_to_right"):
        load_recipe("quickstart_bell", choice)
        return
    with pytest.raises(RecipeError, match="puts BOS, which it does not score, before all others"):
        load_recipe("quickstart_bell", choice)
