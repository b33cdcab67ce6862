"""Headers survive Arrow and Parquet exactly, and rasteret's rows are understood."""

import datetime as dt
import math
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from rasteret_torch.errors import IndexCorruptError, UnsupportedTiffError
from rasteret_torch.index import schema as s
from rasteret_torch.index.headers import header_array, header_of
from rasteret_torch.index.stored import ChunkedHeaders, HeaderColumn
from rasteret_torch.tiff.model import GroundControlPoint, Layout, TiffHeader

INT = st.integers(1, 2**31 - 1)
REAL = st.floats(allow_nan=False, allow_infinity=False)
DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64", "complex64"]


def tables(draw: Callable[..., list[int]]) -> np.ndarray:
    return np.array(draw(st.lists(st.integers(0, 2**63 - 1), max_size=5)), np.uint64)


@st.composite
def layouts(draw):
    return Layout(
        width=draw(INT),
        height=draw(INT),
        tile_width=draw(INT),
        tile_height=draw(INT),
        samples=draw(st.integers(1, 500)),
        bits=draw(st.integers(1, 128)),
        sample_format=draw(st.sampled_from([1, 2, 3, 5, 6])),
        dtype=np.dtype(draw(st.sampled_from(DTYPES))),
        compression=draw(st.integers(1, 65535)),
        offsets=tables(draw),
        counts=tables(draw),
        predictor=draw(st.integers(1, 3)),
        photometric=draw(st.integers(0, 65535)),
        planar=draw(st.sampled_from([1, 2])),
        byte_order=draw(st.sampled_from(["<", ">"])),
        fill_order=draw(st.sampled_from([1, 2])),
        tiled=draw(st.booleans()),
        extra_samples=tuple(draw(st.lists(st.integers(0, 9), max_size=3))),
        subsampling=(draw(st.integers(1, 4)), draw(st.integers(1, 4))),
        jpeg_tables=draw(st.none() | st.binary(max_size=20)),
        lerc_parameters=tuple(draw(st.lists(st.integers(0, 9), max_size=3))),
        leader=draw(st.sampled_from([0, 4])),
    )


@st.composite
def headers(draw):
    levels = tuple(draw(st.lists(layouts(), min_size=1, max_size=3)))
    colors = draw(st.none() | st.integers(1, 4))
    affine = st.one_of(
        st.builds(lambda a, c, e, f: Affine(a, 0.0, c, 0.0, e, f), REAL, REAL, REAL, REAL),
        st.builds(Affine, REAL, REAL, REAL, REAL, REAL, REAL),
    )
    return TiffHeader(
        levels=levels,
        masks=tuple(draw(st.none() | layouts()) for _ in levels),
        transform=draw(st.none() | affine.filter(lambda one: one.a * one.e != one.b * one.d)),
        crs=draw(st.none() | st.text(max_size=9)),
        nodata=draw(st.none() | st.integers(-(2**63), 2**64 - 1) | st.floats()),
        scales=tuple(draw(st.lists(REAL, max_size=3))),
        offsets=tuple(draw(st.lists(REAL, max_size=3))),
        color_map=None if colors is None else np.arange(3 * colors, dtype=np.uint16).reshape(3, -1),
        band_names=tuple(draw(st.lists(st.text(max_size=5), max_size=3))),
        datetime=draw(st.none() | st.datetimes()),
        gcps=tuple(draw(st.lists(st.builds(GroundControlPoint, REAL, REAL, REAL, REAL, REAL), max_size=2))),
        pixel_is_point=draw(st.booleans()),
        file_size=draw(st.none() | st.integers(0, 2**63 - 1)),
        etag=draw(st.none() | st.text(max_size=9)),
        last_modified=draw(st.none() | st.datetimes(timezones=st.just(dt.UTC))),
        status=tuple(draw(st.lists(st.text(max_size=9), max_size=2))),
    )


