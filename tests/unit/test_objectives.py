from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from attrs import evolve, frozen
from torch import Tensor

from mdmkit.builtin.mask_patterns import ExactCount, Independent
from mdmkit.builtin.objectives import Autoregressive, MaskedDiffusion, MixedCausal, shift_right
from mdmkit.builtin.schedules import Cosine, Linear
from mdmkit.builtin.time_samplers import Bell, Uniform
from mdmkit.builtin.weightings import Elbo, Flat, InverseT
from mdmkit.diffusion import subs_log_probs
from mdmkit.draws import StepDraws
from mdmkit.testing import HashDenoiser, objective_context, random_batch
from mdmkit.values import Batch, Vocabulary

VOCAB = Vocabulary(size=11, mask_id=10, bos_id=0)
ROWS, LENGTH = 8, 6


def draws(rows: int = ROWS, step: int = 0) -> StepDraws:
    return StepDraws(seed=3, step=step, rows=torch.arange(rows), global_rows=rows)


def masked(stratification: Any = "jittered", **parts: Any) -> Any:
    context = evolve(objective_context(), vocab=VOCAB, length=LENGTH, **parts)
    return MaskedDiffusion(stratification=stratification).build(context)


@frozen(kw_only=True)
class Fixed:
    """Masks the first three positions of even rows, and nothing of odd ones."""

    group: ClassVar[int] = 1
    every_context: ClassVar[bool] = False
    count_law: ClassVar[str] = "other"

    def rate(self, rate: Tensor, member: Tensor, size: Tensor) -> Tensor:
        return rate

    def mask(self, *, rate: Tensor, noise: Tensor, maskable: Tensor, **_: Any) -> Tensor:
        even = torch.arange(len(rate)) % 2 == 0
        return (torch.arange(noise.shape[-1]) < 3) & even[:, None] & maskable


def batch(rows: int = ROWS) -> Batch:
    """The last position of row 0 is padding."""
    return random_batch(rows, LENGTH, VOCAB)


# --- masked diffusion: the task


def test_masked_positions_are_the_loss_and_the_rest_stays() -> None:
    text = batch()
    noised = masked().corrupt(text, draws())
    assert noised.in_loss.any()
    assert (noised.inputs[noised.in_loss] == VOCAB.mask_id).all()
    assert torch.equal(noised.inputs[~noised.in_loss], text.tokens[~noised.in_loss])
    assert torch.equal(noised.targets, text.tokens)
    assert not noised.in_loss[0, -1]
    assert noised.attention.padding is text.real
    assert not noised.attention.causal


@pytest.mark.parametrize(
    ("normalizer", "expected"),
    [("tokens", 47.0), ("masked", 12.0), ("weights", None), ("sequence", 8.0)],
)
def test_denominators(normalizer: Any, expected: float | None) -> None:
    objective = masked(mask_pattern=Fixed(), loss_weighting=InverseT(normalizer=normalizer))
    noised = objective.corrupt(batch(), draws())
    t = Uniform().icdf(draws().strata("time", "jittered"))
    if expected is None:
        expected = float((3 / t[::2]).sum())
    assert float(noised.denominator) == pytest.approx(expected)
    share = 3.0 if normalizer == "sequence" else 1.0  # each row's own masked tokens
    assert noised.weights[::2, 0].tolist() == pytest.approx((1 / t[::2] / share).tolist())


def test_weights_by_token_are_kept_by_token() -> None:
    @frozen(kw_only=True)
    class ByPosition:
        normalizer: str = "tokens"

        def weight(self, *, mask: Tensor, **_: Any) -> Tensor:
            return torch.arange(1.0, LENGTH + 1).double().expand(mask.shape)

    noised = masked(loss_weighting=ByPosition()).corrupt(batch(), draws())
    assert noised.weights[3].tolist() == [1, 2, 3, 4, 5, 6]


