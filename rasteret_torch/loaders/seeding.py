"""Random numbers that do not depend on the past: what a transform or a sampler draws is the same in every run."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(key: int, device: torch.device | None = None) -> Iterator[None]:
    """The global generators of torch, NumPy and Python start from the key and are put back afterwards.

    Args:
        key: 64 bits.
        device: a GPU whose generator starts from it too; those of others are left alone.
    """
    gpus = [device] if device is not None and device.type == "cuda" else []
    before = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(key)
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(key)
        np.random.seed(key & 0xFFFFFFFF)
        random.seed(key)
        try:
            yield
        finally:
            np.random.set_state(before[0])
            random.setstate(before[1])
