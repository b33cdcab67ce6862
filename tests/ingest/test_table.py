"""`build_from_table`: any table of rasters, with or without headers."""

import datetime as dt
import warnings
from pathlib import Path

import duckdb
import geopandas as gpd
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pystac
import pytest
import shapely
from scenes import write_tiff

import rasteret_torch as rt
from rasteret_torch.errors import DatasetNotFoundError, IndexCorruptError, InputError, NotATiffError
from rasteret_torch.index import Collection
from rasteret_torch.index import schema as s
from rasteret_torch.ingest import (
    add_band_metadata_columns,
    build_collection_from_table,
    build_from_table,
    build_url_index_from_assets,
    enrich_table_with_cog_metadata,
    read_headers,
)


def build(table, **options) -> Collection:
    return build_from_table(table, progress=False, **options)


MAPPED = {
    "column_map": {"scene": "id", "year": "datetime"},
    "href_column": "path",
    "band_index_map": {"red": 0, "nir": 1},
}


def test_a_table_of_paths(records):
    c = build(records, enrich_cog=True, name="mine", data_source="survey", **MAPPED)
    assert (c.name, c.bands, c.epsg) == ("mine", ["red", "nir"], [32632])
    assert c.column("score").to_pylist() == [0.1, 0.2, 0.3]
    assert c.column("scene").to_pylist() == ["a", "b", "c"]
    assert c.column("collection").to_pylist() == ["survey"] * 3
    assert c.runtime.source(2, "nir").sample == 1
    assert len(c.subset(date_range=("2020-12-31", "2020-12-31"))) == 2  # a year is that whole year
    assert len(c.subset(bbox=(8.9, 45.1, 9.1, 45.2))) == 3
    assert c.column("datetime").type == s.TIMESTAMP


def test_without_headers_it_is_a_table(records):
    c = build(records.append_column("bbox", pa.array([[9.0, 45.1, 9.1, 45.2]] * 3)), **MAPPED)
    assert c.bands == ["red", "nir"]
    assert shapely.from_wkb(c.geometry[0].as_py()).bounds == (9.0, 45.1, 9.1, 45.2)
    with pytest.raises(InputError, match="enrich_cog=True"):
        c.runtime.source(0, "red")


@pytest.mark.parametrize("form", ["parquet", "folder", "dataset", "reader", "polars", "batch"])
def test_tables_of_many_kinds(records, tmp_path, form):
    pq.write_table(records, tmp_path / "records.parquet")
    pq.write_to_dataset(records, tmp_path / "folder", partition_cols=["year"])
    given = {
        "parquet": tmp_path / "records.parquet",
        "folder": str(tmp_path / "folder"),
        "dataset": ds.dataset(tmp_path / "records.parquet"),
        "reader": records.to_reader(),
        "polars": pl.DataFrame(records),
        "batch": records.to_batches()[0],
    }[form]
    c = build(given, enrich_cog=True, **MAPPED)
    assert sorted(c.column("id").to_pylist()) == ["a", "b", "c"]
    assert c.runtime.source(0, "nir").header.image.width == 50


def test_streams_are_read_in_batches(records):
    """Batches are indexed as they come; the types of the first hold for all."""
    schema = records.schema
    seen = []

    def batches():
        for number in range(3):
            seen.append(number)
            yield records.slice(number, 1).to_batches()[0]

    c = build(pa.RecordBatchReader.from_batches(schema, batches()), enrich_cog=True, **MAPPED)
    assert seen == [0, 1, 2]
    assert c.column("id").to_pylist() == ["a", "b", "c"]


def test_columns_and_filters(records, tmp_path):
    pq.write_table(records, tmp_path / "records.parquet")
    c = build(
        tmp_path / "records.parquet", columns=["scene", "year", "path"], filter_expr=pc.field("score") > 0.15, **MAPPED
    )
    assert c.column("id").to_pylist() == ["b", "c"]
    assert "score" not in c.schema.names
    with pytest.raises(InputError, match="do not fit the table"):
        build(tmp_path / "records.parquet", columns=["nope"], **MAPPED)
    with pytest.raises(InputError, match="do not fit the table"):
        build(tmp_path / "records.parquet", filter_expr="score > 0.15", **MAPPED)
    with pytest.raises(InputError, match="no rows"):
        build(records, filter_expr=pc.field("score") > 9, **MAPPED)


