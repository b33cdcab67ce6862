"""Audits of splits: planted leaks are found, clean splits pass."""

import json
import time

import numpy as np
import pytest
import shapely
from affine import Affine
from places import boxes_collection, shapes_collection, tiled_collection
from scenes import DATED, write_tiff

from rasteret_torch.errors import InputError, SplitLeakError, SplitNotFoundError
from rasteret_torch.index.blocks import METRES_A_DEGREE, SpatialBlocks
from rasteret_torch.ingest import build_from_files

WEST, EAST = (9.0, 45.0, 9.1, 45.1), (9.3, 45.0, 9.4, 45.1)


def km(east_deg: float, lat: float) -> float:
    return east_deg * np.cos(np.radians(lat)) * METRES_A_DEGREE / 1000


def test_a_planted_leak_is_found():
    tiles = tiled_collection(40, 40, 1000.0).assign_splits(SpatialBlocks(8000.0, 500.0), seed=1)
    assert tiles.audit_splits(min_distance_m=500.0).ok
    names = tiles.column("split").to_pylist()
    inside = next(n for n, name in enumerate(names) if name == "val")
    shapes = shapely.from_wkb(tiles.geometry.to_numpy())
    both = shapes_collection(np.append(shapes, shapes[inside]), split=[*names, "train"])
    audit = both.audit_splits()
    assert not audit.ok
    pair = next(pair for pair in audit.pairs if pair.overlapping_items)
    assert {pair.one, pair.other} == {"train", "val"}
    assert pair.overlapping_items == 2
    assert pair.same_date_items == 2
    assert pair.overlap_km2 == pytest.approx(1.0, rel=0.01)
    assert set(pair.examples[0]) == {f"item{inside:06d}", f"item{len(tiles):06d}"}
    assert "km² of ground" in audit.problems[0]
    with pytest.raises(SplitLeakError, match=f"item{inside:06d}"):
        audit.enforce("raise")
    with pytest.warns(UserWarning, match="leak"):
        audit.enforce("warn")
    audit.enforce("off")


def test_partial_overlap_area_and_distance():
    shifted = (9.05, 45.0, 9.15, 45.1)
    audit = boxes_collection([WEST, shifted, EAST], split=["a", "b", "c"]).audit_splits()
    pairs = {(pair.one, pair.other): pair for pair in audit.pairs}
    assert pairs["a", "b"].overlap_km2 == pytest.approx(km(0.05, 45.05) * 0.1 * METRES_A_DEGREE / 1000, rel=1e-3)
    assert pairs["a", "c"].distance_m == pytest.approx(1000 * km(0.2, 45.05), rel=2e-3)
    assert pairs["b", "c"].distance_m == pytest.approx(1000 * km(0.15, 45.05), rel=2e-3)
    assert pairs["a", "c"].overlapping_items == 0
    assert [part.area_km2 for part in audit.parts] == pytest.approx([87.4] * 3, rel=0.01)


