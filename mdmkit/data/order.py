"""The order of the data: a permutation of the blocks that is a function of (seed, epoch).

A list of a billion shuffled numbers would take 8 GB and a state to save. Here the block at a
position is computed: a Feistel network (Luby and Rackoff 1988, "How to construct pseudorandom
permutations from pseudorandom functions") permutes the 4^k numbers below the next power of four,
and a number that is no block is permuted again until it is one (cycle walking: Black and Rogaway
2002, "Ciphers with arbitrary finite domains"), which is a permutation of the blocks.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_Words = NDArray[np.uint64]
_ROUNDS = 12  # twice of what mixes well, because the halves of small corpora have few bits
_STRETCH = 1 << 13  # positions that are permuted at once
_NOTHING = np.zeros(0, dtype=np.int64)
_SMALLEST_HALF = 3  # bits; a half of one or two bits has too few round functions to mix


def block_rows(seed: int, blocks: int, start: int, stop: int) -> Tensor:
    """The block numbers at the positions start, …, stop − 1 of an endless pass over the data.

    Position p is in epoch p // blocks; within an epoch every block comes exactly once.

    Args:
        seed: of the run.
        blocks: N, the number of blocks, at least 1.
        start, stop: positions counted over all epochs, 0 <= start <= stop < 2^63.

    Returns:
        ``[stop − start]`` int64 in [0, N).
    """
    if blocks < 1 or not 0 <= start <= stop:
        raise ValueError(f"no rows {start} to {stop} of {blocks} blocks")
    stretches = range(start // _STRETCH, -(-stop // _STRETCH))
    parts = [_stretch(seed, blocks, number) for number in stretches] or [_NOTHING]
    first = start - start // _STRETCH * _STRETCH
    return torch.from_numpy(np.concatenate(parts)[first : first + stop - start])


@lru_cache(maxsize=2)  # the stretch that training is in, and one for whoever looks back
def _stretch(seed: int, blocks: int, number: int) -> NDArray[np.int64]:
    """The rows at the `number`-th `_STRETCH` positions.

    A permutation of few numbers costs nearly as much as one of many, so steps share it.
    """
    first = number * _STRETCH
    positions = np.arange(first, first + _STRETCH, dtype=np.uint64)
    epochs, places = np.divmod(positions, np.uint64(blocks))
    return _permute(places, _round_keys(seed, epochs), blocks).astype(np.int64)


def _permute(numbers: _Words, keys: _Words, count: int) -> _Words:
    """Permute ``numbers [n]`` below `count`, each with its own ``keys [rounds, n]``."""
    half = max(_SMALLEST_HALF, -(-(count - 1).bit_length() // 2))
    numbers = _feistel(numbers, keys, half)
    outside = np.flatnonzero(numbers >= count)
    while outside.size:
        numbers[outside] = _feistel(numbers[outside], keys[:, outside], half)
        outside = outside[numbers[outside] >= count]
    return numbers


def _feistel(numbers: _Words, keys: _Words, half: int) -> _Words:
    """A permutation of the numbers below 4^half: swap the halves, mixing one into the other."""
    bits, mask = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = numbers >> bits, numbers & mask
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) & mask)
    return (left << bits) | right


def _round_keys(seed: int, epochs: _Words) -> _Words:
    """Keys ``[rounds, n]`` out of the seed and ``epochs [n]``."""
    digest = hashlib.sha256(f"data order {seed}".encode()).digest()
    words = np.frombuffer(digest[:16], dtype="<u8").astype(np.uint64)
    base = _mix(epochs ^ words[0]) ^ words[1]
    steps = np.arange(1, _ROUNDS + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return _mix(base[None, :] + steps[:, None])


def _mix(words: _Words) -> _Words:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): every bit reaches every other."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