def test_dates_of_many_kinds(records):
    days = pa.array([dt.date(2020, 2, 19)] * 3)
    for column in (
        days,
        pa.array(["2020-02-19"] * 3),
        pa.array(["2020-02-19T12:00:00Z"] * 3),
        pa.array([20200219] * 3),
    ):
        c = build(records.append_column("datetime", column), **(MAPPED | {"column_map": {"scene": "id"}}))
        assert len(c.subset(date_range=("2020-02-19", "2020-02-19"))) == 3, column.type
        assert c.value(0, "month") == 2
    with pytest.raises(InputError, match="not a date"):
        build(records.append_column("datetime", pa.array(["soon"] * 3)), **(MAPPED | {"column_map": {"scene": "id"}}))


def test_missing_columns_say_what_to_map(records):
    with pytest.raises(InputError, match="no column 'id'"):
        build(records)
    with pytest.raises(InputError, match="no column 'datetime'"):
        build(records, column_map={"scene": "id"})
    with pytest.raises(InputError, match="href_column"):
        build(records, column_map=MAPPED["column_map"])
    with pytest.raises(InputError, match="column_map names 'nope'"):
        build(records, column_map={"nope": "id"})
    with pytest.raises(InputError, match="choose one of"):
        build(records, engine="dask", **MAPPED)
    items = pystac.ItemCollection([pystac.Item("a", None, None, dt.datetime(2020, 1, 1), {})])
    for mistaken in (items, items[0], list(items), items.to_dict(), items.to_dict()["features"]):
        with pytest.raises(InputError, match="save them as one JSON file"):
            build(mistaken)
    with pytest.raises(DatasetNotFoundError, match="no table at"):
        build("/no/such/table.parquet")


def test_hrefs_are_rewritten(records, tmp_path):
    moved = records.set_column(
        2, "path", pc.replace_substring(records.column("path"), str(tmp_path), "s3://bucket/data")
    )
    c = build(moved, enrich_cog=True, url_rewrite_patterns={"s3://bucket/data": str(tmp_path)}, **MAPPED)
    assert c.runtime.source(0, "red").href == str(tmp_path / "tiffs" / "scene_20200101.tif")


def test_many_samples_without_a_map_are_an_error(records):
    c = build(records, enrich_cog=True, column_map=MAPPED["column_map"], href_column="path")
    with pytest.raises(InputError, match="band_index_map"):
        c.runtime.source(0, "B1")


def test_a_bad_file_keeps_its_row(records, files):
    files[1].write_text("text")
    with pytest.warns(UserWarning, match="1 of 3"):
        c = build(records, enrich_cog=True, **MAPPED)
    assert c.column("status").to_pylist() == ["ok", "error", "ok"]
    assert c.value(1, "geometry") is None
    assert len(c.subset(bbox=(8.9, 45.1, 9.1, 45.2))) == 2
    for file in files:
        file.write_text("text")
    with warnings.catch_warnings(action="ignore"), pytest.raises(NotATiffError, match="none of which"):
        build(records, enrich_cog=True, **MAPPED)


def test_workspace(records, tmp_path):
    options = MAPPED | {"workspace_dir": tmp_path / "work", "name": "mine"}
    first = build(records, **options)
    assert build(records, **options).path == first.path
    with pytest.raises(InputError, match="other inputs"):
        build(records.slice(1), **options)
    with pytest.raises(InputError, match="other inputs"):
        build(records.to_reader(), **options)
    assert len(build(records.slice(1), force=True, **options)) == 2


