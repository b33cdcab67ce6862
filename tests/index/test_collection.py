"""A collection as a table: filters, columns, and what it says of itself."""

import ast
import copy
import datetime as dt
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb
import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import shapely

from rasteret_torch.errors import (
    BandNotFoundError,
    EmptySelectionError,
    IndexCorruptError,
    InputError,
    SplitNotFoundError,
)
from rasteret_torch.index import Collection, as_collection, endings, load
from rasteret_torch.index import schema as s
from rasteret_torch.index.describe import extent

HERE = (8.9, 45.1, 9.1, 45.2)


def ids(collection: Collection) -> list[str]:
    return collection.to_table(["id"]).column("id").to_pylist()


def test_what_it_says(dated):
    assert len(dated) == 3
    assert dated.bands == ["red", "nir"]
    assert dated.crs == ["EPSG:32632"]
    assert dated.epsg == [32632]
    assert dated.native_res("nir") == (10.0, 10.0)
    assert dated.native_res() == (10.0, 10.0)
    west, south, east, north = dated.bounds
    assert 8.9 < west < east < 9.1
    assert 45.1 < south < north < 45.2
    assert dated.describe()["items"] == 3
    assert "Collection dated: 3 items" in repr(dated)
    assert "2020-01-01 to 2021-06-30" in repr(dated)
    assert "<pre>" in dated._repr_html_()


