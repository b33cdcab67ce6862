"""Tables in odd pieces, of odd columns, taken in part, or twice."""

import warnings

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import shapely
from scenes import write_tiff

from rasteret_torch.errors import DatasetNotFoundError, InputError
from rasteret_torch.index import Collection
from rasteret_torch.ingest import build_from_table, enrich_table_with_cog_metadata
from rasteret_torch.ingest import table as ingest_table
from rasteret_torch.ingest.table import Enrich

MAPPED = {
    "column_map": {"scene": "id", "year": "datetime"},
    "href_column": "path",
    "band_index_map": {"red": 0, "nir": 1},
}


def build(table, **options) -> Collection:
    return build_from_table(table, progress=False, **options)


def test_a_resumed_build_has_the_rows_of_its_table_however_they_are_cut(records, tmp_path, monkeypatch):
    """Equal tables may come in other chunks: a shard of the first of two is none of the whole."""
    options = MAPPED | {"enrich_cog": True, "name": "mine", "workspace_dir": tmp_path / "work"}
    whole = Enrich.one

    def killed(self, table, known, log=None):
        if table.num_rows == 1:
            raise KeyboardInterrupt
        return whole(self, table, known, log)

    monkeypatch.setattr(Enrich, "one", killed)
    with pytest.raises(KeyboardInterrupt):
        build(pa.concat_tables([records.slice(0, 2), records.slice(2)]), **options)
    assert list((tmp_path / "work").glob(".mine.*.shards/*.arrow"))
    monkeypatch.setattr(Enrich, "one", whole)
    assert build(records.combine_chunks(), **options).column("id").to_pylist() == ["a", "b", "c"]


@pytest.mark.parametrize("done", ["shard", "headers"])
def test_files_that_changed_since_a_build_was_killed_are_read_again(records, files, tmp_path, monkeypatch, done):
    options = MAPPED | {"enrich_cog": True, "name": "mine", "workspace_dir": tmp_path / "work"}
    table = pa.concat_tables([records.slice(0, 2), records.slice(2)])
    whole = ingest_table.enriched

    def killed(table, *rest):
        if table.num_rows == (1 if done == "shard" else 2):
            raise KeyboardInterrupt
        return whole(table, *rest)

    monkeypatch.setattr(ingest_table, "enriched", killed)
    with pytest.raises(KeyboardInterrupt):
        build(table, **options)
    monkeypatch.undo()
    assert len(list((tmp_path / "work").glob(".mine.*.shards/*.arrow"))) == (done == "shard")
    write_tiff(files[1], bands=2, shape=(40, 80))
    found = build(table, **options)
    assert [found.runtime.source(row, "red").header.image.width for row in range(3)] == [50, 80, 50]


def test_a_resumed_build_counts_the_files_that_were_done_as_one_without_a_break_does(tmp_path, monkeypatch):
    files = [str(write_tiff(tmp_path / f"{name}.tif")) for name in "abcd"] + ["/nowhere/e.tif", "/nowhere/f.tif"]
    assets = [{"red": {"href": red}, "nir": {"href": nir}} for red, nir in zip(files[::2], files[1::2], strict=True)]
    whole = pa.table({"id": ["x", "y", "z"], "datetime": [2020] * 3, "assets": assets})
    table = pa.concat_tables([whole.slice(0, 2), whole.slice(2)])
    options = {"enrich_cog": True, "name": "mine", "workspace_dir": tmp_path / "work", "max_error_fraction": 0.4}
    one = Enrich.one

    def killed(self, table, known, log=None):
        if table.num_rows == 1:
            raise KeyboardInterrupt
        return one(self, table, known, log)

    monkeypatch.setattr(Enrich, "one", killed)
    with pytest.raises(KeyboardInterrupt):
        build(table, **options)
    monkeypatch.undo()
    with pytest.warns(UserWarning, match="2 of 6 files could not be indexed"):
        assert build(table, **options).column("status").to_pylist() == ["ok", "ok", "error"]


def test_filters_that_differ_in_the_middle_of_a_long_list_are_other_inputs(records, tmp_path):
    """Of which Arrow's text shows the ends."""
    options = MAPPED | {"name": "mine", "workspace_dir": tmp_path / "work"}
    wanted = [str(number) for number in range(100)]
    assert len(build(records, filter_expr=pc.field("scene").isin([*wanted, "a", *wanted]), **options)) == 1
    with pytest.raises(InputError, match="other inputs"):
        build(records, filter_expr=pc.field("scene").isin([*wanted, "b", *wanted]), **options)


def test_column_maps_name_columns_of_the_table_not_of_each_other(records):
    table = records.append_column("id", pa.array(["x", "y", "z"]))
    c = build(table, href_column="path", column_map={"scene": "id", "id": "old", "year": "datetime"})
    assert c.to_table(["id", "old"]).to_pydict() == {"id": ["a", "b", "c"], "old": ["x", "y", "z"]}
    with pytest.raises(InputError, match="of more than one column"):
        build(table, href_column="path", column_map={"scene": "id", "path": "id", "year": "datetime"})


