"""`build_from_files`: what becomes an item, a band and a date; and one clear sentence for what cannot be indexed."""

import datetime as dt
import os
import warnings
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
import rasterio
from scenes import DATED, write_dated, write_tiff

from rasteret_torch.errors import (
    BandNotFoundError,
    ErrorBudgetExceededError,
    InputError,
    NotATiffError,
    NotGeoreferencedError,
    ObjectNotFoundError,
)
from rasteret_torch.index import Collection, dates, load
from rasteret_torch.ingest import build_from_files
from rasteret_torch.ingest.files import expand
from rasteret_torch.ingest.names import parse_names, unique_ids

NAIP = r"m_(?P<quad>\d+)_.._\d+_\d+_(?P<date>\d{8})\.tif"


def build(paths, **options) -> Collection:
    return build_from_files(paths, progress=False, **({"filename_regex": DATED} | options))


def period(collection: Collection, row: int = 0) -> tuple[dt.datetime, dt.datetime]:
    runtime = collection.runtime
    return tuple(dates.moment(int(side[row])).replace(tzinfo=None) for side in (runtime.start_us, runtime.end_us))


def test_naip(shared_data):
    c = build(shared_data / "geotiff/imagery/naip_4709963", bands=["R", "G", "B", "NIR"], filename_regex=NAIP)
    assert len(c) == 5
    assert c.bands == ["R", "G", "B", "NIR"]
    assert c.epsg == [26914]
    assert c.column("quad").to_pylist() == ["4709963"] * 5
    assert [str(day)[:10] for day in c.column("datetime").to_pylist()] == [
        "2009-08-18", "2012-07-31", "2014-07-20", "2015-09-26", "2016-08-16",
    ]  # fmt: skip
    for row in range(5):
        source = c.runtime.source(row, "NIR")
        with rasterio.open(source.href) as file:
            assert tuple(c.runtime.bounds()[row]) == pytest.approx(tuple(file.bounds), abs=1e-6)
            assert c.runtime.grid(row, "NIR").transform == file.transform
        assert source.sample == 3


def test_real_files_in_their_own_places(shared_data):
    with warnings.catch_warnings(action="ignore"):
        c = build(sorted((shared_data / "geotiff/imagery").rglob("*.tif")), filename_regex=None)
    assert len(c) > 25
    for row in np.flatnonzero(np.array(c.column("status").to_pylist()) == "ok").tolist():
        source = c.runtime.source(row, "B1")
        with rasterio.open(source.href) as file:
            assert tuple(c.runtime.bounds(band="B1")[row]) == pytest.approx(tuple(file.bounds), rel=1e-9)
            assert source.header.image.samples == file.count


@pytest.mark.parametrize("form", ["folder", "glob", "list", "one", "url"])
def test_paths_of_many_kinds(tmp_path, form):
    files = write_dated(tmp_path / "deep" / "tiffs")
    given = {
        "folder": tmp_path,
        "glob": str(tmp_path / "**" / "*.tif"),
        "list": [str(files[0]), files[1], files[2].parent],
        "one": files[0],
        "url": files[0].as_uri(),
    }[form]
    c = build(given)
    assert len(c) == (1 if form in ("one", "url") else 3)
    assert c.runtime.source(0, "B1").href.endswith("scene_20200101.tif")


def test_over_http(range_server):
    for number, day in enumerate(("20200101", "20200219")):
        write_tiff(range_server.folder / f"scene_{day}.tif", seed=number)
    urls = [range_server.url(f"scene_{day}.tif") for day in ("20200101", "20200219")]
    c = build([*urls, urls[0]])
    assert len(c) == 2
    header = c.runtime.source(1, "B1").header
    assert header.etag
    assert header.file_size == (range_server.folder / "scene_20200219.tif").stat().st_size
    assert header.last_modified is not None


def test_bands_of_one_file_share_one_parse(range_server):
    write_tiff(range_server.folder / "scene_20200303.tif", bands=4)
    c = build([range_server.url("scene_20200303.tif")], bands=["a", "b", "c", "d"])
    assert len([hit for hit in range_server.hits if "scene_20200303" in hit.target]) == 1
    assert [c.runtime.source(0, band).sample for band in c.bands] == [0, 1, 2, 3]


