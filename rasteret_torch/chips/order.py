"""The order of an epoch: a function of (seed, epoch, length) and, with blocks, of where the chips lie.

Ranks, workers, batch size and the past have no part in it, so they may all change between a run and its continuation.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from rasteret_torch.chips.mixing import Numbers, Permutation, key_of, mixed

POOL_BLOCKS = 4  # blocks that are shuffled together
_SHUFFLE, _BLOCKS, _POOLS = 1, 2, 3  # purposes of keys


@dataclass(frozen=True, eq=False)
class EpochOrder:
    """Which sample stands at which position of an epoch.

    Attributes:
        length: samples of the epoch.
        seed, epoch: choose the shuffle.
        shuffle: False keeps the numbers in their order (or, with `line`, the order of the line).
        line: sample numbers, neighbours in the world next to each other; None where neighbourhood has no part.
        block: samples of the line that stay together.

    With a line, an epoch is shuffled in blocks: the line is cut into blocks of `block` samples, the blocks are put into
    random order, and every `POOL_BLOCKS` blocks that follow each other are shuffled into one another. Tiles are then
    read once for all chips of a block. The price: a batch is drawn from `POOL_BLOCKS` neighbourhoods of the world
    instead of from all of it, so that gradients of neighbouring batches vary more. Choose blocks several times smaller
    than the epoch and pools larger than a batch. Unlike a plain shuffle this one is laid out in memory, 8 bytes a
    sample.
    """

    length: int
    seed: int
    epoch: int
    shuffle: bool = True
    line: Numbers | None = None
    block: int = 1

    def numbers(self, positions: Numbers) -> Numbers:
        """The samples at these positions; positions beyond the length start over (padding)."""
        wrapped = np.asarray(positions, np.int64) % self.length
        if self.line is not None:
            return self._laid_out[wrapped]
        return Permutation(self.length, self._key(_SHUFFLE))(wrapped) if self.shuffle else wrapped

    @functools.cached_property
    def _laid_out(self) -> Numbers:
        assert self.line is not None
        if not self.shuffle:
            return self.line
        block = min(self.block, self.length)
        blocks = -(-self.length // block)
        first = Permutation(blocks, self._key(_BLOCKS))(np.arange(blocks)) * block
        places = (first[:, None] + np.arange(block)).ravel()
        in_blocks = self.line[places[places < self.length]]  # the last block may be short
        keys, pool = mixed(np.arange(self.length), self._key(_POOLS)), block * POOL_BLOCKS
        whole = self.length - self.length % pool
        rows = np.argsort(keys[:whole].reshape(-1, pool), axis=1, kind="stable") + np.arange(0, whole, pool)[:, None]
        rest = whole + np.argsort(keys[whole:], kind="stable")
        laid_out: Numbers = in_blocks[np.concatenate([rows.ravel(), rest])]
        return laid_out

    def _key(self, purpose: int) -> int:
        return key_of(self.seed, self.epoch, purpose)
