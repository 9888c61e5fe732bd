"""The gradient of a network that can be differentiated by hand: logits that know t's half alone.

Its parameters b_1 and b_2 [V], all zero, are the logits at every position for t < ½ and t >= ½. A
masked token x costs log(V − 1) with the gradient p − e_x, so with token frequencies f the true
gradient of a training is (m_1·v, m_2·v), with v = p − f and m the masked tokens' share of weight in
each half, whatever else is random.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor, nn

from mdmkit.builtin.denoisers import Dit, Transformer
from mdmkit.builtin.evaluators import Gradient
from mdmkit.builtin.evaluators.analysis.gradient_moments import Moments, between, cosine
from mdmkit.builtin.evaluators.analysis.jackknife import jackknifed
from mdmkit.builtin.evaluators.analysis.layer_groups import layer_groups
from mdmkit.builtin.mask_patterns import Complementary
from mdmkit.builtin.objectives import AnyOrder, MaskedDiffusion, MixedCausal
from mdmkit.builtin.time_samplers import Bell, Uniform
from mdmkit.builtin.weightings import Flat
from mdmkit.errors import DataError, MdmkitError, RecipeError
from mdmkit.evaluation.driver import Result, run_evaluation
from mdmkit.network import LiveGradient, Root
from mdmkit.testing import evaluation_context
from mdmkit.testing.facts import VOCAB
from mdmkit.values import Batch, HeatMap, Picture

LENGTH = 16
SHARES = torch.tensor([0.9, 0.1], dtype=torch.float64)  # of tokens 0 and 1


class Halves(nn.Module):
    """Logits by the half that t is in."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(2, VOCAB.size))
        self.blocks = nn.ModuleList()

    def forward(self, tokens: Tensor, *, t: Tensor, **_: Any) -> Tensor:
        return self.logits[(t >= 0.5).long()][:, None].expand(-1, tokens.shape[1], -1)

    def unembed(self, h: Tensor) -> Tensor:
        return h


@attrs.frozen
class Coins:
    """Independent tokens."""

    tokens: Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(self, rows: Tensor) -> Batch:
        return Batch(tokens=self.tokens[rows], rows=rows)

    @property
    def provenance(self) -> Mapping[str, Any]:
        return {"source": "coins"}


def context(denoiser: nn.Module, **training: Any) -> Any:
    draw = torch.Generator().manual_seed(0)
    tokens = (torch.rand(4000, LENGTH, generator=draw) < SHARES[1]).long()
    made = evaluation_context()
    assert made.training is not None
    return attrs.evolve(
        made,
        gradient=LiveGradient(Root(denoiser), torch.device("cpu"), "fp32"),
        blocks=lambda _: Coins(tokens),
        training=attrs.evolve(made.training, length=LENGTH, **training),
        batch_size=64,
        length=LENGTH,
    )


@pytest.fixture(scope="module")
def result() -> Result:
    options = Gradient(batches=24, rows=24, reference=2, bins=4, width=0.2)
    own = {"time_sampler": Bell(centre=0.25), "loss_weighting": Flat()}
    return run_evaluation(options, context(Halves(), **own), label="gradient")


def masses(method: str, bins: int) -> Tensor:
    """The share of the weight of masked tokens whose t is in each bin, by the midpoint rule."""
    t = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    at = {
        "uniform, 1/t": torch.ones_like(t),
        "uniform, flat": t,
        "bell, flat": t * Bell(width=0.2).density(t),
        "the run's own": t * Bell(centre=0.25).density(t),
    }
    mass = at[method].view(bins, -1).sum(-1)
    return mass / mass.sum()


METHODS = ("uniform, 1/t", "uniform, flat", "bell, flat", "the run's own")


def lines(result: Result, name: str) -> dict[str, Any]:
    picture = result.pictures[name]
    assert isinstance(picture, Picture)
    return {line.name: line for line in picture.lines}


@pytest.mark.parametrize("method", METHODS)
def test_the_shares_of_loss_and_gradient_by_t(result: Result, method: str) -> None:
    mass = masses(method, 4)
    half = mass.view(2, 2).sum(-1)
    aligned = half.repeat_interleave(2)  # a bin's gradient is parallel to that of its half alone
    expected = {"loss_by_t": mass, "gradient_by_t": mass * aligned / half.square().sum()}
    for name, shares in expected.items():
        line = lines(result, name)[method]
        assert line.x == (0.125, 0.375, 0.625, 0.875)
        assert sum(line.y) == pytest.approx(1)
        for found, error, share in zip(line.y, line.stderr, shares.tolist(), strict=True):
            assert error < 0.06
            assert abs(found - share) < 4 * error + 1e-3


