"""Rows by number: sources, grids, bounds, and errors that name item and band."""

import datetime as dt
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio.warp import transform_bounds
from scenes import write_tiff

from rasteret_torch.errors import (
    BandNotFoundError,
    InputError,
    NotATiffError,
    TiffError,
)
from rasteret_torch.geo import Grid, parse_crs
from rasteret_torch.index import as_collection, dates
from rasteret_torch.index import schema as s
from rasteret_torch.index.headers import header_array
from rasteret_torch.ingest import build_from_files
from rasteret_torch.tiff.model import Layout, TiffHeader


def test_sources_are_what_rasterio_reads(dated):
    runtime = dated.runtime
    assert (runtime.count, len(runtime)) == (3, 3)
    for row in range(3):
        for sample, band in enumerate(("red", "nir")):
            source = runtime.source(row, band)
            assert (source.item_id, source.band, source.sample) == (runtime.ids[row], band, sample)
            with rasterio.open(source.href) as file:
                assert runtime.grid(row, band) == Grid(file.transform, file.shape, parse_crs(32632))
                assert source.header.image.dtype == file.dtypes[sample]
            assert source.header.file_size == Path(source.href).stat().st_size
    assert runtime.source(1, "nir") is runtime.source(1, "nir")


def test_a_view_numbers_its_own_rows(dated):
    view = dated.subset(date_range=("2020-02-01", None))
    assert view.runtime.ids == ("scene_20200219", "scene_20210630")
    assert view.runtime.source(0, "red").item_id == "scene_20200219"
    assert view.runtime.grids("red")[0][:, 2].tolist() == [501_000.0, 502_000.0]
    assert view.runtime.start_us[0] == dates.micros(dt.datetime(2020, 2, 19))
    assert view.runtime.end_us[0] == dates.micros(dt.datetime(2020, 2, 19, 23, 59, 59, 999999))


def test_grids_and_bounds(dated):
    transforms, shapes, crs_ids = dated.runtime.grids("red")
    assert (transforms.dtype, shapes.dtype, crs_ids.dtype) == (np.float64, np.int64, np.int32)
    assert transforms[1].tolist() == [10.0, 0.0, 501_000.0, 0.0, -10.0, 5_000_000.0]
    assert shapes.tolist() == [[40, 50]] * 3
    assert dated.runtime.crs_list[crs_ids[0]] == parse_crs(32632)
    own = dated.runtime.bounds()
    assert own[0].tolist() == [500_000.0, 4_999_600.0, 500_500.0, 5_000_000.0]
    lonlat = dated.runtime.bounds(parse_crs(4326), band="red")
    for row in range(3):
        assert lonlat[row] == pytest.approx(transform_bounds("EPSG:32632", "EPSG:4326", *own[row]), abs=1e-9)
    assert dated.runtime.bounds("EPSG:32632").tolist() == own.tolist()
    with pytest.raises(BandNotFoundError, match="red"):
        dated.runtime.grids("blue")


def test_bounds_of_mixed_crs(tmp_path):
    write_tiff(tmp_path / "a.tif")
    write_tiff(tmp_path / "b.tif", crs="EPSG:32633", transform=Affine(10, 0, 400_000, 0, -10, 5_000_000))
    with pytest.warns(UserWarning, match="no date"):
        mixed = build_from_files(tmp_path, progress=False)
    assert [crs.to_epsg() for crs in mixed.runtime.crs_list] == [32632, 32633]
    assert mixed.runtime.grids("B1")[2].tolist() == [0, 1]
    own, merged = mixed.runtime.bounds(), mixed.runtime.bounds(32633)
    assert own[1].tolist() == merged[1].tolist()
    assert merged[0] == pytest.approx(transform_bounds("EPSG:32632", "EPSG:32633", *own[0]), abs=0.01)


def test_rotated_grids_are_projected_by_their_own_edge(tmp_path):
    turned = Affine.translation(500_000, 5_000_000) @ Affine.rotation(30) @ Affine.scale(10, -10)
    write_tiff(tmp_path / "a_20200101.tif", transform=turned)
    c = build_from_files(tmp_path, filename_regex=r"a_(?P<date>\d+)", progress=False)
    with rasterio.open(tmp_path / "a_20200101.tif") as file:
        corners = [file.transform @ corner for corner in ((0, 0), (50, 0), (0, 40), (50, 40))]
    xs, ys = zip(*corners, strict=True)
    assert c.runtime.bounds()[0] == pytest.approx([min(xs), min(ys), max(xs), max(ys)])
    assert shapely.from_wkb(c.geometry[0].as_py()).area < 0.8 * shapely.box(*c.bounds).area