def test_files_that_differ_in_their_band_are_one_item(tmp_path):
    for band in ("B02", "B03", "B8A"):
        for day in ("20200101", "20200219"):
            write_tiff(tmp_path / f"T32_{day}_{band}_10m.tif")
    regex = r"T32_(?P<date>\d{8})_(?P<band>B\w\w)_(?P<resolution>\d+)m\.tif"
    c = build(tmp_path, filename_regex=regex)
    assert c.column("id").to_pylist() == ["T32_20200101_m", "T32_20200219_m"]
    assert c.bands == ["B02", "B03", "B8A"]
    assert c.runtime.source(1, "B8A").href.endswith("T32_20200219_B8A_10m.tif")
    two = build(tmp_path, filename_regex=regex, bands=["B8A", "B02"])
    assert two.bands == ["B8A", "B02"]
    with pytest.raises(BandNotFoundError, match=r"no file name has band \['B99'\]; they have \['B02', 'B03', 'B8A'\]"):
        build(tmp_path, filename_regex=regex, bands=["B99"])
    bare = parse_names(["/s2/of_may/B02.tif", "/s2/of_june/B02.tif"], r"(?P<band>B\d\d)", "%Y")
    assert unique_ids(bare) == ["of_may_B02", "of_june_B02"]


def test_two_files_of_one_band_are_refused(tmp_path):
    for version in (1, 2):
        write_tiff(tmp_path / f"s_20200101_B02.v{version}.tif")
    with pytest.raises(InputError, match="two files of item"):
        build(
            [
                tmp_path / "s_20200101_B02.v1.tif",
                tmp_path / "s_20200101_B02.v1.tif",
                tmp_path / "s_20200101_B02.v2.tif",
            ],
            filename_regex=r"s_(?P<date>\d{8})_(?P<band>B\d\d)(?P<resolution>\.v\d)\.tif",
        )


def test_bands_by_number(tmp_path):
    write_tiff(tmp_path / "scene_20200101.tif", bands=3)
    assert build(tmp_path).bands == ["B1", "B2", "B3"]
    some = build(tmp_path, bands={"nir": 2})
    assert some.bands == ["nir"]
    assert some.runtime.source(0, "nir").sample == 2
    with pytest.raises(InputError, match=r"has 3 samples but bands=\['r', 'g'\] names 2"):
        build(tmp_path, bands=["r", "g"])
    with pytest.raises(InputError, match="not among them"):
        build(tmp_path, bands={"nir": 3})
    with pytest.raises(InputError, match="each once"):
        build(tmp_path, bands=["r", "r", "g"])


def test_equal_names_get_ids_of_their_folders(tmp_path):
    for folder in ("north", "south"):
        write_tiff(tmp_path / folder / "scene_20200101.tif")
    assert build(tmp_path).column("id").to_pylist() == ["north_scene_20200101", "south_scene_20200101"]


@pytest.mark.parametrize(
    ("name", "date_format", "start", "end"),
    [
        ("x_2020", "%Y", "2020-01-01T00:00:00", "2020-12-31T23:59:59.999999"),
        ("x_202002", "%Y%m", "2020-02-01T00:00:00", "2020-02-29T23:59:59.999999"),
        ("x_20200219", "%Y%m%d", "2020-02-19T00:00:00", "2020-02-19T23:59:59.999999"),
        ("x_2020050", "%Y%j", "2020-02-19T00:00:00", "2020-02-19T23:59:59.999999"),
        ("x_2020021910", "%Y%m%d%H", "2020-02-19T10:00:00", "2020-02-19T10:59:59.999999"),
        ("x_202002191030", "%Y%m%d%H%M", "2020-02-19T10:30:00", "2020-02-19T10:30:59.999999"),
        ("x_20200219103015", "%Y%m%d%H%M%S", "2020-02-19T10:30:15", "2020-02-19T10:30:15.999999"),
    ],
)
def test_partial_dates_cover_their_period(tmp_path, name, date_format, start, end):
    write_tiff(tmp_path / f"{name}.tif")
    c = build(tmp_path, filename_regex=r"x_(?P<date>\d+)", date_format=date_format)
    assert period(c) == (dt.datetime.fromisoformat(start), dt.datetime.fromisoformat(end))