def test_the_steps_by_themselves(records):
    bare = build_collection_from_table(records, **MAPPED).to_table()
    index = build_url_index_from_assets(bare)
    assert (index["b"]["nir"].href, index["b"]["nir"].sample) == (records.column("path")[1].as_py(), 1)
    assert list(build_url_index_from_assets(bare, ["red"])["a"]) == ["red"]
    with pytest.raises(InputError, match="no assets"):
        build_url_index_from_assets(bare, ["blue"])
    headers = read_headers([index["a"]["red"].href])
    added = add_band_metadata_columns(bare, ["red"], {"a": {"red": headers[0]}})
    assert [value is None for value in added.column("red_metadata").to_pylist()] == [False, True, True]
    enriched = enrich_table_with_cog_metadata(bare, band_codes=["nir"])
    assert enriched.column("proj:epsg").to_pylist() == [32632] * 3
    assert "red_metadata" not in enriched.column_names


def test_a_folder_whose_files_have_columns_of_their_own(records, tmp_path):
    """Months of an archive: assets and columns that begin later are those of the collection, too."""
    whole = build_collection_from_table(records, **MAPPED).to_table().select(["id", "datetime", "assets"])
    red = pa.array([{"red": one["red"]} for one in whole.column("assets").to_pylist()[:1]])
    first = whole.slice(0, 1).set_column(2, "assets", red).append_column("cloud", pa.array([3]))
    second = whole.slice(1).append_column("cloud", pa.array([0.5, 7.5])).append_column("note", pa.array(["x", "y"]))
    (tmp_path / "months").mkdir()
    pq.write_table(first, tmp_path / "months" / "2020.parquet")
    pq.write_table(second, tmp_path / "months" / "2021.parquet")
    found = build(tmp_path / "months", enrich_cog=True)
    assert found.bands == ["red", "nir"]
    assert found.to_table(["cloud", "note"]).to_pydict() == {"cloud": [3.0, 0.5, 7.5], "note": [None, "x", "y"]}
    headers = found.to_table(["nir_metadata"]).column(0).to_pylist()
    assert [header is None for header in headers] == [True, False, False]


def test_files_and_headers_as_rasteret_tells_them(records):
    bare = build_collection_from_table(records, **MAPPED).to_table()
    paths = dict(zip(bare.column("id").to_pylist(), records.column("path").to_pylist(), strict=True))
    told = {item: {"red": {"url": path, "band_index": 0}, "nir": path} for item, path in paths.items()}
    enriched = enrich_table_with_cog_metadata(bare, told, ["red"])
    ours = enrich_table_with_cog_metadata(bare, None, ["red"])
    assert enriched.column("red_metadata").equals(ours.column("red_metadata"))
    alone = enrich_table_with_cog_metadata(bare.select(["id"]), told)
    assert alone.column("red_metadata").equals(ours.column("red_metadata"))
    assert {"red_metadata", "nir_metadata", "geometry", "proj:epsg"} <= set(alone.column_names)
    further = enrich_table_with_cog_metadata(bare, {"a": {"further": paths["a"]}})
    assert [value is None for value in further.column("further_metadata").to_pylist()] == [False, True, True]
    with pytest.raises(InputError, match=r"item 'a', band 'red', which names no file"):
        enrich_table_with_cog_metadata(bare, {"a": {"red": {"band_index": 0}}}, ["red"])

    one = ours.column("red_metadata")[0].as_py()
    fields = {name.removeprefix("image_"): one[name] for name in s.RASTERET_FIELDS}
    described = add_band_metadata_columns(bare, ["red"], [{"record_id": "a", "band": "red", "crs": 32632, **fields}])
    assert [value is None for value in described.column("red_metadata").to_pylist()] == [False, True, True]
    kept = rt.as_collection(described).head(1)
    bounds = kept.runtime.grid(0, "red").bounds
    expected = rt.as_collection(ours).read_window("a", bounds, 10.0, ["red"])
    assert np.array_equal(kept.read_window("a", bounds, 10.0, ["red"]).data, expected.data)
    with pytest.raises(InputError, match="record_id and band"):
        add_band_metadata_columns(bare, ["red"], [fields])
    with pytest.raises(InputError, match="other types"):
        add_band_metadata_columns(bare, ["red"], [{"record_id": "a", "band": "red", "width": "wide"}])


