from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mdmkit.costs import count_parameters, expected_shares, flops_per_token, scored_share
from mdmkit.costs.meta import build_on_meta, on_meta
from mdmkit.errors import RecipeError
from mdmkit.recipe import load_recipe
from mdmkit.values import Attention, Vocabulary

LENGTH, WIDTH, DEPTH, V = 64, 32, 3, 300
SMALL = [
    f"data.length={LENGTH}", f"denoiser.width={WIDTH}", f"denoiser.depth={DEPTH}",
    "denoiser.heads=2",
]  # fmt: skip
TRANSFORMER = "denoiser={use='transformer', width=32, depth=3, heads=2}"
BLOCK = 12 * WIDTH * WIDTH  # matrix parameters: 3 + 1 for attention, 4 + 4 for the MLP


def small(*more: str) -> nn.Module:
    recipe = load_recipe("quickstart_bell", [*SMALL, *more])
    return recipe.denoiser.build(Vocabulary(size=V, mask_id=V - 1))


def counted(network: nn.Module, share: float = 1.0, **more: float):
    return flops_per_token(network, length=LENGTH, vocab_size=V, scored_share=share, **more)


@pytest.mark.parametrize("tied", ["true", "false"])
def test_parameters_by_hand(tied):
    network = small(f"denoiser.tied={tied}")
    found = count_parameters(network)
    norms_and_biases = 2 * WIDTH + 4 * WIDTH + WIDTH
    assert found.blocks == DEPTH * (BLOCK + norms_and_biases)
    assert found.embedding == V * WIDTH
    assert found.head == V + (0 if tied == "true" else V * WIDTH)
    assert found.other == WIDTH  # the last norm
    assert found.tied == (tied == "true")
    assert found.total == sum(parameter.numel() for parameter in network.parameters())


def test_mdlm_has_its_number_of_parameters():
    dit = ["width=768", "depth=12", "heads=12", "adaln=true", "tied=false"]
    recipe = load_recipe("quickstart_bell", [f"denoiser.{option}" for option in dit])
    found = count_parameters(build_on_meta(recipe, 50258))
    assert found.total == found.trained == 169_627_218


def test_parameters_that_are_not_trained_are_told_apart():
    network = small()
    network.vocab_embed.embedding.requires_grad_(False)
    found = count_parameters(network)
    assert found.embedding == V * WIDTH
    assert found.total - found.trained == V * WIDTH


def test_closed_forms():
    found = counted(small(), 0.25)
    assert found.blocks == 2 * DEPTH * BLOCK
    assert found.attention == 4 * DEPTH * LENGTH * WIDTH
    assert found.head == 0.25 * 2 * WIDTH * V
    assert found.total == found.blocks + found.attention + found.head
    assert found.training == 3 * found.total


def test_a_causal_row_sees_half_of_the_others():
    full, causal, half = (counted(small(), causal_share=share).attention for share in (0, 1, 0.5))
    pairs = LENGTH * (LENGTH + 1) / 2
    assert causal == pytest.approx(full * pairs / LENGTH**2)
    assert half == pytest.approx((full + causal) / 2)


def test_two_inputs_a_position():
    once, twice = counted(small(), 0.25), counted(small(), 0.25, width=2, causal_share=1.0)
    assert twice.blocks == 2 * once.blocks
    pairs = 2 * LENGTH * (2 * LENGTH + 1) / 2
    assert twice.attention == pytest.approx(once.attention * pairs / LENGTH**2)
    assert twice.head == once.head
    choice = ["objective.use=any_order", "objective.target_share=0.5", "sampler.use=any_order"]
    shares = expected_shares(load_recipe("quickstart_bell", [*SMALL, *choice]))
    assert (shares.scored, shares.causal, shares.width) == (0.5, 1.0, 2)


@pytest.mark.parametrize("more", ["denoiser.adaln=true", "denoiser.adaln=false", TRANSFORMER])
def test_a_real_step_costs_that_much(more):
    """Forward and backward on the CPU, where short attention is plain matrix products."""
    network, rows = small(more), 8
    tokens = torch.zeros(rows, LENGTH, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        h = network(tokens, t=torch.full((rows,), 0.5), attention=Attention())
        network.unembed(h[:, ::2]).sum().backward()
    expected = counted(network, 0.5).training * rows * LENGTH
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.01)


def test_ids_that_only_fill_up_are_not_counted():
    network = small("denoiser.tied=false")
    network.output_layer.linear = nn.Linear(WIDTH, 384)
    assert counted(network).head == 2 * WIDTH * V


def test_a_copy_on_the_meta_device_shares_what_was_shared_and_nothing_else():
    network = small()
    copy = on_meta(network)
    assert {p.device.type for p in copy.parameters()} == {"meta"}
    assert copy.output_layer.linear.weight is copy.vocab_embed.embedding
    assert {p.device.type for p in network.parameters()} == {"cpu"}


def test_a_network_that_looks_at_values_is_refused_in_words():
    class Looking(nn.Module):
        blocks = nn.ModuleList()

        def forward(self, tokens, **_):
            return tokens.sum().item()

    with pytest.raises(RecipeError, match=r"\[denoiser\]: cannot be called .* looks at no values"):
        counted(Looking())


@pytest.mark.parametrize(
    ("overrides", "scored", "causal"),
    [
        ([], 0.5, 0.0),  # the bell is symmetric about 1/2
        (["time_sampler.centre=0.3", "time_sampler.width=0.05"], 0.3, 0.0),
        (["time_sampler.use=uniform", "noise_schedule.use=cosine"], 2 / torch.pi, 0.0),
        (["objective.use=autoregressive", "sampler.use=autoregressive"], 1.0, 1.0),
        (["objective.use=mixed_causal", "objective.share=0.6", "objective.final_share=0.6"],
         0.6 + 0.4 * 0.5, 0.6),
        (["objective.use=mixed_causal"], 0.25 + 0.75 * 0.5, 0.25),  # 1/2 to 0 over the run
    ],
)  # fmt: skip
def test_the_share_that_a_recipe_implies(overrides, scored, causal):
    recipe = load_recipe("quickstart_bell", overrides)
    found = expected_shares(recipe)
    assert found.scored == pytest.approx(scored, abs=1e-3)
    assert found.causal == pytest.approx(causal, abs=1e-3)
    assert scored_share(recipe) == found.scored


def test_an_adaptive_sampler_is_taken_at_its_start():
    recipe = load_recipe("quickstart_bell", ["time_sampler.use=loss_adaptive"])
    assert 0 < scored_share(recipe) < 1
