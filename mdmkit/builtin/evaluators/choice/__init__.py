"""Downstream tasks: the answers of questions, scored by their NELBO given the context."""

from mdmkit.builtin.evaluators.choice.last_word import LastWord
from mdmkit.builtin.evaluators.choice.multiple_choice import MultipleChoice

__all__ = ["LastWord", "MultipleChoice"]
