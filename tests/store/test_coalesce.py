"""Joining spans into requests."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rasteret_torch.store import FetchPolicy, Part, Request, coalesce

POLICY = FetchPolicy(coalesce_gap_nbytes=10, max_request_nbytes=100)
SPANS = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 150)), max_size=40)


def test_nothing() -> None:
    assert coalesce([], POLICY) == []


def test_neighbours_join_across_small_gaps_only() -> None:
    spans = [(40, 10), (0, 10), (20, 10), (61, 5)]
    assert coalesce(spans, POLICY) == [
        Request(0, 50, (Part(1, 0, 10), Part(2, 20, 10), Part(0, 40, 10))),
        Request(61, 5, (Part(3, 0, 5),)),
    ]


def test_requests_end_at_their_largest_size() -> None:
    assert [r[:2] for r in coalesce([(0, 60), (60, 40), (100, 60)], POLICY)] == [(0, 100), (100, 60)]
    assert [r[:2] for r in coalesce([(900, 60), (960, 40), (1000, 60)], POLICY)] == [(900, 100), (1000, 60)]


def test_a_larger_span_stays_whole_and_takes_what_lies_in_it() -> None:
    spans = [(0, 500), (100, 50), (490, 20), (0, 500)]
    assert coalesce(spans, POLICY) == [
        Request(0, 500, (Part(0, 0, 500), Part(3, 0, 500), Part(1, 100, 50))),
        Request(490, 20, (Part(2, 0, 20),)),
    ]


@given(SPANS)
def test_every_span_is_a_part_of_exactly_one_request(spans: list[tuple[int, int]]) -> None:
    parts = {
        part.span: (request.offset + part.start, part.nbytes)
        for request in coalesce(spans, POLICY)
        for part in request.parts
    }
    assert [parts[number] for number in range(len(spans))] == spans


@given(SPANS)
def test_requests_are_as_large_as_their_parts_and_not_larger_than_allowed(spans: list[tuple[int, int]]) -> None:
    requests = coalesce(spans, POLICY)
    assert sum(len(request.parts) for request in requests) == len(spans)
    assert [request.offset for request in requests] == sorted(request.offset for request in requests)
    for request in requests:
        assert request.nbytes == max(part.start + part.nbytes for part in request.parts)
        assert min(part.start for part in request.parts) == 0
        assert request.nbytes <= max(100, max(part.nbytes for part in request.parts))


@given(SPANS)
def test_gaps_that_are_read_are_small(spans: list[tuple[int, int]]) -> None:
    for request in coalesce(spans, POLICY):
        end = 0
        for part in request.parts:
            assert part.start - end <= 10
            end = max(end, part.start + part.nbytes)
