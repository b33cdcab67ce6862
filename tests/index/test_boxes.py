"""Search over boxes, compared with looking at each."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rasteret_torch.index.boxes import BoxIndex, space_order


def touching(boxes: np.ndarray, query: tuple[float, float, float, float]) -> list[int]:
    parts = [query] if query[0] <= query[2] else [(query[0], *query[1:2], 180.0, query[3]), (-180.0, *query[1:])]
    found = []
    for number, (xmin, ymin, xmax, ymax) in enumerate(boxes):
        spans = [(xmin, xmax)] if not xmin > xmax else [(xmin, 180.0), (-180.0, xmax)]
        hits = [w <= p[2] and e >= p[0] and ymin <= p[3] and ymax >= p[1] for w, e in spans for p in parts]
        found += [number] if any(hits) else []
    return found


@pytest.mark.parametrize("count", [0, 1, 1023, 1024, 1025, 5000])
def test_every_size_of_tree(count: int) -> None:
    random = np.random.default_rng(count)
    corners = random.uniform(-170, 170, (count, 2)) * (1.0, 0.5)
    boxes = np.hstack([corners, corners + random.uniform(0, 3, (count, 2))])
    boxes[: count // 50] = np.nan
    boxes[count // 2 : count // 2 + 3, 0] = 179.0
    boxes[count // 2 : count // 2 + 3, 2] = -179.0
    index = BoxIndex(boxes)
    queries = [
        (-180.0, -90.0, 180.0, 90.0),
        (0.0, 0.0, 0.0, 0.0),
        (178.0, -80.0, -178.0, 80.0),
        (10.0, 5.0, 25.0, 15.0),
    ]
    for query in queries:
        assert index.touching(query).tolist() == touching(boxes, query)


side = st.floats(-180, 180) | st.sampled_from([-180.0, 0.0, 180.0])


@given(st.lists(st.tuples(side, side, side, side), max_size=70), st.tuples(side, side, side, side))
def test_any_boxes(raw: list[tuple[float, ...]], query: tuple[float, float, float, float]) -> None:
    boxes = np.array([(x, min(a, b), y, max(a, b)) for x, a, y, b in raw], float).reshape(-1, 4)
    box = (query[0], min(query[1], query[3]), query[2], max(query[1], query[3]))
    assert BoxIndex(boxes).touching(box).tolist() == touching(boxes, box)


def test_neighbours_come_together() -> None:
    x, y = np.meshgrid(np.arange(64.0), np.arange(64.0))
    boxes = np.column_stack([x.ravel(), y.ravel(), x.ravel() + 1, y.ravel() + 1])
    order = space_order(boxes)
    assert sorted(order.tolist()) == list(range(4096))
    groups = boxes[order].reshape(64, 64, 4)
    spans = groups[:, :, 2:].max(axis=1) - groups[:, :, :2].min(axis=1)
    assert (spans.prod(axis=1) <= 2 * 64).all()  # the rows of a plain order are 64 x 1 too, but 64 wide
    assert spans.max() <= 16
    boxes[7] = np.nan
    assert space_order(boxes)[-1] == 7
