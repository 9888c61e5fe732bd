from __future__ import annotations

from typing import Any

import pytest
import torch
from attrs import evolve
from torch import Tensor

from mdmkit import RecipeError, load_recipe
from mdmkit.builtin.annealing import Annealing
from mdmkit.builtin.time_samplers import (
    Annealed,
    Bell,
    Beta,
    Clipped,
    InformationRate,
    LossAdaptive,
    Mixture,
    Uniform,
    Window,
)
from mdmkit.recipe import dump_recipe, recipe_from_dict
from mdmkit.testing import run_facts

FACTS = evolve(run_facts(), steps=101)
T = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
U = torch.linspace(0.0005, 0.9995, 1000, dtype=torch.float64)


def test_a_mixture_of_beta_densities_has_a_known_distribution() -> None:
    """0.75·Beta(2, 1) + 0.25·Beta(1, 2): F(t) = 0.75·t² + 0.25·(2t − t²)."""
    mixed = Mixture(first=Beta(a=2.0, b=1.0), second=Beta(a=1.0, b=2.0), share=0.25)
    density = mixed.build(FACTS).at(0)
    t = density.icdf(U)
    torch.testing.assert_close(0.5 * t**2 + 0.5 * t, U, rtol=0, atol=5e-5)
    torch.testing.assert_close(density.density(T), T + 0.5)


def test_windows_that_do_not_touch() -> None:
    mixed = Mixture(first=Window(low=0.1, high=0.2), second=Window(low=0.8, high=0.9), share=0.75)
    found = mixed.build(FACTS).at(0).icdf(torch.tensor([0.125, 0.625], dtype=torch.float64))
    assert found.tolist() == pytest.approx([0.15, 0.85], abs=1e-5)


@pytest.mark.parametrize(("share", "alone"), [(0.0, Bell()), (1.0, Beta())])
def test_a_share_of_all_is_the_part_itself(share: float, alone: Any) -> None:
    assert Mixture(first=Bell(), second=Beta(), share=share).build(FACTS).at(3) == alone


def test_one_density_turns_into_the_other() -> None:
    anneal = Annealing(begin=0.2, end=0.6)
    live = Annealed(start=Bell(), end=Uniform(), anneal=anneal).build(FACTS)
    bell, one = Bell().density(T), torch.ones_like(T)
    progress = anneal.progress(FACTS)
    for step, share in [(0, 0.0), (20, 0.0), (41, 0.51), (50, 0.73), (70, 1.0), (500, 1.0)]:
        assert progress(step) == pytest.approx(share, abs=0.03)
        a = progress(step)
        torch.testing.assert_close(live.at(step).density(T), (1 - a) * bell + a * one)


def test_a_density_goes_back_where_the_step_does() -> None:
    live = Annealed(start=Bell(), end=Uniform()).build(FACTS)
    first = live.at(10).icdf(U)
    assert not torch.equal(live.at(90).icdf(U), first)
    assert torch.equal(live.at(10).icdf(U), first)


def test_parts_without_memory_make_a_blend_without() -> None:
    live = Annealed(start=Bell(), end=Mixture(first=Beta(), second=Window())).build(FACTS)
    for member in ("observe", "validated", "state_dict", "load_state_dict"):
        assert not hasattr(live, member)  # so that the loop gathers nothing for it


NESTED = Annealed(
    start=InformationRate(warmup=0, bins=4),
    end=Mixture(first=LossAdaptive(warmup=0, bins=8), second=Clipped()),
)


def told(live: Any, times: int) -> Any:
    t = (torch.arange(400, dtype=torch.float64) + 0.5) / 400
    for _ in range(times):
        live.observe(t, (1 + t) * 16 * t, 16 * t)
    live.validated(t, torch.where(t < 0.5, 1.0, 1 + t) * 16 * t, 16 * t)
    return live


def test_parts_learn_and_their_states_are_kept() -> None:
    live = told(NESTED.build(FACTS), 3)
    state = live.state_dict()
    assert set(state) == {"start.sums", "end.first.sums", "end.second.interval"}
    assert state["start.sums"].shape == (4, 5)
    assert state["end.second.interval"].tolist() == [0.0, 0.5]
    other = told(NESTED.build(FACTS), 1)
    other.load_state_dict(state)
    for step in (0, 30, 100):
        assert torch.equal(other.at(step).icdf(U), live.at(step).icdf(U))
        assert torch.equal(other.at(step).density(T), live.at(step).density(T))


def test_what_a_part_learned_changes_the_blend() -> None:
    live = told(NESTED.build(FACTS), 3)
    before: Tensor = live.at(50).icdf(U)
    t = torch.full((32,), 0.9, dtype=torch.float64)
    live.observe(t, 160 * t, 16 * t)
    assert not torch.equal(live.at(50).icdf(U), before)


ANNEALED = """time_sampler={use = "annealed", start = {use = "bell", width = 0.1}, \
end = {use = "beta"}, anneal = {begin = %s, end = 0.5, by = "%s"}}"""


def test_they_are_sub_tables_of_a_recipe() -> None:
    recipe = load_recipe("quickstart_bell", [ANNEALED % (0.25, "steps")])
    expected = Annealed(
        start=Bell(width=0.1), end=Beta(), anneal=Annealing(begin=0.25, end=0.5, by="steps")
    )
    assert recipe.time_sampler == expected
    assert recipe_from_dict(dump_recipe(recipe)) == recipe


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0.75, "steps"), r"anneal: begin \(0.75\) comes after end \(0.5\)"),
        ((0.25, "learning_rate"), "needs a learning rate that decays"),
    ],
)
def test_an_annealing_that_does_not_fit_is_refused(values: Any, message: str) -> None:
    constant = "learning_rate.shape=constant"
    with pytest.raises(RecipeError, match=message):
        load_recipe("quickstart_bell", [ANNEALED % values, constant])


def test_a_part_may_object_to_the_recipe() -> None:
    mixed = 'time_sampler={use="mixture", first={use="clipped"}, second={use="uniform"}}'
    with pytest.raises(RecipeError, match=r"\[time_sampler.first\]: measures the loss"):
        load_recipe("quickstart_bell", [mixed, "noise_schedule.use=cosine"])
