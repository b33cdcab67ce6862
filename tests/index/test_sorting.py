"""Collections sorted in space: the same items, neighbours together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import shapely

from rasteret_torch.index import Collection, as_collection, load, parquet, pruning, snapshot

SIDE, DATES = 12, 4


@pytest.fixture
def scattered() -> Collection:
    """Items of a 12 by 12 grid of places at four dates each, in random order."""
    random = np.random.default_rng(3)
    order = random.permutation(SIDE * SIDE * DATES)
    place, date = order // DATES, order % DATES
    x, y = place % SIDE, place // SIDE
    hrefs = [{"B": {"href": f"https://a.example/{number}.tif", "band_index": 0}} for number in order]
    return as_collection(
        pa.table(
            {
                "id": [str(number) for number in order],
                "datetime": pa.array(date * 86_400_000_000).cast(pa.timestamp("us", tz="UTC")),
                "geometry": shapely.to_wkb(shapely.box(x, y, x + 1, y + 1)),
                "assets": hrefs,
                "number": order,
            }
        ),
        name="scattered",
        data_source="acme/grid",
    )


def test_the_same_items_in_another_order(scattered: Collection) -> None:
    ordered = scattered.sorted_in_space()
    assert (ordered.name, ordered.data_source) == ("scattered", "acme/grid")
    one, other = scattered.to_table().sort_by("number"), ordered.to_table().sort_by("number")
    assert one.equals(other)
    numbers = ordered.column("number").to_numpy()
    assert (np.diff(numbers.reshape(-1, DATES), axis=1) == 1).all()  # a place's dates stay together, in order of time
    assert not np.array_equal(numbers, np.sort(numbers))


def test_a_place_is_in_few_row_groups(scattered: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "_ROW_GROUP_ROWS", 64)
    box = (0.2, 0.2, 1.8, 1.8)
    hit = {}
    for name, collection in (("plain", scattered), ("sorted", scattered.sorted_in_space())):
        path = collection.save(tmp_path / name)
        stored = pq.ParquetFile(path / "part-00000.parquet").metadata
        hit[name] = sum(_touches(stored.row_group(number), box) for number in range(stored.num_row_groups))
        assert len(load(path, bbox=box)) == 4 * DATES
    assert hit == {"plain": 9, "sorted": 1}


def _touches(group: pq.RowGroupMetaData, box: tuple[float, float, float, float]) -> bool:
    columns = {group.column(number).path_in_schema: group.column(number) for number in range(group.num_columns)}
    sides = {side: columns[f"bbox.{side}"].statistics for side in ("xmin", "ymin", "xmax", "ymax")}
    return (
        sides["xmin"].min <= box[2]
        and sides["xmax"].max >= box[0]
        and sides["ymin"].min <= box[3]
        and sides["ymax"].max >= box[1]
    )


def test_views_and_empty_ones(scattered: Collection) -> None:
    view = scattered.subset(bbox=(0.2, 0.2, 1.8, 1.8)).sorted_in_space()
    assert len(view) == 4 * DATES
    assert len(scattered.head(0).sorted_in_space()) == 0


@pytest.mark.parametrize("box", [(10.2, 0.2, 11.8, 0.8), (178.2, 0.2, -178.2, 0.8), (-170.8, 0.2, -169.2, 0.8)])
def test_few_row_groups_along_a_parallel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, box: tuple[float, float, float, float]
) -> None:
    """Their statistics alone cannot rule out that they hold items across the antimeridian."""
    monkeypatch.setattr(snapshot, "_ROW_GROUP_ROWS", 4)
    west = np.array([*range(-179, 179), 179.5, 179.5])
    east = np.where(west < 179, west + 1, -179.5)
    sides = (west, np.zeros(len(west)), east, np.ones(len(west)))
    columns = {
        "id": [str(number) for number in range(len(west))],
        "datetime": pa.array(np.zeros(len(west), np.int64)).cast(pa.timestamp("us", tz="UTC")),
        "geometry": shapely.to_wkb(
            shapely.box(np.minimum(west, 179), sides[1], np.where(east < west, 180, east), sides[3])
        ),
        "bbox": pa.StructArray.from_arrays([pa.array(side) for side in sides], ["xmin", "ymin", "xmax", "ymax"]),
        "assets": [{"B": {"href": "https://a.example/b.tif", "band_index": 0}}] * len(west),
    }
    whole = as_collection(pa.table(columns))
    path = whole.save(tmp_path / "parallel")
    wanted = load(path, bbox=box).column("id").to_pylist()
    assert wanted == whole.subset(bbox=box).column("id").to_pylist()
    dataset = ds.dataset(path / "part-00000.parquet")
    condition = pruning.condition(dataset.schema, box, None)
    assert 0 < len(list(parquet._pruned(dataset, condition).get_fragments())) <= 3
    (part,) = dataset.get_fragments()
    assert len(part.split_by_row_group(condition)) > 20