def test_single_band_assets(tmp_path):
    write_tiff(tmp_path / "a.tif")
    table = pa.table(
        {
            "id": ["a"],
            "datetime": [dt.datetime(2020, 1, 1)],
            "geometry": [shapely.to_wkb(shapely.box(9, 45, 9.1, 45.2))],
            "assets": [
                {
                    "B04": {"href": str(tmp_path / "a.tif"), "type": "image/tiff"},
                    "thumbnail": {"href": None, "type": None},
                }
            ],
        }
    )
    c = build(table, enrich_cog=True, band_codes=["B04"])
    assert c.bands == ["B04"]
    assert c.runtime.source(0, "B04").sample == 0
    assert c.runtime.source(0, "B04").header.crs == "EPSG:32632"


@pytest.mark.parametrize("form", ["dict", "rows", "pandas", "geopandas", "lazy", "duckdb", "glob", "list"])
def test_tables_that_are_no_arrow(records, tmp_path, form):
    for number in range(3):
        pq.write_table(records.slice(number, 1), tmp_path / f"part{number}.parquet")
    frame = gpd.GeoDataFrame(records.to_pandas(), geometry=[shapely.box(9, 45, 9.1, 45.2)] * 3, crs=4326).to_crs(32632)
    given = {
        "dict": {**records.to_pydict(), "path": [Path(path) for path in records["path"].to_pylist()]},
        "rows": records.to_pylist(),
        "pandas": records.to_pandas(),
        "geopandas": frame.rename_geometry("outline"),
        "lazy": pl.LazyFrame(pl.DataFrame(records)),
        "duckdb": duckdb.from_arrow(records),
        "glob": str(tmp_path / "part*.parquet"),
        "list": [tmp_path / f"part{number}.parquet" for number in range(3)],
    }[form]
    c = build(given, enrich_cog=True, **MAPPED)
    assert c.column("id").to_pylist() == ["a", "b", "c"]
    assert c.runtime.source(0, "nir").header.image.width == 50
    wanted = (9, 45, 9.1, 45.2) if form == "geopandas" else (9, 45.1, 9.1, 45.2)
    assert all(abs(one - other) < 0.1 for one, other in zip(c.bounds, wanted, strict=True))


def test_what_others_call_things(records):
    sides = [{"MinX": 9.0, "MinY": 45.1, "MaxX": 9.1, "MaxY": 45.2}, None, None]
    c = build(records.append_column("bbox", pa.array(sides)), **MAPPED)
    assert c.column("bbox").to_pylist()[0] == {"xmin": 9.0, "ymin": 45.1, "xmax": 9.1, "ymax": 45.2}
    assert c.column("bbox").null_count == 2
    with pytest.raises(IndexCorruptError, match="are not"):
        build(records.append_column("bbox", pa.array([{"a": 9.0, "b": 45.1}] * 3)), **MAPPED)
    years = records.set_column(1, "year", pa.array([2020.0, float("nan"), 2021.0]))
    with pytest.warns(UserWarning, match=r"1 items \(such as 'b'\) state no time"):
        dated = build(years, **MAPPED)
    assert [one and one.year for one in dated.column("datetime").to_pylist()] == [2020, None, 2021]
    with pytest.raises(InputError, match="no years"):
        build(records.set_column(1, "year", pa.array([2020.5, 2021.0, 2021.0])), **MAPPED)


@pytest.mark.parametrize("nothing", [None, ""])
def test_rows_without_a_file_are_told(records, nothing):
    hrefs = records.column("path").to_pylist()
    table = records.set_column(2, "path", pa.array([nothing, *hrefs[1:]]))
    with pytest.warns(UserWarning, match=r"1 items \(such as 'a'\) have no file"):
        c = build(table, enrich_cog=True, **MAPPED)
    assert c.to_table(["status", "error"]).to_pylist()[:2] == [
        {"status": "error", "error": "BandNotFoundError: no asset names a file of any band"},
        {"status": "ok", "error": None},
    ]
    assert [one.status for one in c.check().files] == ["not indexed", "ok", "ok"]
    with pytest.raises(InputError, match="no asset names a file of any band: that goes for all 3 items"):
        build(records.set_column(2, "path", pa.array([nothing] * 3, pa.string())), enrich_cog=True, **MAPPED)


