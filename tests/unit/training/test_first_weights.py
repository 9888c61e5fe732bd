"""Denoisers that take shape and first weights from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mdmkit import PluginError, RecipeError, evaluate, load_recipe, open_run, train
from mdmkit.metrics_log import read_metrics
from mdmkit.recipe import dump_recipe

PLUGIN = """
    from pathlib import Path
    from typing import ClassVar

    import attrs
    import torch
    from attrs import frozen
    from torch import nn

    from mdmkit import RecipeError, hookimpl, option

    class Bag(nn.Module):
        def __init__(self, size, width):
            super().__init__()
            self.embed = nn.Embedding(size, width)
            self.head = nn.Linear(width, size)
            self.blocks = nn.ModuleList([self.head])

        def forward(self, tokens, *, t=None, attention=None):
            h = self.embed(tokens)
            return h + h.mean(1, keepdim=True)

        def unembed(self, h):
            return self.head(h)

    @frozen(kw_only=True)
    class FromFile:
        path: str = option("")
        width: int = option(0)
        supports: ClassVar[frozenset] = frozenset()
        length_multiple: ClassVar[int] = 1

        def resolved(self):
            if self.width:
                return self
            try:
                return attrs.evolve(self, width=int(Path(self.path).read_text()))
            except OSError as error:
                raise RecipeError(f"{self.path}: cannot be read ({error.strerror})") from error

        def build(self, vocab):
            return Bag(vocab.size, self.width)

        def initialize(self, denoiser):
            nn.init.constant_(denoiser.embed.weight, float(Path(self.path).read_text()))
            with open(self.path + ".used", "a") as file:
                file.write("x")

    @hookimpl
    def mdmkit_denoisers():
        return {"from_file": FromFile}
"""


@pytest.fixture
def shape(
    distribution: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    distribution("mdmkit-from-file", PLUGIN)
    monkeypatch.setenv("MDMKIT_PLUGINS", "mdmkit-from-file")
    path = tmp_path / "shape.txt"
    path.write_text("8")
    return path


def overrides(path: Path) -> list[str]:
    return ["denoiser.use=from_file", f"denoiser.path={path}", "learning_rate.peak=1e-30"]


def test_a_recipe_that_was_loaded_stands_by_itself(shape: Path, tiny_recipe: Path) -> None:
    recipe = load_recipe(tiny_recipe, overrides(shape))
    assert dump_recipe(recipe)["denoiser"]["width"] == 8
    shape.unlink()
    with pytest.raises(RecipeError, match=r"shape.txt: cannot be read"):
        load_recipe(tiny_recipe, overrides(shape))


def test_what_a_strangers_resolved_does_is_told_in_words(
    shape: Path,
    tiny_recipe: Path,
    distribution: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for body, error, words in (
        ("raise PermissionError(13, 'no entry', 'far')", RecipeError, r"\[denoiser\]: .*no entry"),
        ("return None", PluginError, r"FromFile.resolved\(\) gave None"),
    ):
        name = f"mdmkit-{error.__name__.lower()}"
        plugin = PLUGIN.replace("def resolved(self):", f"def resolved(self):\n            {body}")
        distribution(name, plugin)
        monkeypatch.setenv("MDMKIT_PLUGINS", name)
        with pytest.raises(error, match=words):
            load_recipe(tiny_recipe, overrides(shape))


def test_first_weights_are_those_of_the_beginning_alone(shape: Path, tiny_recipe: Path) -> None:
    used = Path(f"{shape}.used")
    run = train(load_recipe(tiny_recipe, [*overrides(shape), "train.steps=5"])).directory
    assert used.read_text() == "x"
    weight = open_run(run).call.root.get_parameter("denoiser.embed.weight")
    torch.testing.assert_close(weight, torch.full_like(weight, 8.0))
    shape.unlink()  # nothing needs it any more
    evaluate(run)
    recipe = load_recipe(run / "recipe.toml")
    assert train(recipe, resume=run).step == 5  # at its end already
    (run / "checkpoints" / "step-00000005" / "manifest.json").unlink()
    train(recipe, resume=run)  # from step 4
    assert used.read_text() == "x"
    assert [line["step"] for line in read_metrics(run / "metrics.jsonl")][-1] == 5