def as_tuple(value: object) -> object:
    """A header in a form that compares by value, nan equal to nan."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tolist()
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    if isinstance(value, Layout | TiffHeader | GroundControlPoint):
        return tuple(as_tuple(getattr(value, name)) for name in value.__dataclass_fields__)
    return tuple(map(as_tuple, value)) if type(value) is tuple else (type(value), value)


def read_back(column: pa.ChunkedArray, row: int) -> TiffHeader:
    chunk, place = HeaderColumn(ChunkedHeaders(column)).at(row)
    return header_of(chunk.record(place), chunk.tables(place))


@settings(max_examples=40)
@given(st.lists(headers(), min_size=1, max_size=4))
def test_round_trip_through_arrow_and_parquet(written):
    column = header_array(written)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"B1_metadata": column}), sink)
    stored = pq.read_table(pa.BufferReader(sink.getvalue())).column(0)
    for row, header in enumerate(written):
        assert as_tuple(read_back(stored, row)) == as_tuple(header)


def test_tile_tables_are_views_of_the_column():
    layout = Layout(8, 8, 4, 4, 1, 8, 1, np.dtype("uint8"), 1, np.arange(4, dtype=np.uint64), np.ones(4, np.uint64))
    column = pa.chunked_array([header_array([TiffHeader((layout,), (None,))] * 3)])
    first, again = read_back(column, 1), read_back(column, 1)
    assert np.shares_memory(first.image.offsets, again.image.offsets)


def rasteret_row(**changes: object) -> dict[str, object]:
    row = {
        "image_width": 50, "image_height": 40, "tile_width": 16, "tile_height": 16, "dtype": "uint16",
        "transform": [10.0, 500_000.0, -10.0, 5_000_000.0], "predictor": 2, "compression": 8,
        "tile_offsets": list(range(12)), "tile_byte_counts": [1] * 12, "pixel_scale": [10.0, 10.0, 0.0],
        "tiepoint": [0.0] * 6, "nodata": 0.0, "samples_per_pixel": 1, "planar_configuration": 1, "photometric": 1,
        "extra_samples": None,
    }  # fmt: skip
    return row | changes


def of_rasteret(row: dict[str, object]) -> TiffHeader:
    kind = pa.struct([(name, s.HEADER.field(name).type) for name in rasteret_row()])
    return read_back(pa.chunked_array([pa.array([row], kind)]), 0)


def test_a_row_of_rasteret_is_a_header():
    header = of_rasteret(rasteret_row())
    assert header.transform == Affine(10, 0, 500_000, 0, -10, 5_000_000)
    assert (header.image.bits, header.image.sample_format, header.image.byte_order) == (16, 1, "<")
    assert header.image.tiled
    assert (header.nodata, type(header.nodata)) == (0, int)
    assert header.masks == (None,)


def test_a_row_of_rasteret_with_jpeg_is_refused():
    with pytest.raises(UnsupportedTiffError, match="JPEG tables"):
        of_rasteret(rasteret_row(compression=7))


@pytest.mark.parametrize("name", ["predictor", "samples_per_pixel", "planar_configuration", "photometric",
    "sample_format", "byte_order", "fill_order", "tiled", "extra_samples", "masks"])  # fmt: skip
@pytest.mark.parametrize("rows", [1, 2])
def test_what_decides_the_pixels_is_told_in_each_row(name: str, rows: int) -> None:
    """A null there was once read as the usual value: other pixels, without a word."""
    layout = Layout(8, 8, 8, 8, 1, 16, 1, np.dtype("uint16"), 8, np.ones(1, np.uint64), np.ones(1, np.uint64), 2)
    whole = header_array([TiffHeader((layout,), (None,))] * 2)
    records = [{**record, name: None} if row < rows else record for row, record in enumerate(whole.to_pylist())]
    column = pa.chunked_array([pa.array(records, whole.type)])
    with pytest.raises(IndexCorruptError, match=f"{name}.* null.*build the index again"):
        read_back(column, 0)
    if rows == 1:
        assert as_tuple(read_back(column, 1)) == as_tuple(TiffHeader((layout,), (None,)))
    known = [field for field in whole.type if field.name != name]
    if name in ("predictor", "samples_per_pixel", "planar_configuration", "photometric", "extra_samples"):
        return  # rasteret has these
    without = pa.array(
        whole.to_pylist(), pa.struct(known)
    )  # of an older version: fields that are not there are as usual
    assert read_back(pa.chunked_array([without]), 0).image.width == 8


@pytest.mark.parametrize("name", ["extra_samples", "subsampling", "lerc_parameters", "scales", "offsets", "color_map"])
def test_nulls_in_lists_are_typed(name: str) -> None:
    layout = Layout(8, 8, 8, 8, 1, 16, 1, np.dtype("uint16"), 1, np.ones(1, np.uint64), np.ones(1, np.uint64))
    whole = header_array([TiffHeader((layout,), (None,))])
    damaged = pa.array([{**whole[0].as_py(), name: [None, None]}], whole.type)
    with pytest.raises(IndexCorruptError, match="build the index again"):
        read_back(pa.chunked_array([damaged]), 0)


def test_a_header_column_without_predictors_is_refused_where_the_codec_has_some() -> None:
    fields = [(name, s.HEADER.field(name).type) for name in rasteret_row() if name != "predictor"]
    rows = [{**rasteret_row(compression=compression)} for compression in (8, 1)]
    column = pa.chunked_array([pa.array(rows, pa.struct(fields))])
    with pytest.raises(IndexCorruptError, match="predictor"):
        read_back(column, 0)
    assert read_back(column, 1).image.predictor == 1


@pytest.mark.parametrize("name", ["tile_offsets", "tile_byte_counts"])
def test_a_null_in_a_tile_table_concerns_its_row_alone(name: str) -> None:
    """It made numbers of the whole column floats, and other places of them."""
    layout = Layout(8, 8, 4, 4, 1, 8, 1, np.dtype("uint8"), 1, np.arange(4, dtype=np.uint64), np.ones(4, np.uint64))
    whole = header_array([TiffHeader((layout,), (None,))] * 3)
    records = [
        {**record, name: [5, None, 7, 8]} if row == 1 else record for row, record in enumerate(whole.to_pylist())
    ]
    column = pa.chunked_array([pa.array(records, whole.type)])
    for row in (0, 2):
        assert as_tuple(read_back(column, row)) == as_tuple(TiffHeader((layout,), (None,)))
    with pytest.raises(IndexCorruptError, match="holds a null"):
        read_back(column, 1)


def test_an_overview_that_is_null_is_typed() -> None:
    layout = Layout(8, 8, 8, 8, 1, 16, 1, np.dtype("uint16"), 1, np.ones(1, np.uint64), np.ones(1, np.uint64))
    whole = header_array([TiffHeader((layout,), (None,))])
    damaged = pa.array([{**whole[0].as_py(), "overviews": [None], "masks": [None, None]}], whole.type)
    with pytest.raises(IndexCorruptError, match="overviews is null"):
        read_back(pa.chunked_array([damaged]), 0)


@pytest.mark.parametrize("compression", [1, 5, 8])
def test_a_row_of_rasteret_names_the_predictor_of_a_codec_that_has_one(compression: int) -> None:
    row = rasteret_row(predictor=None, compression=compression)
    if compression == 1:
        assert of_rasteret(row).image.predictor == 1
        return
    with pytest.raises(IndexCorruptError, match="predictor is null"):
        of_rasteret(row)


@pytest.mark.parametrize(
    "damage",
    [
        {"dtype": "no such type"},
        {"tile_width": 0},
        {"image_width": None},
        {"transform": [1.0, 2.0]},
        {"transform": [10.0, 5.0, -10.0, 7.0] * 2},
        {"transform": [10.0, float("nan"), -10.0, 0.0]},
        {"transform": [1.0, 2.0, 0.0, 2.0, 4.0, 0.0]},
        {"transform": [1.0, None, 1.0, 2.0]},
        {"extra_samples": [None]},
        {"predictor": None},
    ],
)
def test_damaged_rows_are_typed(damage):
    with pytest.raises(IndexCorruptError, match="build the index again"):
        of_rasteret(rasteret_row(**damage))
