"""Other tools read a collection and give it back."""

import contextlib
import datetime as dt
import json
import uuid
import warnings

import duckdb
import geopandas as gpd
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import rasterio
from scenes import DATED, write_tiff

from rasteret_torch.errors import IndexCorruptError, InputError
from rasteret_torch.index import as_collection, contents, load, mapped
from rasteret_torch.ingest import build_from_files, build_from_table


def same(one, other) -> None:
    assert one.column("id").to_pylist() == other.column("id").to_pylist()
    assert one.runtime.content_hash == other.runtime.content_hash
    source, expected = one.runtime.source(1, "nir"), other.runtime.source(1, "nir")
    assert (source.href, source.sample) == (expected.href, expected.sample)
    assert source.header.image.offsets.tolist() == expected.header.image.offsets.tolist()
    assert source.header.last_modified == expected.header.last_modified


def test_duckdb(dated):
    items = dated.to_table()  # noqa: F841 - DuckDB finds it by name
    again = as_collection(duckdb.sql("select *, 'train' as split from items order by id").to_arrow_table())
    same(again, dated)
    assert again.column("split").to_pylist() == ["train"] * 3
    found = duckdb.sql("select id from dated where year = 2021").fetchall()
    assert found == [("scene_20210630",)]


def test_polars(dated):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Polars says that it does not know the GeoArrow extension
        frame = pl.DataFrame(dated)
        again = as_collection(frame.with_columns(pl.lit("val").alias("split")))
    same(again, dated)
    assert again.column("split").to_pylist() == ["val"] * 3
    assert len(again.head(2).select_split("val")) == 2


def test_the_schema_is_known_without_the_rows(dated):
    assert pa.schema(dated).equals(pa.table(dated).schema, check_metadata=True)


def test_paths_are_no_tables():
    with pytest.raises(InputError, match="load"):
        as_collection("somewhere/else")


def test_text_of_polars(dated):
    """Its columns are views, which Arrow can neither select from nor compare."""
    kept = pl.DataFrame({"id": dated.column("id").to_pylist()[:2], "label": ["a", "b"], "tags": [["x"], None]})
    joined = dated.join(kept)
    assert joined.head(3).column("tags").to_pylist() == [["x"], None, None]
    assert joined.where(pc.field("label") == "b").column("id").to_pylist() == ["scene_20200219"]
    column = dated.with_column("split", pl.Series(["train", "val", "train"]))
    assert len(column.select_split("train")) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        streamed = as_collection(pa.RecordBatchReader.from_stream(pl.DataFrame(column)))
    assert len(streamed.select_split("train").head(2)) == 2


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.9])
def test_a_stream_that_breaks_off_is_typed(dated, cut):
    sink = pa.BufferOutputStream()
    table = dated.to_table()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=1)
    whole = sink.getvalue().to_pybytes()
    start = len(whole) - sum(batch.nbytes for batch in table.to_batches())
    stream = pa.ipc.open_stream(whole[: start + int((len(whole) - start) * cut)])
    with pytest.raises(IndexCorruptError, match="cannot be read to its end"):
        as_collection(stream)


def test_a_dataset_with_a_damaged_file_is_typed(dated, tmp_path):
    pq.write_table(dated.to_table(), tmp_path / "rows.parquet", compression="none")
    dataset = ds.dataset(tmp_path / "rows.parquet")
    content = (tmp_path / "rows.parquet").read_bytes()
    (tmp_path / "rows.parquet").write_bytes(b"PAR1" + bytes(len(content) // 2) + content[4 + len(content) // 2 :])
    with pytest.raises(IndexCorruptError, match="cannot be read to its end"):
        as_collection(dataset)


def test_a_mistake_in_a_stream_of_ones_own_comes_as_it_is(dated):
    def batches():
        yield from dated.to_table().to_batches()
        raise ZeroDivisionError("mine")

    stream = pa.RecordBatchReader.from_batches(dated.schema, batches())
    with pytest.raises(ZeroDivisionError, match="mine"):
        as_collection(stream)


@pytest.mark.parametrize("form", ["plain", "list", "struct"])
def test_categories_of_each_batch_its_own(dated, form, tmp_path):
    """As those of a Parquet file with categories of pandas are, which come batch by batch."""
    batches = [pa.array([name]).dictionary_encode() for name in "abc"]
    if form == "list":
        batches = [pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), batch) for batch in batches]
    elif form == "struct":
        batches = [pa.StructArray.from_arrays([batch], ["of"]) for batch in batches]
    values = pa.chunked_array(batches)
    made = dated.with_column("theirs", values)
    for one in (as_collection(made.to_reader()), load(made.save(tmp_path / "saved"))):
        assert one.column("theirs").to_pylist() == values.to_pylist()
    file = made._view.root.recipe().layers[-1]
    assert mapped.Layer.mapped(file).column("theirs").to_pylist() == values.to_pylist()