def test_periods_of_two_columns_end_with_their_last_day(records):
    whole = records.drop_columns(["year"]).append_column("start_datetime", pa.array(["2020-01-01"] * 3))
    table = whole.append_column("end_datetime", pa.array(["2020-12-31"] * 3))
    c = build(table, href_column="path", column_map={"scene": "id"})
    assert len(c.subset(date_range=("2020-12-31T12:00:00Z", None))) == 3
    table = whole.set_column(3, "start_datetime", pa.array([2020] * 3))
    assert build(table, href_column="path", column_map={"scene": "id"}).column("year").to_pylist() == [2020] * 3
    table = whole.set_column(3, "start_datetime", pa.array(["soon"] * 3))
    with pytest.raises(InputError, match="'soon' is not a date"):
        build(table, href_column="path", column_map={"scene": "id"})


def test_boxes_across_the_antimeridian_have_ground_on_both_sides(records):
    boxes = pa.array([[170.0, -10.0, -170.0, 10.0], [1.0, 2.0, 3.0, 4.0], None], pa.list_(pa.float64()))
    c = build(records.append_column("bbox", boxes), **MAPPED)
    crossing, plain, nowhere = shapely.from_wkb(c.column("geometry").to_pylist())
    assert [shapely.intersects_xy(crossing, lon, 0.0) for lon in (175.0, 0.0, -175.0)] == [True, False, True]
    assert (plain.bounds, nowhere) == ((1.0, 2.0, 3.0, 4.0), None)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"columns": ["nothing"]}, "do not fit the table"),
        ({"filter_expr": pc.field("nothing") > 1}, "do not fit the table"),
        ({"filter_expr": pc.field("scene") > 1}, "do not fit the table"),
        ({"href_column": "several"}, "holds no paths"),
        ({"band_index_map": {"red": -1}}, "sample -1; number"),
        ({"band_index_map": {"red": "0"}}, "sample '0'; number"),
        ({"max_error_fraction": 5}, "from 0 to 1"),
        ({"max_error_fraction": float("nan")}, "from 0 to 1"),
    ],
)
def test_arguments_that_do_not_fit_are_one_sentence(records, wrong, message):
    table = records.append_column("several", pa.array([["a"]] * 3))
    for form in (table, table.to_reader()):
        with pytest.raises(InputError, match=message):
            build(form, **MAPPED | wrong)


def test_one_band_needs_no_list(records):
    bare = build(records, **MAPPED).to_table()
    assert "red_metadata" not in build(bare, enrich_cog=True, band_codes="nir").to_table().column_names


def test_a_saved_collection_is_a_table_whose_hrefs_lie_beside_it(records, tmp_path):
    path = build(records, **MAPPED).save(tmp_path / "saved")
    c = build(path, enrich_cog=True)
    assert c.runtime.source(2, "nir").href == records.column("path")[2].as_py()


def test_headers_that_are_read_again_leave_no_old_error(records, files):
    hidden = files[1].rename(files[1].with_suffix(".hidden"))
    with warnings.catch_warnings(action="ignore"):
        first = build(records, enrich_cog=True, **MAPPED).to_table()
    assert first.column("status").to_pylist() == ["ok", "error", "ok"]
    hidden.rename(files[1])
    files[0].unlink()
    second = enrich_table_with_cog_metadata(first)
    assert second.column("status").to_pylist() == ["error", "ok", "ok"]
    assert [error is None for error in second.column("error").to_pylist()] == [False, True, True]
    own = first.set_column(first.column_names.index("status"), "status", pa.array(["new", "old", "old"]))
    assert enrich_table_with_cog_metadata(own).column("status").to_pylist() == ["new", "old", "old"]


def test_assets_in_maps_have_the_keys_of_all_rows(records):
    """As DuckDB and JSON have them: a row names what it has."""
    paths = records.column("path").to_pylist()
    kind = pa.map_(pa.string(), pa.struct([("href", pa.string())]))
    rows = [[("red", {"href": paths[0]})], [("nir", {"href": paths[1]}), ("red", {"href": paths[2]})], None]
    columns = {"id": records.column("scene"), "datetime": records.column("year")}
    table = pa.table(columns | {"assets": pa.array(rows, kind)})
    pieces = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    c = build(pieces)
    assert c.bands == ["red", "nir"]
    hrefs = [[asset and asset["href"] for asset in (row or {}).values()] for row in c.column("assets").to_pylist()]
    assert hrefs == [[paths[0], None], [paths[2], paths[1]], []]
    with pytest.raises(InputError, match=r"have the assets \['nir'\].* pass a table"):
        build(pieces.to_reader())


def test_boxes_in_metres_are_no_boxes(records):
    boxes = pa.array([[300_000.0, 5_000_000.0, 310_000.0, 5_010_000.0]] * 3)
    with pytest.raises(InputError, match="not in lon/lat"):
        build(records.append_column("bbox", boxes), **MAPPED)


def test_dates_that_are_empty_are_none(records):
    table = records.set_column(1, "year", pa.array(["", "2020", "2021"]))
    with warnings.catch_warnings(action="ignore"):
        assert build(table, **MAPPED).column("datetime").null_count == 1


def test_lists_of_tables_are_found_as_one_is(records, tmp_path, monkeypatch):
    pq.write_table(records.slice(0, 2), tmp_path / "a.parquet")
    pq.write_table(records.slice(2), tmp_path / "b.parquet")
    monkeypatch.chdir(tmp_path)
    assert len(build(["a.parquet", f"file://{tmp_path}/b.parquet"], **MAPPED)) == 3
    with pytest.raises(DatasetNotFoundError, match=r"no table at .*c\.parquet"):
        build(["a.parquet", "c.parquet"], **MAPPED)