def test_type_checkers_see_the_functions_behind_the_verbs():
    stub = ast.parse(Path(endings.__file__).with_suffix(".pyi").read_text())
    homes = {
        alias.asname: f"{node.module}:{alias.name}"
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    verbs = next(node for node in stub.body if isinstance(node, ast.ClassDef) and node.name == "Endings")
    told = {one.targets[0].id: homes[one.value.id] for one in verbs.body}
    real = {name: one for name, one in vars(endings.Endings).items() if isinstance(one, endings.Ending)}
    assert told == {name: f"{one.module}:{one.function}" for name, one in real.items()}


def test_filters_are_anded(dated):
    assert ids(dated.subset(date_range=("2020-01-01", "2020-02-19"))) == ["scene_20200101", "scene_20200219"]
    assert ids(dated.subset(date_range=("2020-02", None), bbox=HERE)) == ["scene_20200219", "scene_20210630"]
    assert ids(dated.where(pc.field("year") == 2021)) == ["scene_20210630"]
    assert ids(dated.where(pc.field("year") == 2020).subset(date_range=("2020-02-01", "2022"))) == ["scene_20200219"]
    assert ids(dated.head(2).head(1)) == ["scene_20200101"]
    assert dated.subset() is dated


def test_a_date_only_end_includes_its_day(dated):
    late = dated.with_column("start_datetime", [dt.datetime(2020, 1, 1, 23, 59, tzinfo=dt.UTC)] * 3)
    late = late.with_column("end_datetime", [dt.datetime(2020, 1, 1, 23, 59, tzinfo=dt.UTC)] * 3)
    assert len(late.subset(date_range=("2020-01-01", "2020-01-01"))) == 3
    with pytest.raises(EmptySelectionError):
        late.subset(date_range=("2020-01-01", "2020-01-01T12:00"))


def test_geometries_are_exact(dated):
    footprint = shapely.from_wkb(dated.geometry.to_pylist()[1])
    inside = footprint.centroid.buffer(1e-4)
    for given in (inside, inside.wkb, inside.__geo_interface__, [inside], gpd.GeoSeries([inside]).to_frame("geometry")):
        assert ids(dated.subset(geometries=given)) == ["scene_20200219"]
    beside = shapely.box(*footprint.bounds).difference(footprint)  # within its box, outside of it
    assert "scene_20200219" not in ids(
        dated.subset(geometries=[beside.buffer(-1e-7), shapely.box(*HERE[:2], 9.001, 46)])
    )


def test_geometries_may_be_arrow(dated):
    assert len(dated.subset(geometries=dated.geometry)) == 3
    with pytest.raises(InputError, match="no geometry"):
        dated.subset(geometries="somewhere")
    with pytest.raises(InputError, match="at least one"):
        dated.subset(geometries=[])


def test_geometries_may_state_their_crs(dated):
    second = shapely.from_wkb(dated.geometry.to_pylist()[1]).centroid.buffer(1e-4)
    frame = gpd.GeoSeries([second], crs=4326).to_frame("outline").set_geometry("outline").to_crs(3857)
    relation = duckdb.from_arrow(dated.to_table()).filter("id = 'scene_20200219'").project("geometry")
    assert [ids(dated.subset(geometries=given)) for given in (frame, pa.table(frame.to_arrow()))] == [
        ["scene_20200219"]
    ] * 2
    assert "scene_20200219" in ids(dated.subset(geometries=relation))


def test_empty_selections_name_what_there_is(dated):
    with pytest.raises(EmptySelectionError, match=r"nearest is of 2021-06-30, all are of 2020-01-01 to 2021-06-30"):
        dated.subset(date_range=("2030-01-01", "2031-01-01"))
    with pytest.raises(
        EmptySelectionError, match=r"in 2020-01-02T06:00:00Z to 2020-01-02; the nearest is of 2020-01-01,"
    ):
        dated.subset(date_range=("2020-01-02T06:00", "2020-01-02"))
    with pytest.raises(EmptySelectionError, match=r"the items lie within \(9"):
        dated.subset(bbox=(0, 0, 1, 1))
    with pytest.raises(EmptySelectionError, match="at once"):
        dated.subset(
            date_range=("2020-01-01", "2020-01-01"), geometries=shapely.from_wkb(dated.geometry[2].as_py()).centroid
        )
    with pytest.raises(EmptySelectionError, match="loosen"):
        dated.where(pc.field("year") == 1999)


def test_bad_arguments_are_typed(dated):
    with pytest.raises(InputError, match="not a date"):
        dated.subset(date_range=("yesterday", "today"))
    with pytest.raises(InputError, match="ends before"):
        dated.subset(date_range=("2021", "2020"))
    with pytest.raises(InputError, match="not a box"):
        dated.subset(bbox=(1, 2, 3))
    with pytest.raises(InputError, match="does not fit"):
        dated.where(pc.field("no_such") == 1)
    with pytest.raises(InputError, match="eo:cloud_cover"):
        dated.subset(cloud_cover_lt=10)
    with pytest.raises(InputError, match="no column"):
        dated.to_table(["no_such"])
    with pytest.raises(BandNotFoundError, match=r"\['red', 'nir'\]"):
        dated.native_res("blue")
    with pytest.raises(InputError, match="negative"):
        dated.head(-1)
    for wrong in ("year == 2021", None):
        with pytest.raises(InputError, match="takes a pyarrow expression"):
            dated.where(wrong)
    for mistake, words in (
        (lambda: dated.head(1.5), "whole number"),
        (lambda: dated.check_bands(1), r"no band \[1\]"),
        (lambda: dated.check_bands({"red", "nir"}), "a set, which has no order"),
        (lambda: dated.with_column("a", dict.fromkeys("abc")), "a dict is no column"),
        (lambda: dated.with_column("a", "abc"), "a str is no column"),
        (lambda: dated.with_column("a", 1), "pass a list"),
        (lambda: dated.select_split(None), "no split was named"),
        (lambda: load(None), "NoneType is no path"),
    ):
        with pytest.raises(InputError, match=words):
            mistake()


def test_cloud_cover_leaves_unknown_out(dated):
    cloudy = dated.with_column("eo:cloud_cover", [5.0, None, 80.0])
    assert ids(cloudy.subset(cloud_cover_lt=10)) == ["scene_20200101"]
    with pytest.raises(EmptySelectionError, match=r"lowest is 5\.0"):
        cloudy.subset(cloud_cover_lt=1)


def test_splits(dated):
    with pytest.raises(SplitNotFoundError, match="no split column"):
        dated.select_split("train")
    split = dated.with_column("split", ["train", "val", "train"])
    assert ids(split.select_split("train")) == ["scene_20200101", "scene_20210630"]
    assert len(split.subset(split=["train", "val"])) == 3
    with pytest.raises(SplitNotFoundError, match=r"\['train', 'val'\]"):
        split.select_split("test")
    with pytest.raises(SplitNotFoundError, match="fold"):
        split.select_split("train", "fold")
    assert "splits  train 2, val 1" in repr(split)


def test_columns_of_a_filtered_view(dated):
    view = dated.subset(date_range=("2020-02-01", None)).with_column("label", [7, 8])
    assert view.column("label").to_pylist() == [7, 8]
    assert view.value(1, "label") == 8
    assert view.head(1).column("label").to_pylist() == [7]
    assert "label" not in dated.schema.names
    with pytest.raises(InputError, match="3 values for 2 items"):
        view.with_column("label", [1, 2, 3])
    for name in ("id", "assets", "red_metadata"):
        with pytest.raises(InputError, match="cannot be replaced"):
            dated.with_column(name, ["x"] * 3)


@pytest.mark.parametrize("values", [np.arange(3.0), pa.array([0.0, 1.0, 2.0]), [0.0, 1.0, 2.0]])
def test_column_values_of_many_kinds(dated, values):
    assert dated.with_column("label", values).column("label").to_pylist() == [0.0, 1.0, 2.0]


def test_join_keeps_rows_and_order(dated):
    labels = pa.table({"id": ["scene_20210630", "scene_20200101", "elsewhere"], "label": ["c", "a", "x"]})
    joined = dated.join(labels)
    assert joined.column("label").to_pylist() == ["a", None, "c"]
    assert dated.head(1).join(labels).column("label").to_pylist() == ["a"]
    assert dated.join(labels.to_pandas()).column("label").to_pylist() == ["a", None, "c"]
    with pytest.raises(InputError, match="twice"):
        dated.join(pa.concat_tables([labels, labels]))
    with pytest.raises(InputError, match="in the collection already"):
        joined.join(labels)
    with pytest.raises(InputError, match="no column 'id'"):
        dated.join(labels.rename_columns(["key", "label"]))
    with pytest.raises(InputError, match="nothing but 'id'"):
        dated.join(labels.select(["id"]))
    with pytest.raises(InputError, match="no keys of type int32"):
        dated.join(labels.rename_columns(["year", "label"]), on="year")
    with pytest.warns(UserWarning, match=r"no item is in the table: its 'id' are such as \['elsewhere'\]"):
        assert dated.join(labels.slice(2)).column("label").to_pylist() == [None] * 3


def test_find_agrees_with_subset(dated):
    assert dated.find().tolist() == [0, 1, 2]
    assert dated.find(HERE).tolist() == [0, 1, 2]
    assert dated.find(date_range=("2020-02-19", "2020-02-19")).tolist() == [1]
    assert dated.find((501_000, 4_999_900, 501_100, 4_999_990), crs=32632).tolist() == [1]
    assert dated.find((0, 0, 1, 1)).tolist() == []
    assert dated.subset(date_range=("2020-02-01", None)).find(date_range=("2021", "2021")).tolist() == [1]


def test_pickles_are_small_recipes(dated):
    view = dated.with_column("label", [1, 2, 3]).subset(date_range=("2020-02-01", None))
    pickled = pickle.dumps(view)
    assert len(pickled) < 2000
    again = pickle.loads(pickled)
    assert again.to_table().equals(view.to_table())
    assert again.runtime is view.runtime
    assert copy.deepcopy(view) is view


def test_other_processes_map_the_same_rows(dated, tmp_path):
    view = dated.with_column("label", [1, 2, 3]).subset(date_range=("2020-02-01", None))
    (tmp_path / "view.pickle").write_bytes(pickle.dumps(view))
    code = (
        "import pickle, sys; c = pickle.load(open(sys.argv[1], 'rb'));"
        "r = c.runtime; s = r.source(1, 'nir');"
        "print(c.column('label').to_pylist(), s.item_id, s.sample, r.content_hash)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "view.pickle")], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["[2,", "3]", "scene_20210630", "1", view.runtime.content_hash]


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_temporary_files_end_with_their_process(dated, tmp_path, monkeypatch, method):
    code = (
        "import multiprocessing, pickle, sys\n"
        "from rasteret_torch.index import load\n"
        "def work(c):\n"
        "    pickle.dumps(c.assign_splits())\n"
        "if __name__ == '__main__':\n"
        "    c = load(sys.argv[1])\n"
        "    pickle.dumps(c)\n"
        f"    worker = multiprocessing.get_context({method!r}).Process(target=work, args=(c,))\n"
        "    worker.start()\n"
        "    worker.join()\n"
        "    sys.exit(worker.exitcode)\n"
    )
    (tmp_path / "run.py").write_text(code)
    # Not below tmp_path: the forkserver binds a socket there, and a socket's name has room for 107 characters only.
    with tempfile.TemporaryDirectory() as temporary:
        monkeypatch.setenv("TMPDIR", temporary)
        subprocess.run([sys.executable, str(tmp_path / "run.py"), str(dated.save(tmp_path / "saved"))], check=True)
        assert [entry.name for entry in Path(temporary).iterdir() if "rasteret" in entry.name] == []


def test_a_pickle_outlives_its_process_where_the_collection_does(dated, tmp_path):
    path = dated.save(tmp_path / "saved")
    code = (
        "import pickle, sys; from rasteret_torch.index import load; import pyarrow.compute as pc;"
        "c = load(sys.argv[1]).where(pc.field('year') == 2020);"
        "open(sys.argv[2], 'wb').write(pickle.dumps(c))"
    )
    kept = tmp_path / "kept.pickle"
    subprocess.run([sys.executable, "-c", code, str(path), str(kept)], check=True)
    assert ids(pickle.loads(kept.read_bytes())) == ["scene_20200101", "scene_20200219"]
    dated.head(1).save(path)
    with pytest.raises(IndexCorruptError, match="holds other rows"):
        pickle.loads(kept.read_bytes())


def test_a_pickle_of_memory_ends_with_its_process(tmp_path, dated):
    (tmp_path / "table.arrow").write_bytes(b"")
    with pa.OSFile(str(tmp_path / "table.arrow"), "wb") as sink, pa.ipc.new_file(sink, dated.schema) as writer:
        writer.write_table(dated.to_table().replace_schema_metadata(dated.schema.metadata))
    code = (
        "import pickle, sys; import pyarrow as pa; from rasteret_torch.index import as_collection;"
        "c = as_collection(pa.ipc.open_file(sys.argv[1]).read_all());"
        "open(sys.argv[2], 'wb').write(pickle.dumps(c))"
    )
    kept = tmp_path / "kept.pickle"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "table.arrow"), str(kept)], check=True)
    with pytest.raises(IndexCorruptError, match=r"the process that wrote it has ended; save\(\)"):
        pickle.loads(kept.read_bytes())