def test_across_the_antimeridian(tmp_path):
    write_tiff(tmp_path / "a_20200101.tif", crs="EPSG:32660", transform=Affine(1000, 0, 810_000, 0, -1000, 1_000_000))
    c = build_from_files(tmp_path, filename_regex=r"a_(?P<date>\d+)", progress=False)
    west, _, east, _ = c.runtime.bounds(4326)[0]
    assert west > 178 > -178 > east
    assert c.runtime.bounds(4326)[0][[0, 2]] == pytest.approx(
        [c.column("bbox")[0].as_py()["xmin"], c.column("bbox")[0].as_py()["xmax"]], abs=1e-4
    )
    shape = shapely.from_wkb(c.geometry[0].as_py())
    assert shape.geom_type == "MultiPolygon"
    assert shape.bounds[0] == -180
    assert shape.bounds[2] == 180
    for here in ((179.9, 8.8, 179.95, 8.9), (-179.95, 8.8, -179.9, 8.9), (179.9, 8.8, -179.9, 8.9)):
        assert c.find(here).tolist() == [0]
        assert len(c.subset(bbox=here)) == 1
    assert c.find((0, 8.8, 1, 8.9)).tolist() == []


def test_around_a_pole(tmp_path):
    write_tiff(tmp_path / "a_2020.tif", crs="EPSG:3413", transform=Affine(1e5, 0, -2e6, 0, -1e5, 2.5e6))
    c = build_from_files(tmp_path, filename_regex=r"a_(?P<date>\d+)", date_format="%Y", progress=False)
    xmin, ymin, xmax, ymax = c.runtime.bounds(4326)[0]
    assert (xmin, xmax, ymax) == (-180, 180, 90)
    assert 50 < ymin < 75
    assert shapely.from_wkb(c.geometry[0].as_py()).covers(shapely.Point(0, 89.99))


def test_errors_name_item_and_band(tmp_path):
    write_tiff(tmp_path / "good_20200101.tif")
    (tmp_path / "text_20200102.tif").write_text("hello")
    with pytest.warns(UserWarning, match="1 of 2 files could not be indexed"):
        c = build_from_files(tmp_path, filename_regex=r"\w+_(?P<date>\d{8})", progress=False)
    with pytest.raises(NotATiffError, match="item 'text_20200102', band 'B1' could not be indexed"):
        c.runtime.source(1, "B1")
    with pytest.raises(BandNotFoundError, match=r"no band 'B9' in this collection; it has \['B1'\]"):
        c.runtime.source(0, "B9")
    with pytest.raises(InputError, match="row 2 of a collection of 2"):
        c.runtime.source(2, "B1")
    assert np.isnan(c.runtime.bounds()[1]).all()
    assert c.runtime.grids("B1")[2].tolist() == [0, -1]


def test_a_file_of_many_samples_needs_a_band_index(dated):
    table = dated.to_table()
    assets = [{"red": {"href": row["red"]["href"]}} for row in table.column("assets").to_pylist()]
    bare = table.set_column(table.schema.get_field_index("assets"), "assets", pa.array(assets))
    with pytest.raises(InputError, match="file of 2 samples and the index has no band_index"):
        as_collection(bare).runtime.source(0, "red")


def test_items_without_a_band(dated):
    table = dated.to_table()
    assets = [
        {"red": row["red"], "nir": None if n else row["nir"]}
        for n, row in enumerate(table.column("assets").to_pylist())
    ]
    partial = as_collection(
        table.set_column(
            table.schema.get_field_index("assets"), "assets", pa.array(assets, table.schema.field("assets").type)
        )
    )
    assert partial.runtime.source(0, "nir").band == "nir"
    with pytest.raises(BandNotFoundError, match="item 'scene_20200219' has no band 'nir'") as caught:
        partial.runtime.source(1, "nir")
    assert "where(pyarrow.compute.field('assets', 'nir').is_valid())" in str(caught.value)
    assert partial.where(pc.field("assets", "nir").is_valid()).runtime.ids == ("scene_20200101",)


