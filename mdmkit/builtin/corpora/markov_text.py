"""Text of a Markov chain: what predicts a symbol stands next to it, and how well is known."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator, Mapping
from functools import cache
from math import lgamma
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from mdmkit.builtin.corpora.synthetic import LETTERS, fingerprint_of, source_of, whole_symbols
from mdmkit.options import option
from mdmkit.protocols import Split

if TYPE_CHECKING:
    from mdmkit.recipe import Recipe

Numbers = NDArray[np.float64]


@frozen(kw_only=True)
class MarkovText:
    """Letters of a stationary Markov chain of order 1, whose masked entropy is known exactly.

    Row i of the transition matrix is softmax(``sharpness``·z_i) with z_i standard normal, drawn
    from ``seed``; the splits are different stretches of the same chain. A split is one long text;
    a document is a piece of it, so that errors can be bootstrapped over pieces.

    It needs a tokenizer with a token for each letter, and a packing that adds none::

        [data]
        corpus = { use = "markov_text" }
        tokenizer = { use = "text8" }
        packing = { use = "packed", eos = false }

    Given any set of visible symbols a hidden one depends on the nearest visible one on either side
    alone. With H_n the entropy of a symbol given the one n before it, that is, of row of P^n on
    average, H(X_i | X_{i−a}, X_{i+b}) = H_a + H_b − H_{a+b} by the chain rule, and H_b where there
    is none on the left.
    """

    seed: int = option(0, ge=0, doc="of the transition matrix and of the text")
    symbols: int = option(16, ge=2, le=26, doc="K, how many letters there are")
    sharpness: float = option(
        2.0, ge=0, le=10, doc="of the rows of the transition matrix; 0: all letters are as likely"
    )
    train: int = option(2_000_000, ge=1, doc="symbols of the train split")
    held_out: int = option(200_000, ge=1, doc="symbols each of the validation and test split")
    piece: int = option(4096, ge=1, doc="symbols of a document")

    def documents(self, split: Split) -> Iterator[str]:
        """The pieces of `split`, which follow one another in one chain."""
        source, bounds = source_of(self.seed, split), np.cumsum(self.transitions(), -1).tolist()
        first = np.cumsum(self.stationary()).tolist()
        left, row = self.train if split == "train" else self.held_out, first
        while left:
            letters = []
            for number in source.random(min(self.piece, left)).tolist():
                state = min(bisect(row, number), self.symbols - 1)  # a sum may fall short of 1
                letters.append(LETTERS[state])
                row = bounds[state]
            yield "".join(letters)
            left -= len(letters)

    def fingerprint(self, split: Split) -> str:
        """A hash of the options, the split and its first piece."""
        return fingerprint_of(self, split)

    def describe(self, split: Split) -> Mapping[str, Any]:
        """The process, its entropy rate and that of a single symbol."""
        alone, rate = _entropy(self.stationary()), self.entropies(1)[0]
        return {
            "source": "a Markov chain of order 1",
            "seed": self.seed,
            "symbols": self.symbols,
            "sharpness": self.sharpness,
            "split": split,
            "nats_per_symbol": {"alone": float(alone), "given_the_one_before": float(rate)},
        }

    def check(self, recipe: Recipe) -> Iterator[str]:
        """A tokenizer or packing with other tokens than its symbols."""
        return whole_symbols(recipe)

    def transitions(self) -> Numbers:
        """P, ``[K, K]``: row i is the distribution of what follows symbol i."""
        z = source_of(self.seed).standard_normal((self.symbols, self.symbols))
        powers = np.exp(self.sharpness * (z - z.max(-1, keepdims=True)))
        rows: Numbers = powers / powers.sum(-1, keepdims=True)
        return rows

    def stationary(self) -> Numbers:
        """π with πP = π, ``[K]``: how often each symbol is."""
        chain = self.transitions()
        system = np.vstack([chain.T - np.eye(self.symbols), np.ones(self.symbols)])
        right = np.append(np.zeros(self.symbols), 1.0)
        found: Numbers = np.linalg.lstsq(system, right, rcond=None)[0]
        return found

    def entropies(self, length: int) -> Numbers:
        """H_n in nats for n = 1..length, ``[length]``: of a symbol given the one n before it."""
        return _entropies(self, length)

    def masked_entropy(self, masked: int, length: int) -> float:
        """The mean over which `masked` of `length` positions are hidden, and over these; nats.

        The nearest visible ones stand a to the left and b to the right of a hidden position, with
        a + b = s, for C(L − 1 − s, k + 1 − s) of the C(L − 1, k − 1) choices of the other hidden
        positions, and L − s positions have room for both. Where all m to the left are hidden and
        the next on the right is b away, with m + b = s, it is C(L − 1 − s, k − s) of them.

        Args:
            masked: k, from 1 to L.
            length: L.
        """
        if masked == length:
            return float(_entropy(self.stationary()))
        at = self.entropies(length)  # H_1 … H_L
        sums = np.append(0.0, np.cumsum(at))  # sums[s] = H_1 + … + H_s
        s = np.arange(1, min(masked + 1, length - 1) + 1)
        both = (length - s) * (2 * sums[s - 1] - (s - 1) * at[s - 1])  # 0 for s = 1
        one = 2 * sums[s]
        found = both * _shares(s, masked + 1, length, masked)
        found += one * _shares(s, masked, length, masked)
        return float(found.sum() / length)


@cache
def _entropies(corpus: MarkovText, length: int) -> Numbers:
    """`MarkovText.entropies`, not to be changed."""
    chain, alone = corpus.transitions(), corpus.stationary()
    power, found = np.eye(corpus.symbols), np.empty(length)
    for n in range(length):
        power = power @ chain
        found[n] = alone @ _entropy(power)
    found.setflags(write=False)
    return found


@cache
def _log_factorials(length: int) -> Numbers:
    """log n! for n = 0..L."""
    return np.array([lgamma(n + 1) for n in range(length + 1)])


def _shares(s: NDArray[np.int64], hidden: int, length: int, masked: int) -> Numbers:
    """C(L − 1 − s, `hidden` − s) of the C(L − 1, k − 1) choices; 0 for a larger s."""
    log = _log_factorials(length)
    rest, left = length - 1 - s, hidden - s
    fits = (left >= 0) & (left <= rest)
    left = np.where(fits, left, 0)
    ways = log[rest] - log[left] - log[rest - left]
    every = log[length - 1] - log[masked - 1] - log[length - masked]
    found: Numbers = np.where(fits, np.exp(ways - every), 0.0)
    return found


def _entropy(rows: Numbers) -> Numbers:
    """Of distributions ``[..., K]``, in nats: ``[...]``."""
    logs = np.log(rows, out=np.zeros_like(rows), where=rows > 0)
    found: Numbers = -(rows * logs).sum(-1)
    return found