@pytest.mark.parametrize("method", METHODS)
def test_the_cosine_to_the_nelbo(result: Result, method: str) -> None:
    half, even = masses(method, 2), torch.tensor([0.5, 0.5], dtype=torch.float64)
    expected = float(half @ even / (half.norm() * even.norm()))
    table = result.pictures["cosine_to_nelbo"]
    assert isinstance(table, HeatMap)
    column = table.columns.index(method)
    value, error = (part[table.rows.index("all")][column] for part in (table.values, table.stderr))
    assert error < 0.05
    assert abs(value - expected) < 4 * error


def test_signal_to_noise_of_the_flat_loss(result: Result) -> None:
    """With t given, the gradient of a bin is a mean over masked tokens: of one, |v|² over Var x."""
    v = torch.zeros(VOCAB.size - 1, dtype=torch.float64) + 1 / (VOCAB.size - 1)
    v[:2] -= SHARES
    variance = 1 - SHARES.square().sum()  # of e_x, summed over its entries
    table = result.pictures["signal_to_noise_by_t"]
    assert isinstance(table, HeatMap)
    last = table.rows.index("all")
    value, error = table.values[last][3], table.stderr[last][3]
    assert value is not None
    assert error is not None
    # t in [¾, 1): 14 of 16 tokens are masked on average; how many varies little
    assert abs(value - float(v.square().sum() / variance) * 14) < 3 * error
    assert error < 0.5 * value


def test_a_range_of_t_without_sequences_is_empty() -> None:
    options = Gradient(batches=3, rows=2, reference=1, bins=16)
    table = run_evaluation(options, context(Halves())).pictures["signal_to_noise_by_t"]
    assert isinstance(table, HeatMap)
    assert table.stderr is not None
    assert 10 <= [*table.values[-1]].count(None) <= 15
    assert [v is None for v in table.values[-1]] == [e is None for e in table.stderr[-1]]


def test_a_gradient_that_is_lost_in_noise_has_no_cosine() -> None:
    denoiser = Halves()
    f = torch.full((VOCAB.size,), 1e-4)
    f[:2] = SHARES.float()
    denoiser.logits.data[:] = f.log()  # the gradient is about zero
    found = run_evaluation(
        Gradient(batches=4, rows=4, reference=1, bins=2), context(denoiser), label="gradient"
    )
    lost = found.provenance["gradient_lost_in_noise"]
    assert {"uniform, 1/t", "uniform, flat"} <= set(lost)
    shares = lines(found, "gradient_by_t") if "gradient_by_t" in found.pictures else {}
    assert not set(shares) & set(lost)
    assert "uniform, flat" in lines(found, "noise_by_t")
    lost = found.provenance["cosine_lost_in_noise"]
    assert {"uniform, 1/t", "uniform, flat"} <= set(lost)
    assert not {name for name in found.measurements if name.startswith("cosine_uniform")}
    assert {name for name in found.measurements if name.startswith("signal_to_noise_")}


def test_a_run_that_is_one_of_them_is_measured_once() -> None:
    flat = {"time_sampler": Uniform(), "loss_weighting": Flat()}
    options = Gradient(batches=3, rows=4, reference=1, bins=2)
    made = options.build(context(Halves(), **flat))
    assert [method.name for method in made.methods] == [
        "nelbo", "uniform_1t", "uniform_flat", "bell_flat",
    ]  # fmt: skip
    with pytest.raises(RecipeError, match="without torchrun"):
        options.build(attrs.evolve(context(Halves()), gradient=None))


def test_the_runs_own_has_its_strata_or_is_left_out() -> None:
    options, plain = Gradient(batches=3, rows=4, reference=1, bins=2), context(Halves())
    for objective in (
        MaskedDiffusion(stratification="offset"),
        MixedCausal(stratification="offset", share=0.25, final_share=0.25),
    ):
        live = objective.build(plain.training)
        made: Any = options.build(attrs.evolve(plain, objective=live))
        assert made.methods[-1].name == "own"
        assert made.methods[-1].objective.options == MaskedDiffusion(stratification="offset")
    assert made.provenance["causal_rows_left_out"] == {"0": 0.25}
    other = context(Halves(), loss_weighting=Flat(), time_sampler=Bell(centre=0.25))
    made = options.build(attrs.evolve(other, objective=AnyOrder().build(other.training)))
    assert "own" not in [method.name for method in made.methods]
    assert made.provenance["own_masks_known"] is False


def test_what_does_not_fit_into_memory_is_refused() -> None:
    options = Gradient(batches=10**10, bins=8)
    with pytest.raises(DataError, match=r"take \d.* GB of memory, .* \(options batches and bins\)"):
        options.build(context(Halves()))


