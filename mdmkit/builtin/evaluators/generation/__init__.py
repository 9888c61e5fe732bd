"""The quality of generated text: generative perplexity with its antidotes, and MAUVE."""

from mdmkit.builtin.evaluators.generation.judge import Judge
from mdmkit.builtin.evaluators.generation.mauve import Mauve
from mdmkit.builtin.evaluators.generation.perplexity import GenerativePerplexity

__all__ = ["GenerativePerplexity", "Judge", "Mauve"]