def test_rows_are_stac_items(tmp_path):
    """As pystac and rustac want them; columns of the user's own of these names stay."""
    write_dated(tmp_path)
    table = load(build(tmp_path).save(tmp_path / "saved")).to_table()
    assert set(table.column("type").to_pylist()) == {"Feature"}
    assert set(table.column("stac_version").to_pylist()) == {"1.1.0"}
    assert table.column("links").to_pylist() == [[]] * len(table)
    own = build(tmp_path, filename_regex=r"(?P<type>[a-z]+)_(?P<date>\d{8})\.tif", bands=["B1"])
    assert "Feature" not in own.column("type").to_pylist()


def test_start_and_stop(tmp_path):
    write_tiff(tmp_path / "x_20200101_20200131.tif")
    c = build(tmp_path, filename_regex=r"x_(?P<start>\d{8})_(?P<stop>\d{8})")
    assert period(c) == (dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 31, 23, 59, 59, 999999))


def test_dates_of_the_tiff_and_of_the_file(tmp_path):
    path = write_tiff(tmp_path / "a.tif")
    with rasterio.open(path, "r+") as file:
        file.update_tags(TIFFTAG_DATETIME="2019:07:08 09:10:11")
    c = build(tmp_path, filename_regex=None)
    assert period(c) == (dt.datetime(2019, 7, 8, 9, 10, 11),) * 2
    os.utime(write_tiff(tmp_path / "b.tif"), (1_600_000_000, 1_600_000_000))
    with pytest.warns(UserWarning, match=r"no date of 1 of \d+ items \(such as that of 'b.tif'\)"):
        c = build(tmp_path, filename_regex=None)
    assert period(c, 1) == (dt.datetime(2020, 9, 13, 12, 26, 40),) * 2


def test_what_stops_before_it_starts_is_refused(tmp_path):
    path = write_tiff(tmp_path / "a_20200105_20200101.tif")
    with pytest.raises(InputError, match=r"stops \(20200101\) before it starts \(20200105\)"):
        build(path, filename_regex=r"a_(?P<start>\d{8})_(?P<stop>\d{8})")


def test_a_resolution_within_the_band_is_cut_out_once():
    names = ["/x/20200101_B10a.tif", "/x/20200101_B20a.tif", "/x/20200101_B10b.tif"]
    found = parse_names(names, r"(?P<date>\d{8})_(?P<band>B(?P<resolution>\d\d))", "%Y%m%d")
    assert [one.item for one in found] == ["/x/20200101_a.tif", "/x/20200101_a.tif", "/x/20200101_b.tif"]


def test_names_that_do_not_match_are_left_out(tmp_path):
    write_dated(tmp_path)
    write_tiff(tmp_path / "thumbnail.tif")
    assert len(build(tmp_path)) == 3
    with pytest.raises(InputError, match=r"matches none of 4 names such as 'scene_20200101\.tif'"):
        build(tmp_path, filename_regex="nothing")
    with pytest.raises(InputError, match="not a regular expression"):
        build(tmp_path, filename_regex="(")
    with pytest.raises(InputError, match=r"does not fit date_format='%d\.%m\.%Y'"):
        build(tmp_path, date_format="%d.%m.%Y")


def test_one_bad_file_is_one_row(tmp_path):
    write_dated(tmp_path, bands=2)
    (tmp_path / "scene_20200505.tif").write_text("this is text")
    write_tiff(tmp_path / "scene_20200606.tif", bands=2, crs=None)
    with pytest.warns(UserWarning, match="2 of 5 files could not be indexed"):
        c = build(tmp_path)
    assert c.bands == ["B1", "B2"]
    assert c.column("status").to_pylist() == ["ok", "ok", "error", "error", "ok"]
    assert "NotATiffError" in c.value(2, "error")
    assert "3 items" in repr(c.where(pc.field("status") == "ok"))
    with pytest.raises(NotATiffError):
        c.runtime.source(2, "B2")
    with pytest.raises(NotGeoreferencedError, match="is not georeferenced"):
        c.runtime.source(3, "B1")
    assert "errors  2 items" in repr(c)
    with warnings.catch_warnings(action="ignore"), pytest.raises(ErrorBudgetExceededError, match="2 of 5"):
        build(tmp_path, max_error_fraction=0.1)


