"""Numbers that look random and can be computed alone: a mixer of integers, and permutations made of it.

Nothing here is a stream: value number one million costs as much as the first, which is what makes seeking free.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Words = NDArray[np.uint64]
Numbers = NDArray[np.int64]

# Increment and finalizer of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators").
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FACTORS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_ROUNDS = 6


def mixed(values: ArrayLike, *keys: int) -> Words:
    """64 well mixed bits for every value, different for different keys; same inputs, same bits, on every machine."""
    words = np.atleast_1d(np.asarray(values)).astype(np.uint64)
    for key in (*keys, 0):
        words = _finalized(words + _GAMMA) ^ _finalized(np.array([key & 0xFFFFFFFFFFFFFFFF], np.uint64) + _GAMMA)
    return _finalized(words)


def key_of(*parts: int) -> int:
    """One key of several, such as a seed, an epoch and a purpose."""
    return int(mixed([0], *parts)[0])


def fractions(values: ArrayLike, key: int) -> NDArray[np.float64]:
    """For every value a number in [0, 1), evenly spread over the values."""
    return (mixed(values, key) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _finalized(words: Words) -> Words:
    words = (words ^ (words >> np.uint64(30))) * _FACTORS[0]
    words = (words ^ (words >> np.uint64(27))) * _FACTORS[1]
    return words ^ (words >> np.uint64(31))


@dataclass(frozen=True, slots=True)
class Permutation:
    """A shuffle of 0 ... length - 1 of which any part can be asked for; nothing is stored.

    A Feistel network permutes the smallest square power of two that holds the length; results beyond the length are
    sent through it again until they fall inside (cycle walking), on average less than four times.

    Attributes:
        length: of the sequence.
        key: which shuffle.
    """

    length: int
    key: int

    def __call__(self, positions: ArrayLike) -> Numbers:
        """What stands at these positions."""
        words = np.atleast_1d(np.asarray(positions)).astype(np.uint64)
        keys = mixed(np.arange(_ROUNDS), self.key)
        outside = np.ones(words.shape, bool)
        while outside.any():
            words[outside] = self._network(words[outside], keys)
            outside = words >= self.length
        return words.astype(np.int64)

    def _network(self, words: Words, keys: Words) -> Words:
        half = max(1, -(-(self.length - 1).bit_length() // 2))
        shift, mask = np.uint64(half), np.uint64((1 << half) - 1)
        left, right = words >> shift, words & mask
        for key in keys:
            left, right = right, left ^ (_finalized(right + key) & mask)
        return (left << shift) | right
