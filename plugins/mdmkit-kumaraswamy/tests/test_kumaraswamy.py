from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

import pytest
import torch
from scipy import stats

import mdmkit
from mdmkit.testing import ContractError, check_all, check_time_sampler

plugin = pytest.importorskip(
    "mdmkit_kumaraswamy", reason="not installed: pip install -e plugins/mdmkit-kumaraswamy"
)
Kumaraswamy = plugin.Kumaraswamy

T = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
U = (torch.arange(500, dtype=torch.float64) + 0.5) / 500

RECIPE = """
[run]
name = "kumaraswamy"

[data]
length = 16
corpus = { use = "state_of_the_union" }
tokenizer = { use = "bpe", vocab_size = 512 }

[denoiser]
use = "dit"
width = 16
depth = 1
heads = 2

[time_sampler]
use = "kumaraswamy"
b = 3

[train]
steps = 2
global_batch_size = 4

[learning_rate]
warmup_steps = 1
"""


def test_everything_keeps_its_contract() -> None:
    """What ``pytest --mdmkit-contract mdmkit-kumaraswamy`` tests, for a bare ``pytest``."""
    check_all(plugin)


def test_the_check_would_notice_a_wrong_quantile() -> None:
    class Wrong(Kumaraswamy):
        def icdf(self, u: torch.Tensor) -> torch.Tensor:
            return Kumaraswamy(b=2.6).icdf(u)

    with pytest.raises(ContractError, match="inverse of the distribution function"):
        check_time_sampler(Wrong())


@pytest.mark.parametrize("shape", [0.5, 3.0])
def test_with_one_parameter_at_one_it_is_a_beta_density(shape: float) -> None:
    for ours, theirs in (
        (Kumaraswamy(a=shape, b=1), stats.beta(shape, 1)),
        (Kumaraswamy(a=1, b=shape), stats.beta(1, shape)),
    ):
        torch.testing.assert_close(ours.density(T), torch.tensor(theirs.pdf(T)))
        torch.testing.assert_close(ours.icdf(U), torch.tensor(theirs.ppf(U)))


def test_moments_and_mode_of_the_default() -> None:
    density, t = Kumaraswamy(), (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    q = density.density(t)
    mean = float((q * t).mean())
    assert float(t[q.argmax()]) == pytest.approx(0.5, abs=1e-4)
    assert mean == pytest.approx(0.491, abs=5e-4)
    assert float((q * (t - mean) ** 2).mean()) ** 0.5 == pytest.approx(0.2116, abs=5e-4)


def test_mdmkit_finds_it() -> None:
    (entry,) = entry_points(group="mdmkit", name="kumaraswamy")
    assert entry.load().mdmkit_time_samplers is plugin.mdmkit_time_samplers
    assert entry.dist is not None
    assert entry.dist.name == "mdmkit-kumaraswamy"


def test_a_recipe_can_use_it(tmp_path: Path) -> None:
    path = tmp_path / "kumaraswamy.toml"
    path.write_text(RECIPE)
    recipe = mdmkit.load_recipe(path)
    assert recipe.time_sampler == Kumaraswamy(a=2.0, b=3.0)


def test_a_recipe_with_a_bad_option_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "kumaraswamy.toml"
    path.write_text(RECIPE.replace("b = 3", "b = 0"))
    with pytest.raises(mdmkit.RecipeError, match=r"\[time_sampler\] b: expected a value > 0"):
        mdmkit.load_recipe(path)
