"""`read_window`: chosen items on a grid of one's own."""

import numpy as np
import pytest
import rasterio
from rasterio.windows import from_bounds

import rasteret_torch as rt
from rasteret_torch.errors import (
    BandNotFoundError,
    CRSMismatchError,
    EmptySelectionError,
    InputError,
    UnknownKeywordError,
)


def test_one_item_equals_rasterio(dated):
    grid = dated.runtime.grid(0, "B1")
    west, south, *_ = grid.bounds
    box = (west + 100, south + 50, west + 400, south + 250)
    raster = dated.read_window("scene_20200219", box, 10, ["B2", "B1"])
    with rasterio.open(dated.runtime.source(1, "B1").href) as file:
        np.testing.assert_array_equal(raster.data, file.read([2, 1], window=from_bounds(*box, file.transform)))
    np.testing.assert_array_equal(raster.valid, raster.data != 7)
    assert raster.grid.bounds == box
    assert raster.grid.crs is not None


def test_ids_are_in_mosaic_order_and_steps_in_time_order(dated):
    box = dated.runtime.grid(0, "B1").bounds
    ids = ["scene_20210630", "scene_20200101"]
    first, second = (dated.read_window(name, box, 10, "B1") for name in ids)
    both = dated.read_window(ids, box, 10, "B1")
    np.testing.assert_array_equal(both.data, np.where(first.valid, first.data, second.data))
    steps = dated.read_window(ids, box, 10, "B1", group_by="item")
    np.testing.assert_array_equal(steps.data, np.stack([second.data, first.data]))


def test_zones(two_zones):
    ids = list(two_zones.runtime.ids)
    with pytest.raises(CRSMismatchError, match="target_crs="):
        two_zones.read_window(ids, (12.0, 44.99, 12.01, 45.0), 0.0001, "B1")
    raster = two_zones.read_window(ids, (12.0, 44.99, 12.01, 45.0), 0.0001, "B1", target_crs=4326, group_by="date")
    assert raster.data.shape == (2, 1, 100, 100)
    assert raster.valid.all()


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        ({"item_ids": "scene_19990101"}, InputError, "scene_20200101"),
        ({"item_ids": []}, InputError, "none given"),
        ({"item_ids": 5}, InputError, "scene_20200101"),
        ({"bands": "B9"}, BandNotFoundError, "B1"),
        ({"res": "fine"}, InputError, "res"),
        ({"res": 1e-9}, InputError, "GiB"),
        ({"resampling": "lanczos"}, InputError, "bilinear"),
        ({"read": rt.ReadOptions(on_error="replace")}, InputError, "choose 'raise' or 'nodata'"),
        ({"read": {"attempts": 2}}, InputError, "ReadOptions"),
        ({"bounds": (1, 1, 0, 0)}, InputError, "box"),
        ({"bounds": (1, 1, 0)}, InputError, "box"),
        ({"bounds": None}, InputError, "box"),
        ({"bounds": (0, 0, 1e7, 1e7), "res": 1}, InputError, "GiB"),
        ({"bounds": (11.1, 45.2, 11.2, 45.3)}, InputError, "no pixel of size .* UTM .*units of that CRS"),
        ({"bounds": (0, 0, 100, 100)}, EmptySelectionError, "beside the 1 items"),
    ],
)
def test_wrong_arguments(dated, words, error, message):
    right = {"item_ids": "scene_20200101", "bounds": dated.runtime.grid(0, "B1").bounds, "res": 10, "bands": "B1"}
    with pytest.raises(error, match=message):
        dated.read_window(**right | words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"record_ids": ["scene_20200219"]}, r"read_window\(\) takes no 'record_ids'; pass item_ids="),
        ({"item_ids": ["scene_20200219"], "max_concurrent": 8}, r"takes no 'max_concurrent'; pass read=rt.ReadOptions"),
    ],
)
def test_words_of_others_are_answered_with_ours(dated, words, message):
    with pytest.raises(UnknownKeywordError, match=message):
        dated.read_window(bounds=dated.runtime.grid(0, "B1").bounds, res=10, bands="B1", **words)


def test_filters_leave_items_out(dated):
    box = dated.runtime.grid(0, "B1").bounds
    ids = list(dated.runtime.ids)
    early = dated.read_window(ids, box, 10, "B1", group_by="item", date_range=(None, "2020-12-31"))
    plain = dated.read_window(dated.column("id")[:2], box, 10, "B1", group_by="item")
    np.testing.assert_array_equal(early.data, plain.data)
    with pytest.raises(EmptySelectionError, match="none of the 1 items asked for"):
        dated.read_window(ids[2], box, 10, "B1", date_range=(None, "2020-12-31"))


def test_progress_changes_no_pixel(dated, capsys):
    box = dated.runtime.grid(0, "B1").bounds
    ids = list(dated.runtime.ids)
    for group_by in ("item", None):
        plain = dated.read_window(ids, box, 10, ["B1", "B2"], group_by=group_by)
        shown = dated.read_window(ids, box, 10, ["B1", "B2"], group_by=group_by, progress=True)
        np.testing.assert_array_equal(shown.data, plain.data)
        np.testing.assert_array_equal(shown.valid, plain.valid)
    assert "3/3" in capsys.readouterr().err
