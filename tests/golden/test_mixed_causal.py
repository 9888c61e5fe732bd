"""Masked and causal rows in one loss, against the two objectives that it is made of."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from attrs import evolve
from torch import Tensor

from mdmkit import load_recipe
from mdmkit.builtin.annealing import Annealing
from mdmkit.builtin.objectives import Autoregressive, MaskedDiffusion, MixedCausal
from mdmkit.builtin.objectives.mixed_causal import causal_rows
from mdmkit.builtin.time_samplers import Bell
from mdmkit.builtin.weightings import Elbo, Flat
from mdmkit.draws import StepDraws
from mdmkit.errors import RecipeError
from mdmkit.plugins import load_catalogue
from mdmkit.testing import HashDenoiser, objective_context, random_batch, run_facts
from mdmkit.values import Batch, MixedNoised, Vocabulary

VOCAB = Vocabulary(size=11, mask_id=10, bos_id=0)
ROWS, LENGTH = 12, 6
PARTS: dict[str, Any] = {"time_sampler": Bell(), "loss_weighting": Flat()}


def context(**parts: Any) -> Any:
    facts = run_facts(vocab=VOCAB, length=LENGTH)
    return evolve(objective_context(facts), **{**PARTS, **parts})


def draws(rows: Tensor | None = None, *, step: int = 0, total: int = ROWS) -> StepDraws:
    rows = torch.arange(total) if rows is None else rows
    return StepDraws(seed=3, step=step, rows=rows, global_rows=total)


def batch(rows: Tensor | None = None) -> Batch:
    text = random_batch(ROWS, LENGTH, VOCAB)
    if rows is None:
        return text
    assert text.real is not None
    return Batch(tokens=text.tokens[rows], real=text.real[rows])


def constant(share: float, **options: Any) -> MixedCausal:
    return MixedCausal(share=share, final_share=share, **options)


def gradient(objective: Any, rows: list[Tensor], step: int = 0) -> tuple[float, Tensor]:
    """Loss and gradient of a step, as the loop makes them of micro-batches."""
    denoiser = HashDenoiser(VOCAB.size)
    noised = [objective.corrupt(batch(part), draws(part, step=step)) for part in rows]
    denominator, total = float(sum(part.denominator for part in noised)), 0.0
    for part in noised:
        loss = objective.loss(denoiser, part).total / denominator
        loss.backward()
        total += loss.item()
    return total, torch.cat([p.grad.flatten() for p in denoiser.parameters()])  # type: ignore[union-attr]


WHOLE = [torch.arange(ROWS)]


# --- the two ends


@pytest.mark.parametrize("options", [constant(0.0), MixedCausal(share=0.5, final_share=0.0)])
def test_without_a_share_it_is_masked_diffusion_bit_by_bit(options: Any) -> None:
    mixed, masked = options.build(context()), MaskedDiffusion().build(context())
    step = 100  # of 100: the change is complete
    ours, theirs = (o.corrupt(batch(), draws(step=step)) for o in (mixed, masked))
    assert type(ours) is type(theirs)
    for name in ("inputs", "targets", "in_loss", "weights", "t", "denominator"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    one, two = gradient(mixed, WHOLE, step), gradient(masked, WHOLE, step)
    assert one[0] == two[0]
    assert torch.equal(one[1], two[1])


@pytest.mark.parametrize("weight", [1.0, 0.3])
@pytest.mark.parametrize("normalizer", ["masked", "tokens", "weights"])
def test_with_all_rows_it_is_the_autoregressive_gradient(weight: float, normalizer: Any) -> None:
    parts = context(loss_weighting=Flat(normalizer=normalizer))
    mixed = constant(1.0, causal_weight=weight).build(parts)
    one, two = gradient(mixed, WHOLE), gradient(Autoregressive().build(parts), WHOLE)
    assert one[0] == pytest.approx(two[0], rel=1e-6)
    torch.testing.assert_close(one[1], two[1], rtol=1e-5, atol=1e-8)


# --- in between


@pytest.mark.parametrize("normalizer", ["masked", "tokens", "weights", "sequence"])
def test_the_loss_is_made_of_both_by_the_formula(normalizer: Any) -> None:
    """Each part is computed here by its own objective on its own rows."""
    weight, share = 0.7, 0.4
    parts = context(loss_weighting=Elbo(normalizer=normalizer))
    mixed = constant(share, causal_weight=weight).build(parts)
    found = gradient(mixed, WHOLE)[0]

    causal = causal_rows(share, draws(), 1)
    assert 0 < causal.sum() < ROWS
    denoiser = HashDenoiser(VOCAB.size)
    ours, theirs = (~causal).nonzero()[:, 0], causal.nonzero()[:, 0]
    masked, plain = MaskedDiffusion().build(parts), Autoregressive().build(parts)
    noised = masked.corrupt(batch(ours), draws(ours))
    numerator = masked.loss(denoiser, noised).total.item()
    denominator = float(noised.denominator)
    shifted = plain.corrupt(batch(theirs), draws(theirs))
    loss = plain.loss(denoiser, shifted)
    if normalizer == "sequence":
        numerator += weight * (loss.nll / loss.tokens).sum().item()
        denominator += weight * len(theirs)
    else:
        numerator += weight * loss.total.item()
        denominator += weight * float(shifted.denominator)
    assert found == pytest.approx(numerator / denominator, rel=1e-5)


@pytest.mark.parametrize("count", [2, 4, 6, 12])
def test_the_layout_changes_nothing(count: int) -> None:
    share = 0.25
    mixed = constant(share).build(context())
    layout = [torch.arange(index, ROWS, count) for index in range(count)]
    kinds = [causal_rows(share, draws(part), 1).tolist() for part in layout]
    assert any(not any(kind) for kind in kinds) or count == 2  # some have no causal row
    assert any(all(kind) for kind in kinds) or count < 12  # some have no masked one
    one, many = gradient(mixed, WHOLE), gradient(mixed, layout)
    assert many[0] == pytest.approx(one[0], rel=1e-5)
    torch.testing.assert_close(many[1], one[1], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("share", "calls"), [(0.0, [False]), (1.0, [True]), (0.3, [True, False])])
def test_the_calls_of_a_step_do_not_depend_on_the_micro_batch(share: float, calls: Any) -> None:
    seen: list[bool] = []

    class Spy(HashDenoiser):
        def forward(self, tokens: Tensor, *, t: Any = None, attention: Any = None) -> Tensor:
            assert len(tokens) >= 1
            seen.append(attention.causal)
            if attention.causal:
                assert (t == 0).all()
            return super().forward(tokens, t=t, attention=attention)

    mixed = constant(share).build(context())
    for row in range(ROWS):
        part = torch.tensor([row])
        seen.clear()
        loss = mixed.loss(Spy(VOCAB.size), mixed.corrupt(batch(part), draws(part)))
        assert seen == calls
        loss.total.backward()  # the call that costs nothing can be differentiated, too


def test_causal_rows_have_no_time() -> None:
    noised = constant(0.5).build(context()).corrupt(batch(), draws())
    assert noised.causal.any()
    assert (noised.t[noised.causal] == 0).all()
    assert (noised.t[~noised.causal] > 0).all()


def test_causal_rows_teach_the_time_sampler_nothing() -> None:
    mixed = constant(0.5).build(context())
    noised = mixed.corrupt(batch(), draws())
    loss = mixed.loss(HashDenoiser(VOCAB.size), noised)
    assert noised.causal.any()
    assert (loss.nll[noised.causal] == 0).all()
    assert (loss.tokens[noised.causal] == 0).all()
    masked = ~noised.causal
    assert torch.equal(loss.tokens[masked], noised.in_loss.sum(-1)[masked])
    usual = MaskedDiffusion().build(context())
    theirs = usual.loss(HashDenoiser(VOCAB.size), usual.corrupt(batch(), draws()))
    torch.testing.assert_close(loss.nll[masked], theirs.nll[masked])


def test_all_of_it_goes_to_the_device() -> None:
    noised = constant(0.5).build(context()).corrupt(batch(), draws())
    assert isinstance(noised, MixedNoised)
    moved = noised.to(torch.device("meta"))
    assert isinstance(moved, MixedNoised)
    padding = moved.attention.padding
    assert padding is not None
    assert {moved.causal.device.type, moved.inputs.device.type, padding.device.type} == {"meta"}
    assert moved.both


# --- which rows


@pytest.mark.parametrize("share", [0.1, 0.37, 0.5, 0.9])
def test_each_row_is_causal_as_often_as_the_share_says_and_each_step_has_its_share(
    share: float,
) -> None:
    total, steps = 32, 4000
    chosen = torch.stack([causal_rows(share, draws(step=s, total=total), 1) for s in range(steps)])
    error = math.sqrt(share * (1 - share) / steps)
    assert (chosen.double().mean(0) - share).abs().max() < 4.5 * error
    assert (chosen.sum(-1) - share * total).abs().max() < 2.5
    assert len({tuple(row.tolist()) for row in chosen[:50]}) > 5  # not the same rows every time


def test_the_times_of_the_masked_rows_stay_spread() -> None:
    """Half the rows gone, no gap of more than 3 strata of 64; by chance there would be."""
    total = 64
    for step in range(50):
        masked = (~causal_rows(0.5, draws(step=step, total=total), 1)).nonzero()[:, 0]
        assert masked.diff().max() <= 3
        assert masked[0] <= 2
        assert masked[-1] >= total - 3


def test_twins_are_of_one_kind() -> None:
    causal = causal_rows(0.5, draws(), 2)
    assert torch.equal(causal[::2], causal[1::2])
    assert causal.any()
    assert not causal.all()


def test_the_expected_loss_is_the_mean_of_both(case: Any) -> None:
    """One row in four pays its exact NLL, the others an unbiased NELBO."""
    rows, steps, share = 2048, 40, 0.25
    mixed = constant(share).build(case.context(**_standard()))
    losses = []
    with torch.no_grad():
        for step in range(steps):
            given = draws(step=step, total=rows)
            noised = mixed.corrupt(case.batch(rows), given)
            losses.append(float(mixed.loss(case.denoiser, noised).total / noised.denominator))
        exact = Autoregressive().build(case.context(**_standard()))
        nll = float(exact.bound(case.denoiser, case.batch(1), draws(total=1)).nats) / case.length
    found = torch.tensor(losses, dtype=torch.float64)
    expected = share * nll + (1 - share) * case.nelbo()
    error = float(found.std()) / steps**0.5
    assert error < 0.01 * expected
    assert abs(float(found.mean()) - expected) < 4 * error
    assert abs(nll - case.nelbo()) > 20 * error


def _standard() -> dict[str, Any]:
    usual = objective_context()
    names = ("noise_schedule", "time_sampler", "mask_pattern", "loss_weighting")
    return {name: getattr(usual, name) for name in names}


# --- in a recipe


def test_a_recipe_and_what_it_objects_to() -> None:
    catalogue = load_catalogue({"MDMKIT_PLUGINS": "none"})
    chosen = ["objective.use=mixed_causal", "objective.anneal.end=0.5"]
    recipe = load_recipe("quickstart_bell", chosen, catalogue=catalogue)
    assert recipe.objective == MixedCausal(anneal=Annealing(end=0.5))
    by_rate = [*chosen, "objective.anneal.by=learning_rate"]
    with pytest.raises(RecipeError, match=r"anneal: .*constant"):
        load_recipe("quickstart_bell", by_rate, catalogue=catalogue)
    load_recipe("quickstart_bell", [*by_rate, "objective.final_share=0.5"], catalogue=catalogue)
