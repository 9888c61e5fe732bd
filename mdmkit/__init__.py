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
    from mdmkit.evaluation.analyze import analyze
    from mdmkit.evaluation.contexts import trained_context
    from mdmkit.evaluation.evaluate import evaluate
    from mdmkit.evaluation.find_run import find_run
    from mdmkit.evaluation.generate import sample, sample_states
    from mdmkit.evaluation.replay import replay
    from mdmkit.evaluation.run import TrainedRun, open_run
    from mdmkit.evaluation.suite import evaluate_suite
    from mdmkit.evaluation.write_run import write_run
    from mdmkit.hookspecs import hookimpl
    from mdmkit.options import component, option
    from mdmkit.recipe import Recipe, load_recipe, recipe_from_dict
    from mdmkit.report.page import write_report
    from mdmkit.training.loop import train

__version__ = "0.1.0"

API_VERSION = 1
"""Of what hooks, protocols and public names promise to plugins; see docs/compatibility.md."""
OLDEST_API = 1
"""The oldest such version whose plugins still work."""

__all__ = [
    "API_VERSION",
    "OLDEST_API",
    "CheckpointError",
    "DataError",
    "MdmkitError",
    "PluginError",
    "Recipe",
    "RecipeError",
    "TrainedRun",
    "TrainingError",
    "__version__",
    "analyze",
    "compare",
    "component",
    "evaluate",
    "evaluate_suite",
    "find_run",
    "hookimpl",
    "load_recipe",
    "open_run",
    "option",
    "recipe_from_dict",
    "replay",
    "sample",
    "sample_states",
    "train",
    "trained_context",
    "write_report",
    "write_run",
]

_LAZY = {
    "CheckpointError": "mdmkit.errors",
    "DataError": "mdmkit.errors",
    "MdmkitError": "mdmkit.errors",
    "PluginError": "mdmkit.errors",
    "Recipe": "mdmkit.recipe",
    "RecipeError": "mdmkit.errors",
    "TrainedRun": "mdmkit.evaluation.run",
    "TrainingError": "mdmkit.errors",
    "analyze": "mdmkit.evaluation.analyze",
    "component": "mdmkit.options",
    "compare": "mdmkit.comparison.compare",
    "evaluate": "mdmkit.evaluation.evaluate",
    "evaluate_suite": "mdmkit.evaluation.suite",
    "find_run": "mdmkit.evaluation.find_run",
    "hookimpl": "mdmkit.hookspecs",
    "load_recipe": "mdmkit.recipe",
    "open_run": "mdmkit.evaluation.run",
    "option": "mdmkit.options",
    "recipe_from_dict": "mdmkit.recipe",
    "replay": "mdmkit.evaluation.replay",
    "sample": "mdmkit.evaluation.generate",
    "sample_states": "mdmkit.evaluation.generate",
    "train": "mdmkit.training.loop",
    "trained_context": "mdmkit.evaluation.contexts",
    "write_report": "mdmkit.report.page",
    "write_run": "mdmkit.evaluation.write_run",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        found = globals()[name] = getattr(import_module(_LAZY[name]), name)
        return found
    raise AttributeError(f"module 'mdmkit' has no attribute {name!r}")