def test_without_headers_it_filters_but_does_not_read(dated):
    bare = as_collection(dated.to_table(["id", "datetime", "geometry", "assets"]))
    assert bare.bands == ["red", "nir"]
    assert len(bare.subset(bbox=(8.9, 45.1, 9.1, 45.2))) == 3
    with pytest.raises(InputError, match="enrich_cog=True"):
        bare.runtime.source(0, "red")


def test_a_hostile_index_is_checked(dated):
    layout = Layout(
        2**30, 2**30, 2**30, 2**30, 1, 8, 1, np.dtype("uint8"), 8, np.ones(1, np.uint64), np.ones(1, np.uint64)
    )
    table = dated.head(1).to_table()
    column = header_array([TiffHeader((layout,), (None,), Affine.identity(), "EPSG:4326")])
    hostile = as_collection(table.set_column(table.schema.get_field_index("red_metadata"), "red_metadata", column))
    with pytest.raises(TiffError, match="item 'scene_20200101', band 'red'"):
        hostile.runtime.source(0, "red")


def test_a_planar_row_of_rasteret_has_one_plane(tmp_path, dated):
    path = write_tiff(tmp_path / "2020_planar.tif", bands=3, interleave="band")
    c = build_from_files(
        [path], bands=["a", "b", "c"], filename_regex=r"(?P<start>\d{4})_planar", date_format="%Y", progress=False
    )
    whole = c.runtime.source(0, "b").header.image
    tiles = whole.tiles_across * whole.tiles_down
    record = header_array([c.runtime.source(0, "b").header])[0].as_py()
    row = {name: value for name, value in record.items() if name in RASTERET}
    row |= {
        "tile_offsets": whole.offsets[tiles : 2 * tiles].view(np.int64),
        "tile_byte_counts": whole.counts[tiles : 2 * tiles].view(np.int64),
    }
    kind = pa.struct([(name, s.HEADER.field(name).type) for name in row])
    table = (
        c.to_table()
        .drop_columns(["a_metadata", "b_metadata", "c_metadata"])
        .append_column("b_metadata", pa.array([row], kind))
    )
    source = as_collection(table).runtime.source(0, "b")
    assert (source.sample, source.header.image.samples, source.header.image.planes) == (0, 1, 1)
    assert source.header.image.offsets.tolist() == whole.offsets[tiles : 2 * tiles].tolist()
    assert source.header.crs == "EPSG:32632"  # of the row: rasteret's headers have none


RASTERET = {
    "image_width", "image_height", "tile_width", "tile_height", "dtype", "transform", "predictor", "compression",
    "tile_offsets", "tile_byte_counts", "nodata", "samples_per_pixel", "planar_configuration", "photometric",
    "extra_samples",
}  # fmt: skip


def test_a_long_stack_is_parsed_once(dated):
    """Ten years of one place in a dozen bands: every chip there plans all of them, in the same order."""
    rows = pa.array(np.arange(4200) % 3)
    table = dated.to_table().take(rows)
    table = table.set_column(table.schema.get_field_index("id"), "id", pa.array([f"item{row}" for row in range(4200)]))
    runtime = as_collection(table).runtime
    once = [runtime.source(row, band) for row in range(4200) for band in ("red", "nir")]
    again = [runtime.source(row, band) for row in range(4200) for band in ("red", "nir")]
    assert all(one is other for one, other in zip(once, again, strict=True))


@pytest.mark.slow
def test_a_hundred_thousand_items(dated):
    one = dated.head(1).to_table()
    count = 100_000
    table = one.take(pa.array(np.zeros(count, np.int64)))
    table = table.set_column(0, "id", pa.array([f"item{number}" for number in range(count)]))
    large = as_collection(table)
    start = time.process_time()
    runtime = large.runtime
    runtime.source(0, "red")
    assert time.process_time() - start < 2
    rows = np.random.default_rng(0).permutation(count)[:300].tolist()
    for row in rows:
        assert runtime.source(row, "nir").item_id == f"item{row}"
    start = time.process_time()
    for row in rows:
        runtime.source(row, "red")
    assert (time.process_time() - start) / len(rows) < 3e-3  # a tenth of that on an idle machine
    start = time.process_time()
    for row in rows:
        runtime.source(row, "red")
    assert (time.process_time() - start) / len(rows) < 5e-5