def test_distances_far_from_the_middle_of_the_world_are_true():
    """The plane shears there: what lies north of each other looks farther apart, others look nearer."""
    side, north = 0.001, 1 / (METRES_A_DEGREE / 1000)  # of a kilometre
    east = north / np.cos(np.radians(60.0))

    def box(lon: float, lat: float) -> tuple[float, float, float, float]:
        return lon, lat, lon + side, lat + side

    middle = [box(float(lon), 0.0) for lon in range(-20, 20, 4)]
    above = [box(140.0, 60.0), box(140.0, 60.0 + side + north)]  # 1 km apart, 2.3 on the plane
    aslant = [box(141.0, 60.0), box(141.0 + side + 3.3 * east, 60.0 + side + 1.5 * north)]  # 3.6 km apart, there 1.5
    for boxes, distance_m in ((above, 1000.0), (aslant, 3625.0), (above + aslant, 1000.0), (aslant + above, 1000.0)):
        split = ["train"] * len(middle) + ["train", "val"] * (len(boxes) // 2)
        (pair,) = boxes_collection([*middle, *boxes], split=split).audit_splits().pairs
        assert pair.distance_m == pytest.approx(distance_m, rel=0.01)


def test_neighbours_touch_without_leaking_until_a_distance_is_asked_for():
    tiles = tiled_collection(2, 1, 1000.0).with_column("split", ["train", "val"])
    audit = tiles.audit_splits()
    assert audit.ok
    assert audit.pairs[0].distance_m < 1.0
    far = tiles.audit_splits(min_distance_m=10.0)
    assert not far.ok
    assert "10 m are asked for" in far.problems[0]


def test_time_may_be_held_out_on_the_same_ground():
    boxes, days = [WEST, WEST, EAST, EAST], [0, 400, 0, 400]
    apart = boxes_collection(boxes, days, split=["train", "test", "train", "test"])
    assert not apart.audit_splits().ok
    audit = apart.audit_splits(holds_out="time")
    assert audit.ok
    assert audit.pairs[0].overlapping_items == 4
    assert audit.pairs[0].same_date_items == 0
    mixed = boxes_collection(boxes, [0, 0, 0, 400], split=["train", "test", "train", "test"])
    leak = mixed.audit_splits(holds_out="time")
    assert leak.pairs[0].same_date_items == 2
    assert leak.pairs[0].same_dates == 1
    assert leak.pairs[0].examples == (("item000000", "item000001"),)
    assert "same ground on the same date" in leak.problems[0]


def test_counts_agree_with_a_loop():
    rng = np.random.default_rng(5)
    corners = rng.uniform((9, 45), (9.3, 45.3), (120, 2))
    boxes = np.hstack([corners, corners + 0.03])
    boxes[60:90] = boxes[:30]  # the same places again
    days, splits = rng.integers(0, 3, 120), rng.choice(["a", "b", "c"], 120)
    audit = boxes_collection(boxes.tolist(), days, split=splits.tolist()).audit_splits()
    for pair in audit.pairs:
        met, dated = set(), set()
        for i in np.flatnonzero(splits == pair.one):
            for j in np.flatnonzero(splits == pair.other):
                sides = np.minimum(boxes[i, 2:], boxes[j, 2:]) - np.maximum(boxes[i, :2], boxes[j, :2])
                if (sides > 0).all() and np.prod(sides) > 2e-3 * 0.03**2:
                    met |= {i, j}
                    dated |= {i, j} if days[i] == days[j] else set()
        assert abs(pair.overlapping_items - len(met)) <= 1  # slivers
        assert abs(pair.same_date_items - len(dated)) <= 1
        assert pair.same_dates == 3


def test_across_the_antimeridian():
    crossing = boxes_collection(
        [(179.9, 10.0, 180.0, 10.1), (-180.0, 10.0, -179.9, 10.1)], split=["train", "val"]
    ).audit_splits()
    assert crossing.ok
    assert crossing.pairs[0].distance_m == pytest.approx(0.0, abs=1.0)


def test_labels_and_what_is_left_out():
    boxes = [WEST, EAST, (9.6, 45.0, 9.7, 45.1), (9.9, 45.0, 10.0, 45.1)]
    audit = boxes_collection(boxes, split=["a", "a", "b", None], label=["x", "y", "y", "y"]).audit_splits()
    assert audit.imbalance == 0.5
    assert audit.unassigned == 1
    assert [part.labels for part in audit.parts] == [{"x": 1, "y": 1}, {"x": 0, "y": 1}]
    text = str(audit)
    assert "1 items have no split" in text
    assert "they share no ground" in text
    assert "<table>" in audit._repr_html_()
    assert json.loads(json.dumps(audit.to_dict()))["ok"] is True
    alone = boxes_collection(boxes[:1], split=["a"]).audit_splits()
    assert alone.ok
    assert alone.pairs == ()


def test_refusals():
    places = boxes_collection([WEST, EAST], kind=["a", "b"], empty=[None, None], size=[0.5, 1.5])
    with pytest.raises(SplitNotFoundError, match="no split column 'split'"):
        places.audit_splits()
    with pytest.raises(SplitNotFoundError, match="holds no split"):
        places.audit_splits("empty")
    with pytest.raises(InputError, match="holds_out"):
        places.audit_splits("kind", holds_out="both")
    with pytest.raises(InputError, match="classes are"):
        places.audit_splits("kind", label="size")
    with pytest.raises(InputError, match="choose 'warn'"):
        places.audit_splits("kind").enforce("loud")


def test_files_of_one_grid_are_compared_exactly(dated):
    split = dated.with_column("split", ["train", "val", "test"])
    audit = split.audit_splits()  # 500 m wide, each 1 km further east
    assert [round(pair.distance_m, 6) for pair in audit.pairs] == [500.0, 1500.0, 500.0]
    assert [part.area_km2 for part in audit.parts] == pytest.approx([0.2] * 3)


def test_many_items_take_seconds():
    tiles = tiled_collection(160, 160, 500.0).assign_splits(seed=2)
    began = time.process_time()
    audit = tiles.audit_splits()
    assert time.process_time() - began < 20  # 1 s on an idle core; a loop over pairs takes many minutes
    assert sum(part.items for part in audit.parts) == 25_600
    assert audit.ok


def test_grids_that_are_off_by_less_than_a_pixel_do_not_leak(tmp_path):
    names = [f"scene_2020010{day}" for day in (1, 2, 3)]
    for name, x in zip(names, (500_000.0, 500_495.0, 501_485.0), strict=True):  # 500 m wide each
        write_tiff(tmp_path / f"{name}.tif", transform=Affine(10.0, 0.0, x, 0.0, -10.0, 5_000_000.0))
    files = build_from_files(tmp_path, filename_regex=DATED, progress=False)
    audit = files.with_column("split", names).audit_splits()
    assert audit.ok
    assert all(pair.overlap_km2 == 0 for pair in audit.pairs)
    write_tiff(tmp_path / f"{names[1]}.tif", transform=Affine(10.0, 0.0, 500_489.0, 0.0, -10.0, 5_000_000.0))
    files = build_from_files(tmp_path, filename_regex=DATED, progress=False)
    audit = files.with_column("split", names).audit_splits()
    assert [pair.overlap_km2 for pair in audit.pairs if pair.overlapping_items] == pytest.approx([11 * 400 / 1e6])
