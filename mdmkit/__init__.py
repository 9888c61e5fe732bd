"""Train masked diffusion language models from typed recipes and plugins.

The public names are imported on first use, so that ``import mdmkit`` (and with it every
plugin module and ``mdmkit --help``) does not pull in torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mdmkit.errors import (
    CheckpointError,
    DataError,
    MdmkitError,
    PluginError,
    RecipeError,
    TrainingError,
)
from mdmkit.hookspecs import hookimpl
from mdmkit.options import component, option

if TYPE_CHECKING:
    from mdmkit.comparison.compare import compare
    from mdmkit.evaluation.evaluate import evaluate
    from mdmkit.evaluation.generate import sample
    from mdmkit.recipe import Recipe, load_recipe
    from mdmkit.training.loop import train

__version__ = "0.1.0"

__all__ = [
    "CheckpointError",
    "DataError",
    "MdmkitError",
    "PluginError",
    "Recipe",
    "RecipeError",
    "TrainingError",
    "__version__",
    "compare",
    "component",
    "evaluate",
    "hookimpl",
    "load_recipe",
    "option",
    "sample",
    "train",
]

_LAZY = {
    "Recipe": "mdmkit.recipe",
    "compare": "mdmkit.comparison.compare",
    "evaluate": "mdmkit.evaluation.evaluate",
    "load_recipe": "mdmkit.recipe",
    "sample": "mdmkit.evaluation.generate",
    "train": "mdmkit.training.loop",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'mdmkit' has no attribute {name!r}")
