"""Headers of alike files are those that each row would give for itself, and odd rows are never taken for alike."""

import dataclasses
import datetime as dt
import math
import pickle
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from affine import Affine

from rasteret_torch.errors import IndexCorruptError
from rasteret_torch.index import compact
from rasteret_torch.index.arrow import children_of
from rasteret_torch.index.headers import header_array, header_columns, header_of
from rasteret_torch.index.stored import HeaderChunk
from rasteret_torch.tiff.limits import check_header
from rasteret_torch.tiff.model import Layout, TiffHeader


def image(side: int, first: int, **changes: object) -> Layout:
    count = (-(-side // 16)) ** 2
    counts = np.arange(1, count + 1, dtype=np.uint64)
    layout = Layout(
        side, side, 16, 16, 1, 16, 1, np.dtype(np.uint16), 8, compact.offsets_of(first, 8, counts), counts, leader=4
    )
    return dataclasses.replace(layout, **changes)


def header(number: int, **changes: object) -> TiffHeader:
    return dataclasses.replace(
        TiffHeader(
            levels=(image(64, 900 + number), image(32, 300 + number), image(16, 100 + number)),
            masks=(None, None, None),
            transform=Affine(10.0, 0.0, 1000.0 * number, 0.0, -10.0, 0.0),
            crs="EPSG:32633",
            nodata=math.nan,
            scales=(0.1,),
            band_names=("B04",),
            file_size=5000 + number,
            etag=f'"{number}"',
            last_modified=dt.datetime(2024, 1, 1, tzinfo=dt.UTC) + dt.timedelta(number),
        ),
        **changes,
    )


def chunk(*headers: TiffHeader | Exception | None, stored: bool = False) -> HeaderChunk:
    """As in memory, or as it lies on disk with short tile tables."""
    column = header_array(headers)
    return HeaderChunk(compact.unchained(compact.compacted(column)) if stored else column)


def plain(value: object) -> object:
    """Comparable; NaN is itself."""
    if isinstance(value, TiffHeader | Layout):
        return [(one.name, plain(getattr(value, one.name))) for one in dataclasses.fields(value)]
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, float | Affine):
        return repr(value)
    is_several = isinstance(value, Sequence) and not isinstance(value, str)
    return [plain(one) for one in value] if is_several else value


@pytest.mark.parametrize("stored", [False, True], ids=["lists", "short"])
@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
def test_alike_headers_are_those_of_the_rows(stored, masked):
    masks = {"masks": (image(64, 9000, bits=1, dtype=np.dtype(np.uint8)), None, None)} if masked else {}
    headers = [header(number, **masks) for number in range(5)]
    found = chunk(*headers, stored=stored)
    assert found.alike is not None
    for row, one in enumerate(headers):
        made = found.alike.header(row)
        assert plain(made) == plain(one) == plain(header_of(found.record(row), found.tables(row)))
        assert made.sizes == one.sizes == ((64, 64), (32, 32), (16, 16))
        assert plain(made.levels[-1]) == plain(one.levels[2])
        assert len(made.levels[1:]) == 2
        check_header(made)


def test_bands_that_were_made_together_are_alike_each_for_itself():
    bands = {
        "red": [header(number) for number in range(3)],
        "nir": [header(number, nodata=7) for number in range(3, 6)],
    }
    for name, column in header_columns(bands).items():
        found, headers = HeaderChunk(column), bands[name.removesuffix("_metadata")]
        assert found.alike is not None
        assert [plain(found.alike.header(row)) for row in range(3)] == [plain(one) for one in headers]
        assert plain(header_of(found.record(2), found.tables(2))) == plain(headers[2])


def test_only_levels_that_are_asked_for_are_made_and_they_pickle_without_the_index():
    found = chunk(*map(header, range(200)))
    made = found.alike.header(7)
    assert not made.levels._made
    assert made.image is made.levels[0]
    assert list(made.levels._made) == [0]
    with pytest.raises(IndexError):
        made.levels[3]
    copy = pickle.loads(pickle.dumps(made))
    assert isinstance(copy.levels, tuple)
    assert plain(copy) == plain(made)
    assert len(pickle.dumps(made)) < 5000


SHORT = np.ones(3, np.uint64)
ODD = {
    "no header": None,
    "error": IndexCorruptError("bad"),
    "other nodata": header(1, nodata=0.0),
    "other size": header(1, levels=(image(80, 900), image(32, 300), image(16, 100))),
    "other overview": header(1, levels=(image(64, 900), image(48, 300), image(16, 100))),
    "fewer levels": header(1, levels=(image(64, 900), image(32, 300)), masks=(None, None)),
    "other codec": header(1, levels=(image(64, 900), image(32, 300, compression=5), image(16, 100))),
    "other text": header(1, band_names=("B08",)),
    "a mask": header(1, masks=(image(64, 5000), None, None)),
    "short table": header(1, levels=(image(64, 900, offsets=SHORT, counts=SHORT), image(32, 300), image(16, 100))),
    "short tables": header(1, levels=(image(64, 900), image(32, 300, offsets=SHORT, counts=SHORT), image(16, 1))),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("place", [0, 1, 3])
def test_one_odd_row_is_enough(odd, place):
    rows = [header(number) for number in range(3)]
    rows.insert(place, ODD[odd])
    assert chunk(*rows).alike is None


def rebuilt(mask: list[bool], **columns: pa.Array) -> HeaderChunk:
    """Good headers, of which some are null, or with other columns."""
    column = header_array([header(number) for number in range(3)])
    children = children_of(column) | columns
    fields = [column.type.field(name) for name in children]
    return HeaderChunk(pa.StructArray.from_arrays(list(children.values()), fields=fields, mask=pa.array(mask)))


def test_what_lies_below_a_null_or_beside_an_error_means_nothing():
    assert rebuilt([False, False, False]).alike is not None
    assert rebuilt([False, True, False]).alike is None
    assert rebuilt([True, True, True]).alike is None
    assert rebuilt([False, False, False], error=pa.array(["TiffError: bad"] * 3)).alike is None


def test_a_transform_that_is_none_is_found_in_its_row():
    flat = Affine(10.0, 0.0, 0.0, 10.0, 0.0, 0.0)
    found = chunk(header(0), header(1, transform=flat), header(2, transform=None))
    assert found.alike.header(0).transform.a == 10.0
    assert found.alike.header(2).transform is None
    with pytest.raises(IndexCorruptError, match="no map"):
        found.alike.header(1)