def test_boxes_with_heights_and_without(dated):
    boxes = pa.array([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, -9.0, 3.0, 4.0, 9.0], None])
    table = dated.to_table()
    mixed = as_collection(table.set_column(table.schema.get_field_index("bbox"), "bbox", boxes))
    box = {"xmin": 1.0, "ymin": 2.0, "xmax": 3.0, "ymax": 4.0}
    assert mixed.column("bbox").to_pylist() == [box, box, dict.fromkeys(box)]
    assert mixed.find((0, 0, 2, 3)).tolist() == [0, 1]


def test_transforms_of_nine_numbers_place_an_item(dated):
    """A 3 x 3 matrix, as rasterio's Affine holds it."""
    table = dated.to_table()
    for band in ("red", "nir"):
        place = table.schema.get_field_index(f"{band}_metadata")
        headers = table.column(place).combine_chunks()
        parts = dict(zip((one.name for one in headers.type), headers.flatten(), strict=True))
        parts["transform"] = pa.array(
            [[a, 0.0, c, 0.0, e, f, 0.0, 0.0, 1.0] for a, c, e, f in parts["transform"].to_pylist()]
        )
        table = table.set_column(
            place, f"{band}_metadata", pa.StructArray.from_arrays(list(parts.values()), list(parts))
        )
    nine = as_collection(table)
    assert nine.runtime.bounds().tolist() == dated.runtime.bounds().tolist()
    assert nine.runtime.grid(1, "red") == dated.runtime.grid(1, "red")


def test_a_collection_is_called_anew(dated):
    other = as_collection(dated, name="other")
    assert (other.name, other.data_source, dated.name) == ("other", dated.data_source, "dated")
    assert as_collection(dated) is dated


FIELDS = {
    "dates": pa.array([dt.date(2020, 1, day) for day in (1, 2, 3)]),
    "times": pa.array([dt.time(day) for day in (1, 2, 3)], pa.time32("ms")),
    "pairs": pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int64(), 2)),
    "maps": pa.array([[("a", 1)], None, []], pa.map_(pa.string(), pa.int64())),
    "bytes": pa.array([b"\xff\xfe"] * 3, pa.binary(2)),
}


@pytest.mark.parametrize("name", FIELDS)
def test_assets_have_fields_of_any_type(dated, name, tmp_path):
    table = dated.to_table()
    place = table.schema.get_field_index("assets")
    assets = table.column(place).combine_chunks()
    red = assets.field("red")
    more = pa.StructArray.from_arrays([*red.flatten(), FIELDS[name]], [*(one.name for one in red.type), "more"])
    table = table.set_column(place, "assets", pa.StructArray.from_arrays([more, assets.field("nir")], ["red", "nir"]))
    made = as_collection(table)
    whole, first = made.runtime.content_hash, made.head(1).runtime.content_hash
    assert as_collection(pa.concat_tables([table.slice(0, 1), table.slice(1)])).runtime.content_hash == whole != first
    saved = load(made.save(tmp_path / "saved"))
    assert contents.content_hash(saved._view.root, None) == whole
    other = made.to_table().set_column(place, "assets", made.to_table().column(place).take(pa.array([0, 1, 1])))
    assert as_collection(other).runtime.content_hash != whole


def _uuids() -> pa.Array:
    return pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"sixteen bytes id"] * 3, pa.binary(16)))