def test_footprints_are_geodata(dated):
    frame = gpd.GeoDataFrame.from_arrow(dated.footprints())
    assert frame.crs == "OGC:CRS84"
    assert list(frame.columns) == ["id", "datetime", "geometry"]


def test_as_collection_checks(dated):
    table = dated.to_table()
    assert as_collection(dated) is dated
    with pytest.raises(InputError, match="lacks the columns"):
        as_collection(table.drop_columns(["assets"]))
    with pytest.raises(InputError, match="more than once"):
        as_collection(pa.concat_tables([table, table]))
    with pytest.raises(InputError, match=r"more than one column of the names \['id'\]"):
        as_collection(table.append_column("id", table["id"]))
    views = table.append_column("x", pa.array(["a", "b", "c"], pa.string_view()))
    with pytest.raises(InputError, match=r"more than one column of the names \['x'\]"):
        as_collection(views.append_column("x", views["x"]))
    with pytest.raises(InputError, match="int is no table"):
        as_collection(3)
    for form in (table, table.to_reader(), dated.to_reader(), pa.dataset.dataset(table)):
        again = as_collection(form)
        assert again.runtime.content_hash == dated.runtime.content_hash


def test_an_empty_collection_is_a_table_still(dated):
    none = dated.head(0)
    assert len(none) == 0
    assert none.find((0, 0, 1, 1)).tolist() == none.find(date_range=("2020", None)).tolist() == []
    assert none.runtime.bounds().shape == (0, 4)
    assert none.runtime.content_hash
    assert none.to_table().num_rows == 0
    assert "0 items" in repr(none)
    with pytest.raises(EmptySelectionError):
        none.subset(date_range=("2020", "2021"))