def test_the_ground_of_another_planet_has_no_footprint_and_breaks_no_build(tmp_path):
    write_dated(tmp_path)
    mars = "+proj=eqc +lat_ts=-10 +lon_0=180 +R=3395582.027 +units=m +no_defs"
    write_tiff(tmp_path / "scene_20220101.tif", crs=mars)
    c = build(tmp_path)
    assert [value is None for value in c.column("geometry").to_pylist()] == [False, False, False, True]
    assert c.column("status").to_pylist() == ["ok"] * 4
    assert c.find(bbox=(-180, -90, 180, 90)).tolist() == [0, 1, 2]
    source = c.runtime.source(3, "B1")
    assert source.header.transform == c.runtime.grid(3, "B1").transform


def test_a_file_of_too_many_samples_names_none_by_itself(tmp_path):
    write_tiff(tmp_path / "scene_20200101.tif")
    hostile = write_tiff(tmp_path / "scene_20200102.tif", bands=1025, shape=(16, 16), compress="none")
    with pytest.warns(UserWarning, match="1 of 2 files could not be indexed"):
        collection = build(tmp_path)
    assert collection.bands == ["B1"]
    assert "1025 samples" in collection.value(1, "error")
    assert build(hostile, bands={"last": 1024}).bands == ["last"]


def test_bad_input_is_one_sentence(tmp_path):
    (tmp_path / "a.tif").write_text("this is text")
    with pytest.raises(NotATiffError, match=r"a\.tif"):
        build(tmp_path, filename_regex=None)
    with pytest.raises(NotGeoreferencedError, match="is not georeferenced; an index needs a place"):
        build(write_tiff(tmp_path / "b.tif", crs=None), filename_regex=None)
    with pytest.raises(ObjectNotFoundError, match="there is no file"):
        build(tmp_path / "missing.tif")
    with pytest.raises(ObjectNotFoundError, match=f"no file or folder {Path.home()}"):
        build("~/missing.tif")
    with pytest.raises(ObjectNotFoundError, match="no file matches"):
        build(str(tmp_path / "*.nothing"))
    with pytest.raises(ObjectNotFoundError, match="pass the URL itself"):
        build("/vsicurl/https://example.com/a.tif")
    for wrong in ({"B1": tmp_path / "a.tif"}, 3):
        with pytest.raises(InputError, match="is no list of files"):
            build(wrong)
    with pytest.raises(InputError, match="a saved collection needs a name"):
        build(tmp_path / "a.tif", filename_regex=None, workspace_dir=tmp_path)
    with pytest.raises(InputError, match=r"\['a', 'b'\] are a set"):
        build(tmp_path / "a.tif", filename_regex=None, bands={"a", "b"})
    with pytest.raises(InputError, match="an empty path"):
        build_from_files(["", "a.tif"])
    with pytest.raises(InputError, match="no paths"):
        build([])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no TIFFs"):
        build(tmp_path / "empty")
    with pytest.raises(InputError, match="remote folder"):
        build("https://example.com/folder/")


def test_ground_control_points_are_no_grid(shared_data):
    paths = sorted((shared_data / "geotiff/imagery/s1_grd").glob("*.tif*"))
    with pytest.raises(NotGeoreferencedError, match="ground control points"):
        build(paths, filename_regex=None)


def test_workspace(tmp_path):
    write_dated(tmp_path / "tiffs")
    options = {"workspace_dir": tmp_path / "work", "name": "dated"}
    first = build(tmp_path / "tiffs", **options)
    assert first.path == tmp_path / "work" / "dated"
    written = (first.path / "_manifest.json").stat().st_mtime_ns
    again = build(tmp_path / "tiffs", **options)
    assert again.path == first.path
    assert (first.path / "_manifest.json").stat().st_mtime_ns == written
    write_tiff(tmp_path / "tiffs" / "scene_20220101.tif")
    with pytest.raises(InputError, match="built from other inputs; pass force=True"):
        build(tmp_path / "tiffs", **options)
    assert len(build(tmp_path / "tiffs", force=True, **options)) == 4
    assert len(load(first.path)) == 4


