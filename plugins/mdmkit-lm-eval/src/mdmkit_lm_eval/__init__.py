"""Runs of mdmkit as a model of EleutherAI's lm-evaluation-harness.

`mdmkit_lm_eval.model` holds the model, registered as ``mdmkit``; ``mdmkit lm-eval`` and
``python -m mdmkit_lm_eval`` are its two commands. Importing this package loads nothing.
"""

from __future__ import annotations
