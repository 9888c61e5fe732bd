"""The NELBO: what every training, however weighted, is measured by."""

from __future__ import annotations

from mdmkit.builtin.evaluators.nelbo.evaluator import LiveNelbo, Nelbo

__all__ = ["LiveNelbo", "Nelbo"]
