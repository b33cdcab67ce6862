"""Samples that failed: what is kept of them, and how many are too many."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from rasteret_torch.errors import ErrorBudgetExceededError, RasteretTorchError
from rasteret_torch.read import ReadOptions

UNNUMBERED = -1  # samples that were asked for by place
SUBSTITUTES = 16  # other samples that are tried in place of one that fails


@dataclass(frozen=True, slots=True)
class BadSample:
    """A sample that could not be read.

    Attributes:
        index: its number in the epoch; -1 where it was asked for by place.
        epoch: number of the epoch; -1 where it was asked for by place.
        error: type of the error.
        message: what it said: item, band, tile, URL without its query.
    """

    index: int
    epoch: int
    error: str
    message: str

    @classmethod
    def of(cls, error: RasteretTorchError, index: int = UNNUMBERED, epoch: int = UNNUMBERED) -> BadSample:
        """The line for an error."""
        return cls(index, epoch, type(error).__name__, str(error))


def check_budget(failed: int, options: ReadOptions, last: RasteretTorchError) -> None:
    """Ends a run in which too much fails.

    Raises:
        ErrorBudgetExceededError: more samples failed than the options allow.
    """
    if failed > options.max_bad_samples:
        raise ErrorBudgetExceededError(
            f"{failed} samples failed in this process, more than ReadOptions.max_bad_samples="
            f"{options.max_bad_samples}; the last one: {last}"
        ) from last


def substitutes(time_limit_s: float) -> Iterator[int]:
    """Counts the samples that are tried in place of one that failed; none begins after the time limit."""
    end = time.monotonic() + time_limit_s
    for attempt in range(SUBSTITUTES):
        if time.monotonic() > end:
            return
        yield attempt


def nothing_instead(sample: str, last: RasteretTorchError) -> ErrorBudgetExceededError:
    """What is said when no substitute could be read either."""
    return ErrorBudgetExceededError(
        f"{sample} failed, and so did all that were tried in its place; check the store and the files. The last "
        f"error: {last}"
    )
