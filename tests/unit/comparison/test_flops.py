from __future__ import annotations

from array import array

import numpy as np
import pytest

from mdmkit.comparison.flops import ForwardFlops, LossShare, forward_flops, loss_share
from mdmkit.metrics_log import Column, MetricColumns
from mdmkit.recipe import load_recipe
from mdmkit.values import Vocabulary

VOCAB = Vocabulary(size=300, mask_id=256)
NOTHING = MetricColumns(1, {})
SMALL = ["data.length=16", "denoiser.width=8", "denoiser.depth=2", "denoiser.heads=2"]


@pytest.mark.parametrize("objective", ["masked_diffusion", "autoregressive"])
def test_a_small_dit_by_hand(objective):
    choice = [f"objective.use={objective}"]
    if objective == "autoregressive":
        choice.append("sampler.use=autoregressive")
    found = forward_flops(load_recipe("quickstart_bell", [*SMALL, *choice]), VOCAB)
    length, width, depth = 16, 8, 2
    projections = 3 * width + width + 4 * width + 4 * width  # columns of qkv, out and the MLP
    a_block = 2 * length * width * projections + 2 * 2 * length * length * width
    assert found.body == depth * a_block
    assert found.head == 2 * width * 300


def test_a_network_that_is_conditioned_on_time_counts_more():
    conditioned = ["denoiser.adaln=true", "denoiser.time_conditioning=true"]
    with_time = forward_flops(load_recipe("quickstart_bell", [*SMALL, *conditioned]), VOCAB)
    assert with_time.body > forward_flops(load_recipe("quickstart_bell", SMALL), VOCAB).body


def test_an_objective_that_shows_every_position_twice():
    any_order = ["objective.use=any_order", "sampler.use=any_order"]
    recipe = load_recipe("quickstart_bell", [*SMALL, *any_order])
    found = forward_flops(recipe, VOCAB)
    twice = forward_flops(load_recipe("quickstart_bell", [*SMALL, "data.length=32"]), VOCAB)
    assert (found.body, found.head) == (twice.body, twice.head)
    share = loss_share(recipe, NOTHING)
    assert (share.shares.tolist(), "upper bound" in share.source) == ([1.0], True)


def test_a_step_by_hand():
    forward = ForwardFlops(body=100.0, head=7.0)
    assert forward.step(rows=4, length=16, share=0.25) == 3 * 4 * (100 + 4 * 7)


def test_the_share_is_the_logged_one_where_there_is_one():
    recipe = load_recipe("quickstart_bell")
    logged = Column(array("q", [10, 30, 30]), array("d", [0.5, 0.9, 0.2]))
    found = loss_share(recipe, MetricColumns(30, {"train/masked_share": logged}))
    assert found.source == "as logged by training"
    assert (found.steps.tolist(), found.shares.tolist()) == ([10, 30], [0.5, 0.2])


def test_costs_add_up_over_changing_shares():
    share = LossShare(steps=np.array([10.0, 30.0]), shares=np.array([0.5, 0.25]), source="")
    found = share.cumulative(lambda part: 4 * part, np.array([0.0, 5.0, 10.0, 20.0, 40.0]))
    np.testing.assert_allclose(found, [0, 10, 20, 30, 50])


@pytest.mark.parametrize(
    ("overrides", "share", "words"),
    [
        ([], 0.5, "quadrature"),  # the bell is symmetric about 1/2
        (["time_sampler.centre=0.3", "time_sampler.width=0.05"], 0.3, "quadrature"),
        (["objective.use=autoregressive", "sampler.use=autoregressive"], 1.0, "next-token"),
    ],
)
def test_the_share_that_a_recipe_implies(overrides, share, words):
    found = loss_share(load_recipe("quickstart_bell", overrides), NOTHING)
    assert found.shares.tolist() == [pytest.approx(share, abs=1e-6)]
    assert words in found.source