def test_hrefs_are_absolute(dated):
    hrefs = pc.struct_field(dated.column("assets"), ["red", "href"]).to_pylist()
    assert all(Path(href).is_absolute() and Path(href).is_file() for href in hrefs)


def test_signed_urls_are_stored_without_their_signatures(dated, tmp_path):
    table = pa.table(dated)
    assets = table.column("assets").combine_chunks()
    bands = [field.name for field in assets.type]
    signed = []
    for band in bands:
        asset = assets.field(band)
        hrefs = [f"https://h.example/{band}/{number}.tif?v=1&sig=hush" for number in range(len(asset))]
        kept = [pa.array(hrefs) if one.name == "href" else asset.field(one.name) for one in asset.type]
        signed.append(pa.StructArray.from_arrays(kept, fields=list(asset.type)))
    new = pa.StructArray.from_arrays(signed, fields=list(assets.type))
    collection = as_collection(table.set_column(table.schema.get_field_index("assets"), "assets", new))
    with pytest.warns(UserWarning, match="6 of this collection, such as https://h.example/red/0.tif\\)"):
        path = collection.save(tmp_path / "signed")
    written = ds.dataset(path, format="parquet", exclude_invalid_files=True).to_table()
    hrefs = [item[band]["href"] for item in written.column("assets").to_pylist() for band in bands]
    assert hrefs[:2] == [f"https://h.example/{band}/0.tif?v=1" for band in bands]
    assert not any("hush" in href for href in hrefs)
    assert "sig=hush" in collection.runtime.source(0, bands[0]).href, "what is in memory can still be read"


