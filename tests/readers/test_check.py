"""Files that changed, vanished or broke since they were indexed are found and named."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import rasterio
from scenes import DATED, write_dated, write_tiff

import rasteret_torch as rt
from rasteret_torch.errors import BandNotFoundError, InputError
from rasteret_torch.index.schema import RASTERET_FIELDS


@pytest.fixture
def folder(tmp_path):
    write_dated(tmp_path / "tiffs", bands=2)
    return tmp_path / "tiffs"


def build(folder):
    return rt.build_from_files(folder, filename_regex=DATED, progress=False)


def test_untouched_files_are_well(folder):
    report = build(folder).check(depth="tile")
    assert report.ok
    assert [one.bands for one in report.files] == [("B1", "B2")] * 3
    assert not report.is_sample
    assert str(report) == "3 of 3 files are as the index says (tiles compared)"


def test_what_happened_is_told_apart(folder):
    index = build(folder)
    one, two, three = sorted(folder.iterdir())
    write_tiff(one, bands=2, seed=99, shape=(40, 60))
    two.unlink()
    three.write_bytes(b"not a TIFF" * 100)
    report = index.check()
    assert [file.status for file in report.files] == ["changed", "missing", "unreadable"]
    assert "width is 60, the index says 50" in report.files[0].detail
    assert "bytes, the index says" in report.files[0].detail
    assert report.files[1].item_id == "scene_20200219"
    assert not report.ok
    record = json.loads(json.dumps(report.to_dict()))
    assert record["counts"] == {"changed": 1, "missing": 1, "unreadable": 1}
    assert report.to_table().column("status").to_pylist() == ["changed", "missing", "unreadable"]
    assert "missing" in report._repr_html_()


def test_the_same_size_with_other_tiles_is_a_change(folder):
    index = build(folder)
    one, two, _ = sorted(folder.iterdir())
    size = max(one.stat().st_size, two.stat().st_size)
    for path in (one, two):
        with path.open("ab") as file:
            file.write(bytes(size - path.stat().st_size))
    index = build(folder)
    os.replace(shutil.copy(two, folder / "copy.bin"), one)
    detail = index.check().files[0].detail
    assert "lie elsewhere" in detail
    assert "transform" in detail


def test_a_damaged_tile_shows_where_tiles_are_read(folder):
    index = build(folder)
    path = sorted(folder.iterdir())[1]
    header = index.runtime.source(1, "B1").header.image
    place = int(header.offsets[header.tile_index(20 // 16, 25 // 16, 0)])
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"\xff" * int(header.counts[0] // 2))
    assert index.check().ok
    report = index.check(depth="tile")
    assert [one.status for one in report.files] == ["ok", "unreadable", "ok"]


def test_each_band_of_a_planar_file_is_looked_at_where_rows_hold_its_tiles_alone(tmp_path):
    path = write_tiff(tmp_path / "2020_planar.tif", bands=2, interleave="band")
    table = rt.build_from_files([path], filename_regex=r"(?P<date>\d{4})_planar", date_format="%Y").to_table()
    stored = {}
    for number, name in enumerate(("B1", "B2")):
        (header,) = table.column(f"{name}_metadata").to_pylist()
        tiles = len(header["tile_offsets"]) // 2
        own = slice(number * tiles, (number + 1) * tiles)
        split = {part: header[part][own] for part in ("tile_offsets", "tile_byte_counts")}
        stored[f"{name}_metadata"] = {part: header[part] for part in PLANAR_ROW} | split
    for name, header in stored.items():
        kind = table.schema.field(name).type
        fields = [kind.field(part) for part in header]
        table = table.set_column(table.schema.get_field_index(name), name, pa.array([header], pa.struct(fields)))
    index = rt.as_collection(table)
    assert index.check(depth="tile").ok
    with path.open("r+b") as file:
        file.seek(stored["B2_metadata"]["tile_offsets"][5])
        file.write(b"\xff" * (stored["B2_metadata"]["tile_byte_counts"][5] // 2))
    assert [(one.bands, one.status) for one in index.check(depth="tile").files] == [(("B1", "B2"), "unreadable")]


PLANAR_ROW = (
    "image_width", "image_height", "tile_width", "tile_height", "dtype", "transform", "predictor", "compression",
    "nodata", "samples_per_pixel", "planar_configuration", "photometric", "extra_samples",
)  # fmt: skip


def test_assets_without_a_header_are_named(folder):
    table = build(folder).to_table()
    place = table.schema.get_field_index("B1_metadata")
    column = table.column(place).combine_chunks()
    gone = pa.array([True, False, False])
    emptied = pa.StructArray.from_arrays(
        [column.field(n) for n in range(column.type.num_fields)], fields=list(column.type), mask=gone
    )
    index = rt.as_collection(table.set_column(place, table.schema.field(place), emptied))
    report = index.check("B1")
    assert [one.status for one in report.files] == ["not indexed", "ok", "ok"]
    assert [one.bands for one in index.check().files] == [("B1",), ("B2",), ("B1", "B2"), ("B1", "B2")]
    assert report.files[0].href.endswith("scene_20200101.tif")


def test_a_file_that_could_not_be_indexed_is_one_line(folder):
    (folder / "scene_20230101.tif").write_bytes(b"no TIFF")
    with pytest.warns(UserWarning, match="1 of 4 files could not be indexed"):
        index = build(folder)
    assert [(one.bands, one.status) for one in index.check().files] == [
        (("B1", "B2"), status) for status in ("not indexed", "ok", "ok", "ok")
    ]


def test_a_sample_is_bounded_and_repeats(naip):
    report = naip.check(sample=10, seed=3)
    assert report.is_sample
    assert 1 <= len(report.files) <= 10
    assert report == naip.check(sample=10, seed=3)
    assert len(naip.check(sample=None).files) == 24


def test_over_http(range_server, tmp_path):
    for path in write_dated(tmp_path / "tiffs"):
        shutil.copy(path, range_server.folder / path.name)
    urls = [range_server.url(path.name) for path in sorted((tmp_path / "tiffs").iterdir())]
    index = rt.build_from_files(urls, filename_regex=DATED, progress=False)
    assert index.check(depth="tile").ok
    with rasterio.open(range_server.folder / "scene_20200219.tif", "r+") as file:
        file.write(np.ones((1, 40, 50), "uint16"))
    (range_server.folder / "scene_20210630.tif").unlink()
    report = index.check()
    assert [one.status for one in report.files] == ["ok", "changed", "missing"]
    assert "lie elsewhere" in report.files[1].detail


def test_refusals(folder):
    index = build(folder)
    with pytest.raises(BandNotFoundError):
        index.check("B9")
    with pytest.raises(InputError, match="at least 1"):
        index.check(sample=0)
    with pytest.raises(InputError, match="'header' or 'tile'"):
        index.check(depth="pixels")


def test_what_rasteret_did_not_write_down_is_told(tmp_path):
    """Its rows know nothing of bit depths, byte orders and masks, so that other pixels would be read than there are."""
    odd = {"twelve": {"nbits": 12}, "turned": {"endianness": "BIG"}, "masked": {}, "plain": {}}
    paths = [write_tiff(tmp_path / name / "scene_20200219.tif", **options) for name, options in odd.items()]
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(paths[2], "r+") as file:
        file.write_mask(np.eye(40, 50, dtype=bool))
    index = rt.build_from_files(paths, filename_regex=DATED, progress=False)
    table = index.to_table()
    number = table.schema.get_field_index("B1_metadata")
    column = table.column(number).combine_chunks()
    kept = pa.StructArray.from_arrays([column.field(name) for name in RASTERET_FIELDS], list(RASTERET_FIELDS))
    report = rt.as_collection(table.set_column(number, "B1_metadata", kept)).check()
    told = {Path(one.href).parent.name: one.detail for one in report.files}
    assert told == {
        "twelve": "bits is 12, the index says 16",
        "turned": "byte_order is >, the index says <",
        "masked": "it has a mask, of which the index does not know",
        "plain": "",
    }
    assert index.check().ok
