"""Which requests bring a set of byte spans of one object: neighbours are asked for together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rasteret_torch.store.policy import FetchPolicy


class Part(NamedTuple):
    """A span within a request: its number in the list that was asked for, its first byte in the answer, its length."""

    span: int
    start: int
    nbytes: int


class Request(NamedTuple):
    """One range to ask for, and the spans that lie in it."""

    offset: int
    nbytes: int
    parts: tuple[Part, ...]


def coalesce(spans: Sequence[tuple[int, int]], policy: FetchPolicy) -> list[Request]:
    """Joins the (offset, nbytes) spans of one object into requests, in the order of their offsets.

    Spans at most `coalesce_gap_nbytes` apart are joined until a request would exceed `max_request_nbytes`; a single
    larger span stays whole. Spans may overlap and repeat; each is a part of exactly one request.
    """
    requests: list[Request] = []
    parts: list[Part] = []
    begin = end = 0
    for number in sorted(range(len(spans)), key=spans.__getitem__):
        offset, nbytes = spans[number]
        stop = max(end, offset + nbytes)
        joins = offset - end <= policy.coalesce_gap_nbytes and (
            stop == end or stop - begin <= policy.max_request_nbytes
        )
        if parts and not joins:
            requests.append(Request(begin, end - begin, tuple(parts)))
            parts = []
        if not parts:
            begin, stop = offset, offset + nbytes
        end = stop
        parts.append(Part(number, offset - begin, nbytes))
    if parts:
        requests.append(Request(begin, end - begin, tuple(parts)))
    return requests