def test_the_weighting_sees_schedule_density_counts_and_step() -> None:
    seen: dict[str, Any] = {}

    @frozen(kw_only=True)
    class Spy:
        normalizer: str = "tokens"

        def weight(self, *, t: Tensor, **facts: Any) -> Tensor:
            seen.update(facts, t=t)
            return torch.ones_like(t)

    parts = {"noise_schedule": Cosine(), "time_sampler": Bell(floor=0.3), "mask_pattern": Fixed()}
    noised = masked(loss_weighting=Spy(), **parts).corrupt(batch(), draws(step=7))
    t = seen["t"]
    assert torch.equal(t, Bell(floor=0.3).icdf(draws(step=7).strata("time", "jittered")))
    torch.testing.assert_close(seen["alpha_t"], Cosine().alpha(t))
    torch.testing.assert_close(seen["dalpha_t"], Cosine().dalpha(t))
    torch.testing.assert_close(seen["density"], Bell(floor=0.3).density(t))
    assert seen["mask_count"].tolist() == [3, 0] * 4
    assert seen["token_count"].tolist() == [5.0] + [6.0] * 7
    assert torch.equal(seen["mask"], noised.in_loss)
    assert seen["step"] == 7
    assert torch.equal(noised.t, t.float())  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["jittered", "offset", "mirrored"])
def test_times_are_stratified_as_asked(kind: Any) -> None:
    t = masked(kind).corrupt(batch(), draws()).t
    assert (t * ROWS).floor().tolist() == list(range(ROWS))
    if kind == "mirrored":
        torch.testing.assert_close(t + t.flip(0), torch.ones(ROWS))
    if kind == "offset":
        torch.testing.assert_close(t.diff(), torch.full((ROWS - 1,), 1 / ROWS))


def test_weights_of_empty_rows_do_not_spoil_the_denominator() -> None:
    """Where nothing is masked a weight may be anything, infinite too."""

    @frozen(kw_only=True)
    class InfiniteWhereEmpty(Flat):
        def weight(self, *, mask_count: Tensor, **_: Any) -> Tensor:
            return torch.where(mask_count > 0, 2.0, torch.inf).double()

    weighting = InfiniteWhereEmpty(normalizer="weights")
    noised = masked(mask_pattern=Fixed(), loss_weighting=weighting).corrupt(batch(), draws())
    assert noised.denominator == 2.0 * noised.in_loss.sum()


def test_the_elbo_lets_a_pattern_pass_that_cannot_be_asked_yet() -> None:
    parts: Any = SimpleNamespace(mask_pattern=object())
    assert list(Elbo().check(parts)) == []


def test_twins_share_time_and_noise() -> None:
    @frozen(kw_only=True)
    class Complementary(Independent):
        group: ClassVar[int] = 2

        def rate(self, rate: Tensor, member: Tensor, size: Tensor) -> Tensor:
            return torch.where(member == 1, 1 - rate, rate)

        def mask(
            self, *, rate: Tensor, noise: Tensor, member: Tensor, maskable: Tensor, **_: Any
        ) -> Tensor:
            return ((noise < rate[:, None]) ^ (member == 1)[:, None]) & maskable

    text = Batch(tokens=torch.full((ROWS, LENGTH), 4))
    objective = masked(mask_pattern=Complementary())
    noised = objective.corrupt(text, draws())
    assert objective.group == 2
    assert (noised.in_loss[::2] ^ noised.in_loss[1::2]).all()
    torch.testing.assert_close(noised.t[::2], 1 - noised.t[1::2])  # each row its own time


# --- masked diffusion: loss and bound


def test_an_empty_mask_costs_nothing_and_can_be_differentiated() -> None:
    @frozen(kw_only=True)
    class Nothing(Independent):
        def mask(self, *, rate: Tensor, noise: Tensor, maskable: Tensor, **_: Any) -> Tensor:
            return torch.zeros_like(maskable)

    denoiser, objective = HashDenoiser(VOCAB.size), masked(mask_pattern=Nothing())
    loss = objective.loss(denoiser, objective.corrupt(batch(), draws()))
    loss.total.backward()
    assert loss.total.item() == 0.0
    assert loss.tokens.tolist() == [0] * ROWS
    assert all(p.grad is None or (p.grad == 0).all() for p in denoiser.parameters())


