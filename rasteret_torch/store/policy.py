"""How hard the store tries, and what it expects of an object."""

from __future__ import annotations

import random
from dataclasses import dataclass

MIB = 1 << 20
_JITTER = random.SystemRandom()  # of its own, since the global one is the user's: transforms draw from it meanwhile


@dataclass(frozen=True, slots=True)
class FetchPolicy:
    """Limits and patience of the fetch layer.

    Attributes:
        attempts: tries per range in total, over all layers.
        range_timeout_s: deadline of one range, all its attempts and waits included.
        max_requests: requests in flight in this process.
        max_inflight_nbytes: bytes asked for and not yet handed over, in this process.
        coalesce_gap_nbytes: ranges of one object closer than this become one request.
        max_request_nbytes: coalescing stops at this size (a single larger range stays whole).
        backoff_s: the first wait between attempts; doubles, with jitter.
    """

    attempts: int = 4
    range_timeout_s: float = 30.0
    max_requests: int = 64
    max_inflight_nbytes: int = 256 * MIB
    coalesce_gap_nbytes: int = 64 * 1024
    max_request_nbytes: int = 8 * MIB
    backoff_s: float = 0.1


@dataclass(frozen=True, slots=True)
class ObjectStamp:
    """What identifies the version of an object: its size and ETag where known (a local file has no ETag)."""

    size: int | None = None
    etag: str | None = None


UNSTAMPED = ObjectStamp()  # an object of which nothing is known yet


def is_retried(status: int) -> bool:
    """Whether another attempt may cure an HTTP status; of 400 to 499 only the server's being slow or busy."""
    return status in (408, 425, 429) or 500 <= status <= 599


def jitter() -> float:
    """A factor for waits between attempts, around 1: many clients that failed together do not come back together."""
    return _JITTER.uniform(0.5, 1.5)
