from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mdmkit.plugins import Catalogue, load_catalogue
from mdmkit.recipe import load_recipe
from mdmkit.training.loop import train

from ..conftest import write_tiny_recipe

SHORT = (
    *("train.steps=4", "train.validate_every=2", "train.checkpoint_every=2"),
    *("denoiser.depth=1", "denoiser.width=8", "evaluators.held_out.draws=1"),
)


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    """The components of the core."""
    return load_catalogue({"MDMKIT_PLUGINS": "none"})


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, catalogue: Catalogue) -> Path:
    """The directory of a run of a few steps; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MDMKIT_CACHE_DIR", str(folder / "cache"))
        patch.setenv("MDMKIT_PLUGINS", "none")
        recipe = load_recipe(write_tiny_recipe(folder / "tiny"), SHORT, catalogue=catalogue)
        return train(recipe, runs_dir=folder / "runs").directory


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of it, to be harmed."""
    return Path(shutil.copytree(trained, tmp_path / "run"))