@pytest.mark.parametrize(
    "parts",
    [
        {"loss_weighting": Flat()},
        {"time_sampler": Bell()},
        {"noise_schedule": Cosine()},
        {"mask_pattern": ExactCount(), "loss_weighting": Elbo(estimator="rao_blackwell")},
    ],
)
def test_the_bound_does_not_depend_on_how_it_is_trained(parts: dict[str, Any]) -> None:
    denoiser = HashDenoiser(VOCAB.size)
    with torch.no_grad():
        usual = masked().bound(denoiser, batch(), draws()).nats
        assert torch.equal(masked(**parts).bound(denoiser, batch(), draws()).nats, usual)


def test_the_bound_masks_each_count_equally_often_and_tells_the_network_the_time() -> None:
    seen: dict[str, Tensor] = {}

    class Spy(HashDenoiser):
        def forward(self, tokens: Tensor, *, t: Any = None, attention: Any = None) -> Tensor:
            seen.update(tokens=tokens, t=t)
            return super().forward(tokens, attention=attention)

    rows = 4 * LENGTH
    text = Batch(tokens=torch.full((rows, LENGTH), 4))
    for schedule in (Linear(), Cosine()):
        with torch.no_grad():
            masked(noise_schedule=schedule).bound(Spy(VOCAB.size), text, draws(rows))
        counts = (seen["tokens"] == VOCAB.mask_id).sum(-1)
        assert counts.bincount(minlength=LENGTH + 1).tolist() == [0] + [4] * LENGTH
        rate = 1 - schedule.alpha(seen["t"].double())
        torch.testing.assert_close(rate, counts / LENGTH, rtol=0, atol=1e-6, check_dtype=False)


def test_rows_without_scored_tokens_have_a_bound_of_zero() -> None:
    tokens = torch.full((2, LENGTH), 4)
    maskable = torch.tensor([[True] * LENGTH, [False] * LENGTH])
    text = Batch(tokens=tokens, maskable=maskable)
    with torch.no_grad():
        for objective in (masked(), causal()):
            bound = objective.bound(HashDenoiser(VOCAB.size), text, draws(2))
            assert bound.nats[0] > 0
            assert bound.nats[1] == 0
            assert bound.tokens.tolist() == [LENGTH, 0]


# --- autoregressive


def causal(vocab: Vocabulary = VOCAB) -> Any:
    return Autoregressive().build(evolve(objective_context(), vocab=vocab, length=LENGTH))


def test_the_text_is_shifted_right() -> None:
    text = torch.tensor([[1, 2, 3], [4, 5, 6]])
    assert shift_right(Batch(tokens=text), 9).tolist() == [[9, 1, 2], [9, 4, 5]]
    ids = torch.tensor([[7, 7, 8], [8, 9, 9]])  # no document is told the end of another
    apart = shift_right(Batch(tokens=text, document_ids=ids), 9)
    assert apart.tolist() == [[9, 1, 9], [9, 9, 5]]


@pytest.mark.parametrize(
    ("special", "expected"),
    [({"bos_id": 5, "eos_id": 6}, 5), ({"eos_id": 6}, 6), ({}, 10), ({"bos_id": 0}, 0)],
)
def test_what_stands_in_front(special: dict[str, int], expected: int) -> None:
    assert Vocabulary(size=11, mask_id=10, **special).start_id == expected