@pytest.mark.parametrize(
    "values",
    [
        [[{"a": 1, "b": None}, {"a": 2, "b": None}]] * 3,
        [{"bands": [{"nodata": None}, {"nodata": None}]}] * 3,
        [[None, None]] * 3,
        _uuids(),
        pa.RunEndEncodedArray.from_arrays([2, 3], ["a", "b"]),
        pa.array([[("a", "b")], None, []], pa.map_(pa.string(), pa.string_view())),
        pa.ListArray.from_arrays(pa.array(range(4), pa.int32()), _uuids()),
    ],
    ids=["lists of structs", "nested", "lists", "uuid", "runs", "maps of views", "lists of uuids"],
)
def test_columns_of_others_are_kept_whatever_their_type(dated, values, tmp_path):
    """Of fields that are null everywhere, Arrow's casts lose values; UUIDs lack methods of other extensions."""
    expected = pa.array(values).to_pylist() if isinstance(values, list) else values.to_pylist()
    table = dated.to_table().append_column("theirs", pa.array(values) if isinstance(values, list) else values)
    reader = pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=2))
    for one in (as_collection(table), as_collection(reader), build_from_table(table, progress=False)):
        assert load(one.save(tmp_path / "saved")).to_table(["theirs"])["theirs"].to_pylist() == expected
        assert one.head(2).to_table()["theirs"].to_pylist() == expected[:2]


@pytest.mark.parametrize(
    "kind",
    [
        pa.month_day_nano_interval(),
        pa.struct([]),
        pa.dictionary(pa.int8(), pa.uuid()),
    ],
)
def test_columns_that_parquet_has_no_type_for_are_named(dated, kind, tmp_path):
    c = dated.with_column("theirs", _runs() if pa.types.is_run_end_encoded(kind) else pa.nulls(3, kind))
    with pytest.raises(InputError, match=r"column 'theirs' of type .* cannot be stored as Parquet"):
        c.save(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def _runs() -> pa.Array:
    return pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), pa.array([1, 2], pa.int8()))


def test_uuids_are_ids(dated):
    names = [uuid.UUID(int=number) for number in range(3)]
    storage = pa.array([name.bytes for name in names], pa.binary(16))
    table = dated.to_table().set_column(0, "id", pa.ExtensionArray.from_storage(pa.uuid(), storage))
    assert as_collection(table).column("id").to_pylist() == [str(name) for name in names]


@pytest.mark.parametrize("key", [b"geo", b"rasteret_torch", b"rasteret_torch_stats", b"ARROW:schema"])
@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"columns":' * 10_000, b"\xff", b"[]", b"null"])
def test_what_a_schema_says_is_not_trusted(dated, key, text, tmp_path):
    table = dated.to_table()
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), key: text})
    with contextlib.suppress(IndexCorruptError):
        assert len(load(as_collection(table).save(tmp_path / "saved"))) == 3


def test_geopandas(dated, tmp_path):
    frame = gpd.GeoDataFrame.from_arrow(dated)
    assert frame.crs == "OGC:CRS84"
    assert list(frame["id"]) == dated.column("id").to_pylist()
    same(as_collection(frame.to_arrow(index=False)), dated)
    saved = gpd.read_parquet(dated.save(tmp_path / "saved") / "part-00000.parquet", bbox=(9.013, 45, 9.1, 46))
    assert list(saved["id"]) == ["scene_20200219", "scene_20210630"]


def test_files_that_others_opened(dated, tmp_path):
    """Tile tables are packed in them, and pandas forgets the types of what is null."""
    cog = write_tiff(tmp_path / "cogs" / "scene_20200101.tif", shape=(300, 300))
    with rasterio.open(cog, "r+") as file:
        file.build_overviews([2, 4])
    cogs = build_from_files(cog, bands=["nir"], filename_regex=DATED, progress=False)
    for collection, folder in ((dated, "plain"), (cogs, "overviews")):
        path = collection.save(tmp_path / folder)
        for table in (gpd.read_parquet(path), pd.read_parquet(path), pl.read_parquet(path / "*.parquet")):
            again = as_collection(table)
            assert again.to_table(["nir_metadata"]).equals(collection.to_table(["nir_metadata"]))