def test_a_network_of_no_numbers_is_refused() -> None:
    denoiser = Halves()
    denoiser.logits.data[:] = torch.nan
    made = Gradient(batches=3, rows=4, reference=1, bins=2).build(context(denoiser))
    with pytest.raises(MdmkitError, match=r"gradient: the network's .* are not finite"):
        made.update(0)


def test_twins_share_their_text() -> None:
    options = Gradient(batches=3, rows=5, reference=1, bins=2)
    made = options.build(context(Halves(), mask_pattern=Complementary()))
    own = made.methods[-1]
    assert own.name == "own"
    noised = made.batches._noised(own, 0, rows=5)
    assert len(noised.targets) == 6
    assert torch.equal(noised.targets[::2], noised.targets[1::2])
    assert not (noised.in_loss[::2] & noised.in_loss[1::2]).any()
    drawn = made.batches.draw(
        own, 0, rows=5, gradients=[group[0] for group in made.batches.empty(1, 2)]
    )
    assert float(drawn.rows.sum()) == 6


def test_over_training_there_is_a_line_a_training(result: Result) -> None:
    drawn = Gradient.over_training({100: result, 200: result})
    ratios = {line.name: line for line in drawn["signal_to_noise"].lines}
    assert set(ratios) == {"uniform, 1t", "uniform, flat", "bell, flat", "own"}
    assert ratios["own"].x == (100, 200)
    assert ratios["own"].y[0] == result.measurements["signal_to_noise_own"].value


# --- moments -------------------------------------------------------------------------------


def test_moments_are_means_over_different_batches() -> None:
    draw = torch.Generator().manual_seed(1)
    gradients = torch.randn(5, 3, 7, generator=draw)
    moments = Moments.of(gradients, torch.ones(5, 3).double())
    kept = torch.tensor([0, 1, 3, 4])
    pairs = [(r, s) for r in kept for s in kept if r != s]
    expected = sum(gradients[r] @ gradients[s].T for r, s in pairs) / len(pairs)
    assert moments.inner(kept).numpy() == pytest.approx(expected.numpy(), rel=1e-5)
    noise = gradients[kept].var(0).sum(-1)  # unbiased
    assert moments.noise_by_bin(kept).numpy() == pytest.approx(noise.numpy(), rel=1e-5)
    whole = gradients.sum(1)[kept]
    ratio = moments.signal(kept) / (3 * whole.var(0).sum())
    assert float(moments.ratio(kept)) == pytest.approx(float(ratio), rel=1e-5)
    assert float(between(moments.whole_batches, kept)) == pytest.approx(
        float(moments.signal(kept)), rel=1e-5
    )


def test_noise_shortens_no_cosine() -> None:
    draw = torch.Generator().manual_seed(2)
    noise = torch.randn(2, 120, 50, generator=draw).double()
    first, second = torch.zeros(50).double(), torch.zeros(50).double()
    first[0], second[:2] = 1.0, 0.5**0.5
    a, b = first + noise[0], second + noise[1]  # noise is seven times as long
    every = torch.arange(120)
    found, error = jackknifed(
        lambda kept, others: cosine(a @ a.T, b @ b.T, a @ b.T, kept, others), 120, 120
    )
    assert abs(float(found) - 0.5**0.5) < 3 * float(error)
    assert 0.01 < float(error) < 0.2
    naive = float((a.mean(0) @ b.mean(0)) / (a.mean(0).norm() * b.mean(0).norm()))
    assert float(cosine(a @ a.T, b @ b.T, a @ b.T, every, every)) > naive + 0.05


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = torch.tensor([1.0, 2.0, 4.0, 9.0], dtype=torch.float64)
    value, error = jackknifed(lambda kept: values[kept].mean(), 4)
    assert float(value) == 4
    assert float(error) == pytest.approx(float(values.std()) / 2)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (Dit(width=8, depth=2, heads=2), ["embedding", "block 1", "block 2", "head"]),
        (
            Dit(width=8, depth=7, heads=2, adaln=False, tied=True),
            ["blocks 1 to 2", "blocks 3 to 4", "blocks 5 to 7", "embedding and head"],
        ),
        (
            Transformer(width=8, depth=1, heads=2, tied=True),
            ["input", "block 1", "embedding and head"],
        ),
    ],
)
def test_the_parts_of_a_network(options: Any, names: list[str]) -> None:
    denoiser = options.build(VOCAB)
    for parameter in denoiser.parameters():
        torch.nn.init.normal_(parameter)
    made = context(denoiser)
    groups = layer_groups(made, made.gradient)
    assert [*groups.names] == names
    every = [name for members in groups.parameters.values() for name in members]
    assert sorted(every) == sorted(name for name, _ in denoiser.named_parameters())
    assert sum(groups.sizes) == sum(p.numel() for p in denoiser.parameters())
