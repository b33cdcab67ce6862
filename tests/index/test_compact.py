"""Short tile tables stand for the whole ones, exactly."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rasteret_torch.errors import IndexCorruptError
from rasteret_torch.index import compact

LAYOUT = pa.struct([("tile_offsets", pa.list_(pa.int64())), ("tile_byte_counts", pa.list_(pa.int64()))])
HEADER = pa.struct([*LAYOUT, ("overviews", pa.list_(LAYOUT)), ("masks", pa.list_(LAYOUT)), ("crs", pa.string())])


@st.composite
def layouts(draw: st.DrawFn) -> dict[str, list[int] | None]:
    counts = draw(st.lists(st.integers(0, 2**33), max_size=6))
    start, gap = draw(st.integers(0, 2**40)), draw(st.sampled_from([0, 8, 100]))
    offsets = [start + sum(counts[:number]) + gap * number for number in range(len(counts))]
    if draw(st.booleans()):
        offsets = draw(st.lists(st.integers(0, 2**40), max_size=6))
    return {"tile_offsets": draw(st.sampled_from([offsets, offsets, None])), "tile_byte_counts": counts}


@st.composite
def headers(draw: st.DrawFn) -> dict[str, object]:
    several = st.none() | st.lists(st.none() | layouts(), max_size=3)
    header = {**draw(layouts()), "overviews": draw(several), "masks": draw(several), "crs": "EPSG:4326"}
    if draw(st.booleans()):
        header |= chain(draw(st.lists(st.lists(st.integers(0, 2**33), min_size=1, max_size=4), min_size=2, max_size=4)))
    return header


def chain(counts: list[list[int]], start: int = 1000, gap: int = 8) -> dict[str, object]:
    """Levels, fine to coarse, as a COG has them: the coarsest first in the file."""
    levels: list[dict[str, list[int]]] = []
    for sizes in reversed(counts):
        offsets = [start + sum(sizes[:number]) + gap * number for number in range(len(sizes))]
        levels.insert(0, {"tile_offsets": offsets, "tile_byte_counts": sizes})
        start = offsets[-1] + sizes[-1] + gap
    return {**levels[0], "overviews": levels[1:]}


@given(st.lists(st.none() | headers(), max_size=8), st.integers(0, 3))
def test_there_and_back(rows: list[dict[str, object] | None], skipped: int) -> None:
    array = pa.array(rows, HEADER)[skipped:]
    short = compact.compacted(array)
    again = compact.expanded(short)
    again.validate(full=True)
    assert again.type == HEADER
    assert again.to_pylist() == array.to_pylist()
    assert compact.expanded(array).to_pylist() == array.to_pylist()


def test_offsets_beyond_any_file_are_kept_as_they_are() -> None:
    rows = [{"tile_offsets": [-(2**63)], "tile_byte_counts": [9]}, {"tile_offsets": [7], "tile_byte_counts": [9]}]
    short = compact.compacted(pa.array(rows, HEADER))
    assert short.field("tile_start").to_pylist() == [None, 7]
    assert short.field("tile_offsets").to_pylist() == [[-(2**63)], None]
    assert compact.expanded(short).field("tile_offsets").to_pylist() == [[-(2**63)], [7]]


def test_even_tiles_need_no_offsets() -> None:
    counts = [100, 200, 50]
    rows = [
        {"tile_offsets": [1000, 1108, 1316], "tile_byte_counts": counts},
        {"tile_offsets": [1000, 1100, 1300], "tile_byte_counts": counts},
        {"tile_offsets": [1000, 1101, 1316], "tile_byte_counts": counts},
        {"tile_offsets": [0, 0, 0], "tile_byte_counts": [0, 0, 0]},
        {"tile_offsets": [0, 500, 0], "tile_byte_counts": [0, 5, 0]},
        {"tile_offsets": [7], "tile_byte_counts": [9]},
        {"tile_offsets": [], "tile_byte_counts": []},
    ]
    short = compact.compacted(pa.array(rows, LAYOUT))
    assert short.field("tile_start").to_pylist() == [1000, 1000, None, 0, None, 7, None]
    assert short.field("tile_gap").to_pylist() == [8, 0, None, 0, None, 0, None]
    assert [one is None for one in short.field("tile_offsets").to_pylist()] == [
        True,
        True,
        False,
        True,
        False,
        True,
        False,
    ]
    assert compact.offsets_of(1000, 8, np.array(counts, np.uint64)).tolist() == [1000, 1108, 1316]
    assert compact.offsets_of(1000, 8, np.array([], np.uint64)).tolist() == []


def test_levels_one_behind_the_other_need_one_start() -> None:
    rows = [chain([[5, 6, 7, 8], [9, 4], [3]]), chain([[5], [4]], start=7), {**chain([[5], [4]]), "overviews": None}]
    rows.append(chain([[5, 6, 7], [4]]) | {"tile_offsets": [9000, 9999, 9]})
    short = compact.compacted(pa.array(rows, HEADER))
    overviews = short.field("overviews")
    assert short.field("tile_start").to_pylist() == [None, None, 1012, None]
    assert short.field("tile_after").to_pylist() == [8, 8, None, None]
    assert [level["tile_start"] for level in overviews[0].as_py()] == [None, 1000]
    assert [level["tile_after"] for level in overviews[0].as_py()] == [8, None]
    assert [level["tile_start"] for level in overviews[3].as_py()] == [1000]
    whole = compact.unchained(short)
    assert whole.field("tile_start").to_pylist() == [1040, 19, 1012, None]
    assert whole.type == compact.unchained(whole).type


def test_a_null_within_a_table_is_refused_by_type() -> None:
    """A row that is damaged like that may be in memory; it must not be stored as one of other numbers."""
    record = {"tile_offsets": [8, None], "tile_byte_counts": [4, 4], "overviews": None, "masks": None, "crs": None}
    with pytest.raises(IndexCorruptError, match="holds a null"):
        compact.compacted(pa.array([record], HEADER))
