"""`iter_areas` gives what `get_numpy` gives, geometry by geometry, and reads ahead no further than it must."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

import rasteret_torch as rt
from rasteret_torch.errors import EmptySelectionError, InputError
from rasteret_torch.readers import area as area_module
from rasteret_torch.readers import stream

UTM14 = "EPSG:26914"
CORNERS = [(486_000.0 + 300 * number, 5_206_500.0 + 150 * number) for number in range(12)]
BOXES = [shapely.box(x, y, x + 200 + 50 * number, y + 300) for number, (x, y) in enumerate(CORNERS)]


@pytest.mark.parametrize("group_by", ["item", "date", None])
def test_the_same_pixels_as_get_numpy(naip: rt.Collection, group_by: str | None) -> None:
    areas = list(naip.iter_areas(BOXES, ["R", "N"], geometry_crs=UTM14, group_by=group_by))
    assert [area.geometry_id for area in areas] == list(range(12))
    for area, box in zip(areas, BOXES, strict=True):
        expected, ids = naip.get_numpy(box, ["R", "N"], geometry_crs=UTM14, group_by=group_by, return_ids=True)
        np.testing.assert_array_equal(area.data, expected)
        assert area.valid.shape == area.data.shape
        assert area.grid.shape == area.data.shape[2:]
        records = [[one] if isinstance(one, str) else one for one in ids["record_id"].to_pylist()]
        assert [list(step) for step in area.record_ids] == records
        assert area.datetimes.tolist() == [one.replace(tzinfo=None) for one in ids["datetime"].to_pylist()]


def test_geometries_without_items_are_passed_over(naip: rt.Collection) -> None:
    far = shapely.box(0, 0, 100, 100)
    areas = list(naip.iter_areas([far, BOXES[0], far], "R", geometry_crs=UTM14))
    assert [area.geometry_id for area in areas] == [1]
    with pytest.raises(EmptySelectionError):
        list(naip.iter_areas([far], "R", geometry_crs=UTM14))
    with pytest.raises(InputError):
        naip.iter_areas([], "R")  # mistakes are told at once, not at the first step


def test_it_reads_a_bounded_part_ahead(naip: rt.Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BATCH_NBYTES", 1)
    planned = []
    plan = area_module.area_read
    monkeypatch.setattr(area_module, "area_read", lambda *given: planned.append(1) or plan(*given))
    areas = naip.iter_areas(BOXES, "R", geometry_crs=UTM14)
    next(areas)
    assert len(planned) <= 4
    assert len(list(areas)) == 11
