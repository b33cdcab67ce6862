"""`min_valid=`: chips of mostly nothing are refused, by overviews and masks, the same way in every process."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import rasterio
import torch
from rasterio.enums import Resampling
from tiffs import write_tiff

import rasteret_torch as rt
from rasteret_torch.errors import EmptySelectionError, InputError, ResumeMismatchError

SIZE, TILE = 1024, 256
REGEX = r"scene\w_(?P<date>\d{8})\.tif"


@pytest.fixture(scope="module")
def holed_folder(tmp_path_factory):
    """A scene valid right of a slanted edge (nodata), and one hidden in its lower half by a mask; with overviews."""
    folder = tmp_path_factory.mktemp("holed")
    rng = np.random.default_rng(2)
    tiles = {"tiled": True, "blockxsize": TILE, "blockysize": TILE, "compress": "deflate"}
    data = rng.integers(1, 200, (1, SIZE, SIZE)).astype("uint8")
    rows, cols = np.mgrid[0:SIZE, 0:SIZE]
    slanted = data.copy()
    slanted[0][cols < SIZE // 2 + rows // 4] = 0
    write_tiff(folder / "scenea_20200101.tif", slanted, nodata=0, **tiles)
    write_tiff(folder / "sceneb_20200201.tif", data, origin=(40_000.0, 5000.0), **tiles)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(folder / "sceneb_20200201.tif", "r+") as file:
        file.write_mask((rows < SIZE // 2).astype("uint8") * 255)
    for name in ("scenea_20200101", "sceneb_20200201"):
        with rasterio.open(folder / f"{name}.tif", "r+") as file:
            file.build_overviews([2, 4, 8], Resampling.nearest)
    return folder


@pytest.fixture(scope="module")
def holed(holed_folder):
    return rt.build_from_files(holed_folder, filename_regex=REGEX, progress=False)


def shares(samples):
    return [sample["mask_valid"].float().mean().item() for sample in samples]


def stream(collection, sampler="random", **options):
    return rt.RasteretIterableDataset(collection, sampler=sampler, patch_size=64, **options)


def test_random_chips_are_drawn_until_they_show_enough(holed):
    plain, picky = (list(stream(holed, length=60, min_valid=least)) for least in (0.0, 0.8))
    assert min(shares(plain)) == 0
    assert min(shares(picky)) > 0.7  # 16 x 16 points are not all pixels
    assert [int(sample["index"]) for sample in picky] == [int(sample["index"]) for sample in plain]
    enough = {int(sample["index"]): sample for sample in plain if sample["mask_valid"].float().mean() > 0.9}
    assert len(enough) > 10
    for sample in picky:  # a chip that shows enough stays where it was
        if int(sample["index"]) in enough:
            assert torch.equal(sample["bounds"], enough[int(sample["index"])]["bounds"])


def test_the_choice_is_the_same_for_batches_copies_and_resumed_runs(holed):
    first = stream(holed, length=24, batch_size=4, min_valid=0.8)
    expected = [batch["bounds"] for batch in first]
    copied = pickle.loads(pickle.dumps(first))
    assert all(torch.equal(one, two["bounds"]) for one, two in zip(expected, copied, strict=True))
    resumed = stream(holed, length=24, batch_size=4, min_valid=0.8)
    iterator = iter(resumed)
    next(iterator), next(iterator)
    later = stream(holed, length=24, batch_size=4, min_valid=0.8)
    later.load_state_dict(resumed.state_dict())
    assert all(torch.equal(one, two["bounds"]) for one, two in zip(expected[2:], later, strict=True))
    with pytest.raises(ResumeMismatchError):
        stream(holed, length=24, batch_size=4, min_valid=0.5).load_state_dict(resumed.state_dict())


def test_a_state_of_another_layout_is_refused_though_as_many_chips_are_left(holed):
    options = {"patch_size": 100, "length": 8, "min_valid": 0.5}
    state = rt.RasteretIterableDataset(holed, sampler="grid", **options).state_dict()
    with pytest.raises(ResumeMismatchError, match="chips"):
        rt.RasteretIterableDataset(holed, sampler="inside", **options).load_state_dict(state)


@pytest.mark.parametrize("sampler", ["grid", "inside"])
def test_other_layouts_leave_such_chips_out(holed, sampler):
    whole, left = stream(holed, sampler), stream(holed, sampler, min_valid=0.5)
    assert 0.3 < left.length / whole.length < 0.7
    found = shares(left)
    assert min(found) > 0.4
    assert left.length == len(found)
    good = sum(share >= 0.5 for share in shares(whole))
    assert abs(left.length - good) <= 0.05 * good
    assert len(pickle.loads(pickle.dumps(left))._kept) == left.length  # workers do not look again
    with pytest.raises(InputError, match="valid enough"):
        stream(holed, sampler, min_valid=0.5, length=whole.length)


def test_rows_and_their_weights(holed):
    rows = rt.RasteretIterableDataset(holed, sampler="rows", patch_size=1024, min_valid=0.45)
    assert rows.length == 1  # the masked one shows a half
    table = holed.with_column("w", [1.0, 1.0])
    drawn = rt.RasteretIterableDataset(
        table, sampler="rows", patch_size=1024, min_valid=0.45, weights="w", length=4, dtype="native"
    )
    assert {float(sample["bounds"][0]) for sample in drawn} == {40_000.0}


def test_samplers_of_map_style_datasets(holed):
    dataset = rt.RasteretGeoDataset(holed)
    whole = rt.InsideSampler(dataset, size=64)
    left = rt.InsideSampler(dataset, size=64, min_valid=0.5)
    queries = list(whole)
    estimated = dataset.valid_shares(queries)
    exact = np.array(shares(dataset.__getitems__(queries)))
    assert np.abs(estimated - exact).max() < 0.1
    assert len(left) == int((estimated >= 0.5).sum()) < len(whole)
    assert min(shares(dataset.__getitems__(list(left)))) > 0.4
    assert len(rt.RowSampler(dataset, size=1024, min_valid=0.45)) == 1
    assert dataset.valid_shares([(slice(9e6, 9e6 + 640), slice(0, 640))]).tolist() == [0.0]


def test_overviews_are_enough(holed):
    """Judging a whole scene reads the tiles of one small overview, not those of the scene."""
    dataset = rt.RasteretGeoDataset(holed, cache=False)
    x, y, _ = dataset.bounds
    before = dataset.cache_info().misses
    scene = slice(x.start, x.start + SIZE * 10.0), slice(y.stop - SIZE * 10.0, y.stop)
    (share,) = dataset.valid_shares([scene])
    assert dataset.cache_info().misses - before == 1
    assert share == pytest.approx(0.375, abs=0.05)


def test_what_cannot_be_met_is_said(holed):
    with pytest.raises(InputError, match="from 0 to 1"):
        stream(holed, min_valid=1.5)
    with pytest.raises(EmptySelectionError, match="the best has"):
        rt.RasteretIterableDataset(holed, sampler="rows", patch_size=1024, min_valid=0.9)
    with pytest.raises(InputError, match="layout of ours"):
        stream(holed, sampler=lambda dataset: rt.RowSampler(dataset, size=64), min_valid=0.5)


def test_nothing_but_holes_is_an_error(tmp_path):
    path = write_tiff(tmp_path / "scenea_20200101.tif", np.zeros((1, 256, 256), "uint8"), nodata=0)
    empty = rt.build_from_files(path, filename_regex=REGEX, progress=False)
    with pytest.raises(EmptySelectionError, match="no valid pixel"):
        list(stream(empty, length=2, min_valid=0.1))
