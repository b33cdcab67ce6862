"""Footprints as other tools write them: every encoding and CRS becomes WKB in lon/lat, or an error says why not."""

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from rasteret_torch.errors import InputError
from rasteret_torch.index import as_collection, load
from rasteret_torch.index.geometries import check_degrees, lonlat_wkb

BOXES = [shapely.box(9.0 + n, 47.8, 9.5 + n, 48.2) for n in range(3)]
MIXED = {
    "points": [shapely.Point(9, 48), None, shapely.Point(10, 48)],
    "lines": [shapely.LineString([(9, 48), (10, 49)]), None],
    "polygons": [BOXES[0].difference(shapely.box(9.1, 47.9, 9.2, 48.0)), None, *BOXES],
    "multi": [shapely.MultiPolygon(BOXES), shapely.MultiPolygon(BOXES[:1])],
    "multipoints": [shapely.MultiPoint([(9, 48), (10, 49)]), None],
    "multilines": [shapely.MultiLineString([[(9, 48), (10, 49)], [(1, 2), (3, 4)]]), None],
}


def shapes(table: pa.Table) -> np.ndarray:
    return shapely.from_wkb(lonlat_wkb(table).to_numpy())


@pytest.mark.parametrize("kind", MIXED)
@pytest.mark.parametrize("form", ["WKB", "geoarrow", "separated", "file", "slice"])
def test_encodings(kind: str, form: str, tmp_path) -> None:
    frame = gpd.GeoDataFrame(geometry=MIXED[kind], crs=4326)
    if form == "file":
        frame.to_parquet(tmp_path / "a.parquet", geometry_encoding="geoarrow")
        table = pq.read_table(tmp_path / "a.parquet")
    else:
        table = pa.table(
            frame.to_arrow(
                geometry_encoding="WKB" if form == "WKB" else "geoarrow", interleaved=form != "separated", index=False
            )
        )
    wanted = MIXED[kind]
    if form == "slice":
        table, wanted = table.slice(1), wanted[1:]
    found = shapes(table)
    assert [one is None for one in found] == [one is None for one in wanted]
    assert all(shapely.equals_exact(a, b) for a, b in zip(found, wanted, strict=True) if a is not None)


@pytest.mark.parametrize("crs", [32632, 3857, 3035, "ESRI:54009", "+proj=sinu +R=6371007.181"])
def test_projected_footprints_come_in_lonlat(crs, tmp_path) -> None:
    frame = gpd.GeoDataFrame(geometry=shapely.segmentize(BOXES, 0.01), crs=4326).to_crs(crs)
    frame.to_parquet(tmp_path / "a.parquet", write_covering_bbox=True)
    for table in (pa.table(frame.to_arrow(geometry_encoding="WKB")), pq.read_table(tmp_path / "a.parquet")):
        assert np.allclose(shapely.area(shapely.symmetric_difference(shapes(table), BOXES)), 0, atol=1e-5)
    across = gpd.GeoDataFrame(geometry=[shapely.box(3e5, 7e6, 4e5, 7.1e6)], crs=32601)
    with pytest.warns(UserWarning, match="no certain place"):
        assert shapes(pa.table(across.to_arrow(geometry_encoding="WKB")))[0] is None


def test_text_and_geojson() -> None:
    texts = [BOXES[0].wkt, shapely.to_geojson(BOXES[0]), BOXES[0].wkb_hex, f"SRID=4326;{BOXES[0].wkt}", None]
    found = shapes(pa.table({"geometry": texts}))
    assert found[-1] is None
    assert all(shapely.equals(one, BOXES[0]) for one in found[:-1])
    assert shapely.equals(shapes(pa.table({"geometry": [shapely.geometry.mapping(BOXES[0])]}))[0], BOXES[0])
    for bad in (pa.array(["over there"]), pa.array([1.0]), pa.array([[[[[[1.0]]]]]])):
        with pytest.raises(InputError, match=r"pass WKB|no WKT"):
            lonlat_wkb(pa.table({"geometry": bad}))


def test_collections_of_projected_tables(tmp_path) -> None:
    frame = gpd.GeoDataFrame(
        {
            "id": ["a", "b", "c"],
            "datetime": ["2024-01-01"] * 3,
            "assets": [{"B1": {"href": "https://x.example/a"}}] * 3,
        },
        geometry=BOXES,
        crs=4326,
    ).to_crs(32632)
    frame.to_parquet(tmp_path / "a.parquet", write_covering_bbox=True)
    for collection in (as_collection(frame), load(tmp_path / "a.parquet")):
        assert np.allclose(collection.bounds, (9, 47.8, 11.5, 48.2), atol=0.01)
        again = as_collection(collection)
        collection.save(tmp_path / "saved")
        assert load(tmp_path / "saved").bounds == collection.bounds == again.bounds
    with pytest.raises(InputError, match="say their CRS"):
        as_collection(gpd.GeoDataFrame(frame).set_crs(None, allow_override=True))
    check_degrees(np.array([[np.nan] * 4, [170.0, -90.0, 190.0, 90.0]]))