@pytest.mark.parametrize("name", ["", "../up", ".hidden", "a/b", "a b", "-x", "x" * 300])
def test_names_are_safe(tmp_path, name):
    write_dated(tmp_path / "tiffs")
    with pytest.raises(InputError, match=r"must begin with a letter or digit|needs a name|has 300 characters"):
        build(tmp_path / "tiffs", workspace_dir=tmp_path / "work", name=name)
    assert not (tmp_path / "work").exists()


def test_local_headers_need_no_network_code(tmp_path):
    """A folder of local files is indexed without a store."""
    c = build(write_dated(tmp_path))
    assert all(Path(c.runtime.source(row, "B1").href).is_file() for row in range(3))


def test_folders_that_are_linked_are_searched_and_hidden_files_are_not(tmp_path):
    scene = write_tiff(tmp_path / "elsewhere" / "b.tif")
    folder = tmp_path / "folder"
    write_tiff(folder / "a.tif")
    write_tiff(folder / ".checkpoints" / "c.tif")
    (folder / "._a.tif").write_bytes(b"\0\5\26\7")  # what macOS leaves on other disks
    (folder / "linked").symlink_to(scene.parent)
    (folder / "linked" / "back").symlink_to(folder)
    assert [Path(one).relative_to(folder).as_posix() for one in expand(folder)] == ["a.tif", "linked/b.tif"]


def test_only_the_bands_that_are_asked_for_are_read(tmp_path):
    write_tiff(tmp_path / "s_20200101_B1.tif")
    (tmp_path / "s_20200101_B2.tif").write_text("text")
    with warnings.catch_warnings(action="error"):
        c = build(tmp_path, filename_regex=r"s_(?P<date>\d{8})_(?P<band>B\d)", bands=["B1"])
    assert c.bands == ["B1"]


def test_queries_and_the_order_of_bands_are_inputs(tmp_path, range_server):
    options = {"workspace_dir": tmp_path / "work", "name": "n"}
    path = write_tiff(range_server.folder / "scene_20200101.tif", bands=2)
    build(path, bands={"x": 0, "y": 1}, **options)
    with pytest.raises(InputError, match="other inputs"):
        build(path, bands={"y": 1, "x": 0}, **options)
    url = range_server.url(path.name)
    with pytest.warns(UserWarning, match="sign"):
        build(f"{url}?version=1&X-Amz-Signature=1", **options | {"name": "u"})
    build(f"{url}?version=1&X-Amz-Signature=2", **options | {"name": "u"})
    with pytest.raises(InputError, match="other inputs"):
        build(f"{url}?version=2&X-Amz-Signature=2", **options | {"name": "u"})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"bands": {"red": "0"}}, "sample '0'; number"),
        ({"bands": [1]}, "must be names"),
        ({"filename_regex": 3}, "is not a regular expression"),
        ({"max_error_fraction": 5}, "from 0 to 1"),
    ],
)
def test_arguments_of_other_kinds_are_one_sentence(tmp_path, wrong, message):
    with pytest.raises(InputError, match=message):
        build(write_tiff(tmp_path / "a.tif"), **{"filename_regex": None} | wrong)


def test_globs_below_folders_with_brackets_in_their_names(tmp_path):
    write_tiff(tmp_path / "[2020]" / "a.tif")
    write_tiff(tmp_path / "2" / "b.tif")
    assert [Path(one).name for one in expand(str(tmp_path / "[2020]" / "*.tif"))] == ["a.tif"]
    assert [Path(one).name for one in expand(str(tmp_path / "[0-9]" / "*.tif"))] == ["b.tif"]
    assert [Path(one).name for one in expand(str(tmp_path / "**" / "*.tif"))] == ["b.tif", "a.tif"]