def test_files_of_a_folder_have_columns_of_their_own(dated, tmp_path):
    """Who adds a file a month has columns that begin later, are null at first, or turn out to be fractions."""
    table = dated.to_table()
    later = table.slice(1).append_column("further", pa.array([1, 2])).append_column("share", pa.array([0.5, 0.25]))
    later = later.append_column("note", pa.array(["a", "b"]))
    number = later.schema.get_field_index("assets")
    assets = [{**one, "new": one["nir"]} for one in later.column("assets").to_pylist()]
    later = later.set_column(number, "assets", pa.array(assets)).append_column("new_metadata", later["nir_metadata"])
    first = table.slice(0, 1).append_column("share", pa.array([1])).append_column("note", pa.nulls(1))
    for year, part in (("2020", first), ("2021", later)):
        path = tmp_path / "months" / f"since={year}" / "part.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(part, path)
    found = load(tmp_path / "months", root="/")
    assert found.bands == ["red", "nir", "new"]
    columns = found.to_table(["further", "share", "note", "since"]).to_pydict()
    assert columns["further"] == [None, 1, 2]
    assert columns["share"] == [1.0, 0.5, 0.25]
    assert columns["note"] == [None, "a", "b"]
    assert columns["since"] == [2020, 2021, 2021]
    for row, band in ((2, "new"), (0, "nir")):
        source, expected = found.runtime.source(row, band), dated.runtime.source(row, "nir")
        assert (source.href, source.sample) == (expected.href, expected.sample)
        assert source.header.image.offsets.tolist() == expected.header.image.offsets.tolist()
    assert len(load(tmp_path / "months", root="/", date_range="2021")) == 1


def test_nodata_of_nan_is_not_forgotten_by_pandas(tmp_path):
    path = write_tiff(tmp_path / "scene_20200101.tif", dtype="float32", nodata=float("nan"))
    with rasterio.open(path, "r+") as file:
        pixels = file.read()
        pixels[0, 3:9, 5:20] = float("nan")
        file.write(pixels)
        place = tuple(file.bounds), file.res, pixels == pixels
    bounds, res, valid = place
    index = build_from_files(path, bands=["nir"], filename_regex=DATED, progress=False)
    for table in (index.to_table().to_pandas(), gpd.GeoDataFrame.from_arrow(index), index.to_table().to_pylist()):
        again = as_collection(table)
        assert (again.read_window("scene_20200101", bounds, res, ["nir"]).valid == valid).all()


def test_geoparquet_metadata(dated, tmp_path):
    geo = json.loads(pq.read_schema(dated.save(tmp_path / "saved") / "part-00000.parquet").metadata[b"geo"])
    column = geo["columns"]["geometry"]
    assert geo["version"] == "1.1.0"
    assert (column["encoding"], column["geometry_types"]) == ("WKB", ["Polygon"])
    assert column["covering"]["bbox"]["xmax"] == ["bbox", "xmax"]
    assert column["bbox"] == pytest.approx(dated.bounds)


def test_rasteret_layout_is_kept(dated):
    """Its 17 fields, by name and type, are what any reader of its collections expects."""
    fields = {field.name: str(field.type) for field in dated.schema.field("red_metadata").type}
    expected = {
        "image_width": "int32", "image_height": "int32", "tile_width": "int32", "tile_height": "int32",
        "dtype": "string", "transform": "list<item: double>", "predictor": "int32", "compression": "int32",
        "tile_offsets": "list<item: int64>", "tile_byte_counts": "list<item: int64>",
        "pixel_scale": "list<item: double>", "tiepoint": "list<item: double>", "nodata": "double",
        "samples_per_pixel": "int32", "planar_configuration": "int32", "photometric": "int32",
        "extra_samples": "list<item: int32>",
    }  # fmt: skip
    assert {name: fields[name] for name in expected} == expected
    assert list(fields)[:17] == list(expected)
    assert dated.value(0, "red_metadata")["transform"] == [10.0, 500_000.0, -10.0, 5_000_000.0]