def test_every_scored_token_is_predicted_once_with_weight_one() -> None:
    text = batch()
    noised = causal().corrupt(text, draws())
    assert torch.equal(noised.inputs, shift_right(text, 0))
    assert torch.equal(noised.targets, text.tokens)
    assert torch.equal(noised.in_loss, text.scored())
    assert (noised.weights == 1).all()
    assert float(noised.denominator) == float(text.scored().sum())
    assert noised.attention.causal
    assert noised.t is None


def test_the_loss_over_its_denominator_is_the_exact_nll_per_token() -> None:
    denoiser, text = HashDenoiser(VOCAB.size), batch()
    noised = causal().corrupt(text, draws())
    with torch.no_grad():
        loss = causal().loss(denoiser, noised)
        bound = causal().bound(denoiser, text, draws())
    per_token = float(bound.nats.sum() / bound.tokens.sum())
    assert float(loss.total) / float(noised.denominator) == pytest.approx(per_token, rel=1e-5)
    assert per_token > math.log(2)


# --- the cross-entropy of each token


def log_p_of(logits: Tensor, tokens: Tensor) -> Tensor:
    """log p of the true tokens with the mask's logit at −∞, ``[B, L]`` float64."""
    logits = logits.double().index_fill(-1, torch.tensor([VOCAB.mask_id]), -torch.inf)
    return logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]


@pytest.mark.parametrize("options", [MaskedDiffusion(), MixedCausal()])
def test_nll_is_that_of_the_masked_tokens_given_the_visible_ones(options: Any) -> None:
    text, denoiser = batch(), HashDenoiser(VOCAB.size)
    objective = options.build(evolve(objective_context(), vocab=VOCAB, length=LENGTH))
    mask = (torch.arange(ROWS * LENGTH).view(ROWS, LENGTH) % 3 == 1) & text.scored()
    with torch.no_grad():
        found = objective.nll(denoiser, text, mask)
        xt = torch.where(mask, VOCAB.mask_id, text.tokens)
        logits = denoiser(xt, attention=text.attention())
    assert found.dtype == torch.float64
    expected = -log_p_of(denoiser.unembed(logits), text.tokens) * mask
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    carried = subs_log_probs(denoiser.unembed(logits), xt, VOCAB.mask_id)
    carried = carried.gather(-1, text.tokens[..., None])[..., 0].double()
    torch.testing.assert_close(found, -carried, rtol=1e-5, atol=1e-5)  # 0 at visible ones


@pytest.mark.parametrize(("schedule", "exponent"), [(Linear(), 1.0), (Cosine(), None)])
def test_nll_tells_the_network_the_time_of_each_row_s_mask_rate(
    schedule: Any, exponent: float | None
) -> None:
    told = []

    class Listens(HashDenoiser):
        def forward(self, tokens: Tensor, *, t: Tensor | None = None, **kwargs: Any) -> Tensor:
            told.append(t)
            return super().forward(tokens, t=t, **kwargs)

    text = batch()
    mask = torch.arange(LENGTH).expand(ROWS, -1) < 3
    masked(noise_schedule=schedule).nll(Listens(VOCAB.size), text, mask & text.scored())
    rate = (mask & text.scored()).sum(-1) / text.scored().sum(-1)
    torch.testing.assert_close(
        1 - schedule.alpha(told[0].double()), rate.double(), atol=1e-6, rtol=0
    )
    if exponent is not None:
        torch.testing.assert_close(told[0], rate)


def test_nll_of_next_token_prediction_only_picks_positions() -> None:
    text, denoiser = batch(), HashDenoiser(VOCAB.size)
    objective = Autoregressive().build(evolve(objective_context(), vocab=VOCAB, length=LENGTH))
    with torch.no_grad():
        every = objective.nll(denoiser, text, text.scored())
        some = text.scored() & (torch.arange(LENGTH) % 2 == 0)
        part = objective.nll(denoiser, text, some)
        bound = objective.bound(denoiser, text, draws())
    torch.testing.assert_close(part, every * some, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(bound.nats, every.sum(-1), rtol=1e-9, atol=0)
    assert (every[~text.scored()] == 0).all()