@pytest.mark.parametrize(
    ("chosen", "lacking"),
    [(["score"], ["scene", "year", "path"]), ("score", ["scene", "year", "path"]), (["scene", "path"], ["year"])],
)
@pytest.mark.parametrize("as_stream", [False, True])
def test_a_choice_of_columns_keeps_those_that_make_a_collection(records, chosen, lacking, as_stream):
    table = records.to_reader() if as_stream else records
    with pytest.raises(InputError, match=r"leaves out .* add them: columns=") as raised:
        build(table, columns=chosen, **MAPPED)
    assert f"leaves out {lacking}," in str(raised.value)


def test_columns_that_are_chosen_and_those_that_are_not(records):
    c = build(records, columns=["scene", "year", "path"], **MAPPED)
    assert "score" not in c.schema.names
    table = build(records, **MAPPED).to_table()
    chosen = ["id", "start_datetime", "assets", "geometry"]
    assert "score" not in build(table, columns=chosen).schema.names
    with pytest.raises(InputError, match="leaves out \\['assets'\\]"):
        build(table, columns=["id", "datetime"], href_column="assets.red.href")


def test_hrefs_are_rewritten_by_origin_and_whole_parts_of_paths(records):
    hrefs = ["https://host.example/data/a.tif", "https://host.example.evil/data/a.tif", "/vsis3/bucket/a.tif"]
    table = records.set_column(2, "path", pa.array(hrefs))
    patterns = {"https://host.example": "s3://ours/", "/vsis3/": "s3://", "/vsis3/buck": "s3://other"}
    c = build(table, url_rewrite_patterns=patterns, **MAPPED)
    found = [assets["red"]["href"] for assets in c.column("assets").to_pylist()]
    assert found == ["s3://ours/data/a.tif", hrefs[1], "s3://bucket/a.tif"]


def test_assets_that_are_no_rasters_are_left_alone(files):
    """As stac-geoparquet writes them: every asset of the items, with its media type."""
    assets = {
        "red": {"href": str(files[0]), "type": "image/tiff; application=geotiff", "roles": ["data"]},
        "thumbnail": {"href": "t.jpg", "type": "image/jpeg", "roles": ["thumbnail"]},
        "preview": {"href": str(files[0]), "type": "image/tiff; application=geotiff", "roles": ["overview"]},
    }
    table = pa.table({"id": ["a"], "datetime": ["2024-01-01"], "assets": [assets]})
    c = build(table, enrich_cog=True, band_index_map={"red": 0})
    assert (c.bands, c.column("status").to_pylist()) == (["red"], ["ok"])
    with pytest.raises(InputError, match=r"names \['a'\], and the assets .* href_column='assets.red.href'"):
        build(table, enrich_cog=True, band_index_map={"a": 0})
    c = build(table, enrich_cog=True, band_index_map={"a": 0, "b": 1}, href_column="assets.red.href")
    assert (c.bands, c.runtime.source(0, "b").sample) == (["a", "b"], 1)
    with pytest.raises(InputError, match=r"no column 'assets.image.href' in column 'assets'"):
        build(table, href_column="assets.image.href")


def test_samples_that_assets_leave_open_come_from_the_map(files):
    assets = [{"all": {"href": str(path), "band_index": sample}} for path, sample in ((files[0], 1), (files[1], None))]
    table = pa.table({"id": ["a", "b"], "datetime": ["2024-01-01", "2024-01-02"], "assets": assets})
    c = build(table, enrich_cog=True, band_index_map={"all": 0})
    assert [c.runtime.source(row, "all").sample for row in (0, 1)] == [1, 0]