def test_many_geometries_find_what_each_finds() -> None:
    random = np.random.default_rng(5)
    west, south = random.uniform(-180, 179, 400), random.uniform(-80, 78, 400)
    boxes = shapely.box(west, south, west + random.uniform(0, 1, 400), south + random.uniform(0, 2, 400))
    wkb = pa.array(shapely.to_wkb(boxes), pa.binary())
    crossing = np.arange(400) % 7 == 1
    wkb = pc.if_else(pa.array(crossing | (np.arange(400) % 9 == 0)), None, wkb)  # no footprint: the box has to do
    sides = {side: pa.array(column) for side, column in zip(s.SIDES, shapely.bounds(boxes).T, strict=True)}
    sides["xmin"] = pc.if_else(pa.array(crossing), 179.5, sides["xmin"])
    sides["xmax"] = pc.if_else(pa.array(crossing), -179.5, sides["xmax"])
    columns = {"id": [f"i{n}" for n in range(400)], "datetime": pa.array([0] * 400, s.TIMESTAMP), "geometry": wkb}
    columns |= {
        "bbox": pa.StructArray.from_arrays(list(sides.values()), list(sides)),
        "assets": [{"B": {"href": "h"}}] * 400,
    }
    collection = as_collection(pa.table(columns))
    shapes = [
        *shapely.buffer(shapely.points(random.uniform(-175, 175, (40, 2)) * (1, 0.4)), 3),
        shapely.box(179, 0, 180, 50),
    ]
    singly = [
        set(collection.subset(geometries=one).column("id").to_pylist()) for one in shapes if _hit(collection, one)
    ]
    assert len(singly) >= 10
    assert set(collection.subset(geometries=shapes).column("id").to_pylist()) == set.union(*singly)


def _hit(collection: Collection, shape: object) -> bool:
    try:
        return len(collection.subset(geometries=shape)) > 0
    except EmptySelectionError:
        return False


@pytest.mark.parametrize(
    ("boxes", "west", "east"),
    [
        ([(10, 0, 20, 1), (30, 0, 40, 1)], 10, 40),
        ([(179, 0, -179, 1)], 179, -179),
        ([(179, 0, -179, 1), (10, 0, 11, 1)], 10, -179),
        ([(179, 0, -179, 1), (-178, 0, -170, 1), (170, 0, 175, 1)], 170, -170),
        ([(100, 0, -100, 1), (-110, 0, 110, 1)], -180, 180),
    ],
    ids=str,
)
def test_bounds_across_the_antimeridian(boxes, west, east):
    sides = [pa.array(np.array(boxes, float)[:, side]) for side in range(4)]
    assert extent(pa.table({"bbox": pa.StructArray.from_arrays(sides, s.SIDES)})) == (west, 0.0, east, 1.0)


@pytest.mark.parametrize("assets", ["a.tif", 7, ["a.tif"]])
def test_assets_that_name_no_bands_are_refused(dated, tmp_path, assets):
    table = dated.to_table()
    table = table.set_column(table.schema.get_field_index("assets"), "assets", pa.array([assets] * len(table)))
    pq.write_table(table, tmp_path / "odd.parquet")
    for opened in (lambda: as_collection(table), lambda: load(tmp_path / "odd.parquet")):
        with pytest.raises(IndexCorruptError, match=r"column 'assets' of type .* a struct with a field for each"):
            opened()
