"""Train masked diffusion language models from typed recipes and plugins.

The public names are imported on first use, so that ``import mdmkit`` is next to nothing: every
plugin module, ``mdmkit --help`` and, through our pytest plugin, every start of pytest pay for it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdmkit.comparison.compare import compare
    from mdmkit.errors import (
        CheckpointError,
        DataError,
        MdmkitError,
        PluginError,
        RecipeError,
        TrainingError,
    )
    from mdmkit.evaluation.evaluate import evaluate
    from mdmkit.evaluation.generate import sample, sample_states
    from mdmkit.evaluation.replay import replay
    from mdmkit.evaluation.suite import evaluate_suite
    from mdmkit.hookspecs import hookimpl
    from mdmkit.options import component, option
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
    "evaluate_suite",
    "hookimpl",
    "load_recipe",
    "option",
    "replay",
    "sample",
    "sample_states",
    "train",
]

_LAZY = {
    "CheckpointError": "mdmkit.errors",
    "DataError": "mdmkit.errors",
    "MdmkitError": "mdmkit.errors",
    "PluginError": "mdmkit.errors",
    "Recipe": "mdmkit.recipe",
    "RecipeError": "mdmkit.errors",
    "TrainingError": "mdmkit.errors",
    "component": "mdmkit.options",
    "compare": "mdmkit.comparison.compare",
    "evaluate": "mdmkit.evaluation.evaluate",
    "evaluate_suite": "mdmkit.evaluation.suite",
    "hookimpl": "mdmkit.hookspecs",
    "load_recipe": "mdmkit.recipe",
    "option": "mdmkit.options",
    "replay": "mdmkit.evaluation.replay",
    "sample": "mdmkit.evaluation.generate",
    "sample_states": "mdmkit.evaluation.generate",
    "train": "mdmkit.training.loop",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        found = globals()[name] = getattr(import_module(_LAZY[name]), name)
        return found
    raise AttributeError(f"module 'mdmkit' has no attribute {name!r}")
