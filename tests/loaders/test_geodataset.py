"""`RasteretGeoDataset` in TorchGeo's hands: queries, samplers, splitters, combinations, workers."""

from __future__ import annotations

import copy
import datetime as dt
import multiprocessing
import pickle
import shutil
import warnings

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import shapely
import tifffile
import torch
from torch.utils.data import DataLoader
from torchgeo.datasets import (
    random_bbox_assignment,
    random_bbox_splitting,
    random_grid_cell_assignment,
    roi_split,
    stack_samples,
    time_series_split,
)
from torchgeo.samplers import (
    GriddedPatchSampler,
    GridGeoSampler,
    PreChippedGeoSampler,
    RandomBatchGeoSampler,
    RandomGeoSampler,
    RandomPatchSampler,
    RandomTimestampSampler,
)

import rasteret_torch as rt
from rasteret_torch.errors import (
    BandNotFoundError,
    DatasetNotFoundError,
    EmptySelectionError,
    InputError,
    NotATiffError,
    NotGeoreferencedError,
    ObjectNotFoundError,
    QueryOutsideError,
    SplitNotFoundError,
    UnknownKeywordError,
)

REGEX = r"[a-z]+_(?P<date>\d{8})_(?P<band>B\d+)\.tif"
CHIP = (slice(1100.0, 1420.0), slice(4000.0, 4320.0))


@pytest.fixture
def dataset(scenes):
    return rt.RasteretGeoDataset(scenes)


def test_a_sample_is_tensors_with_fixed_keys(dataset):
    sample = dataset[CHIP]
    assert set(sample) == {"image", "bounds", "transform", "mask_valid"}
    assert sample["image"].shape == (4, 32, 32)
    assert sample["image"].dtype == torch.float32
    assert sample["bounds"].dtype == sample["transform"].dtype == torch.float64
    assert sample["bounds"][:6].tolist() == [1100.0, 1420.0, 10.0, 4000.0, 4320.0, 10.0]
    assert sample["transform"].tolist() == [10.0, 0.0, 1100.0, 0.0, -10.0, 4320.0, 0.0, 0.0, 1.0]
    assert sample["mask_valid"].dtype == torch.uint8
    assert sample["mask_valid"].all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"chip_size": 256}, r"takes no 'chip_size'; the sampler has the size of chips"),
        ({"cloud_cover_lt": 20}, r"subset\(cloud_cover_lt=...\).to_torchgeo_dataset"),
        ({"target_crs": 32632}, "pass crs="),
    ],
)
def test_words_of_others_are_answered_with_ours(scenes, words, message):
    with pytest.raises(UnknownKeywordError, match=message):
        scenes.to_torchgeo_dataset(["B1"], **words)
    with pytest.raises(TypeError, match="'bands_of'"):
        scenes.to_torchgeo_dataset(["B1"], bands_of="all")


def test_native_keeps_uint16_and_masks_are_squeezed_longs(scenes):
    assert rt.RasteretGeoDataset(scenes, dtype="native")[CHIP]["image"].dtype == torch.uint16
    mask = rt.RasteretGeoDataset(scenes, ["B02"], is_image=False)[CHIP]["mask"]
    assert mask.shape == (32, 32)
    assert mask.dtype == torch.int64


def test_time_picks_items_and_series_are_ascending(scenes):
    series = rt.RasteretGeoDataset(scenes, time_series=True)
    sample = series[CHIP]
    assert sample["image"].shape == (3, 4, 32, 32)
    assert (sample["timestamps"].diff() > 0).all()
    single = rt.RasteretGeoDataset(scenes)
    day = slice(pd.Timestamp("2020-04-20"), pd.Timestamp("2020-04-21"))
    assert torch.equal(single[*CHIP, day]["image"], sample["image"][1])
    instant = slice(pd.Timestamp("2020-04-20 12:00"), pd.Timestamp("2020-04-20 12:00"))
    assert torch.equal(single[*CHIP, instant]["image"], sample["image"][1])
    backwards = single[*CHIP, "2020-01-05":"2020-05-01":-1]  # dates as words; the last shows first
    assert torch.equal(backwards["image"], sample["image"][1])
    noon = dt.datetime(2020, 4, 20, 12)
    assert single[*CHIP, noon:noon]["bounds"][6] == noon.replace(tzinfo=dt.UTC).timestamp()
    for time in (pd.Timestamp("2020-04-20 12:00", tz="UTC"), pd.Timestamp("2020-04-20 21:00", tz="Asia/Tokyo")):
        assert torch.equal(single[*CHIP, time:time]["bounds"], single[*CHIP, noon:noon]["bounds"])
    ever = slice(pd.Timestamp("0001-01-01"), pd.Timestamp("9999-12-31"))  # more than an int64 of nanoseconds
    assert torch.equal(series[*CHIP, ever]["timestamps"], sample["timestamps"])


def test_a_batch_equals_its_samples_and_reads_each_tile_once(scenes):
    dataset = rt.RasteretGeoDataset(scenes, cache=False)
    queries = list(RandomPatchSampler(dataset, size=48, length=16, generator=5))
    alone = [dataset[query] for query in queries]
    before = dataset.cache_info().misses
    together = dataset.__getitems__(queries)
    tiles = dataset.cache_info().misses - before
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one["image"], other["image"])
    assert tiles <= 2 * 4 * 16  # tiles of the first date of both scenes
    twice = dataset.cache_info().misses
    dataset.__getitems__(queries * 2)
    assert dataset.cache_info().misses - twice == tiles


@pytest.mark.parametrize(
    "make",
    [
        lambda ds: RandomPatchSampler(ds, size=32, length=6, generator=0),
        lambda ds: GriddedPatchSampler(ds, size=100),
        lambda ds: RandomPatchSampler(ds, size=32, length=6) @ RandomTimestampSampler(ds),
        lambda ds: RandomGeoSampler(ds, size=32, length=6),
        lambda ds: GridGeoSampler(ds, size=100, stride=100),
        lambda ds: PreChippedGeoSampler(ds),
    ],
)
def test_samplers(dataset, make):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older ones are deprecated
        loader = DataLoader(dataset, sampler=make(dataset), batch_size=2, collate_fn=stack_samples)
        for batch in loader:
            assert batch["image"].shape[1] == 4


def test_batch_sampler(dataset):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sampler = RandomBatchGeoSampler(dataset, size=32, batch_size=3, length=6)
        loader = DataLoader(dataset, batch_sampler=sampler, collate_fn=stack_samples)
        assert [batch["image"].shape[0] for batch in loader] == [3, 3]


def test_splitters_follow_the_replaced_index(dataset):
    halves = [
        random_bbox_assignment(dataset, [0.5, 0.5], torch.Generator().manual_seed(0)),
        random_bbox_splitting(dataset, [0.5, 0.5], torch.Generator().manual_seed(0)),
        random_grid_cell_assignment(dataset, [0.5, 0.5], grid_size=2, generator=torch.Generator().manual_seed(0)),
        roi_split(dataset, [shapely.box(1000, 3000, 1900, 5000), shapely.box(1900, 3000, 4800, 5000)]),
    ]
    for parts in halves:
        for part in parts:
            assert isinstance(part, rt.RasteretGeoDataset)
            x, y, _ = part.bounds
            assert part[x.start : x.start + 100, y.start : y.start + 100]["image"].shape == (4, 10, 10)
    assert len(dataset) == 6
    x, y, t = dataset.bounds
    middle = pd.Timestamp("2020-06-01")
    early, late = time_series_split(dataset, [pd.Interval(t.start, middle), pd.Interval(middle, t.stop)])
    assert (len(early), len(late)) == (4, 2)
    assert torch.equal(late[CHIP]["image"], dataset[*CHIP, slice(middle, t.stop)]["image"])


def test_geometries_restrict_where_chips_come_from(scenes):
    area = shapely.box(1200, 4200, 1700, 4700)
    dataset = rt.RasteretGeoDataset(scenes, geometries=[area])
    assert dataset.bounds[0].start == 1200
    for query in RandomPatchSampler(dataset, size=16, length=8, generator=0):
        assert area.buffer(6).contains(shapely.box(query[0].start, query[1].start, query[0].stop, query[1].stop))
    lonlat = gpd.GeoSeries([area], crs=dataset.crs).to_crs(4326)
    for form in (area, lonlat.to_frame("geometry"), lonlat.to_crs(3857), lonlat.iloc[0], lonlat.__geo_interface__):
        again = rt.RasteretGeoDataset(scenes, geometries=form)
        assert again.index["id"].tolist() == dataset.index["id"].tolist()
        assert [side.start for side in again.bounds[:2]] == pytest.approx([1200, 4200], abs=0.1)


def test_intersection_reads_both_sides_and_keeps_batches(scenes, labels):
    image, mask = rt.RasteretGeoDataset(scenes), rt.RasteretGeoDataset(labels, is_image=False)
    both = image & mask
    queries = list(RandomPatchSampler(both, size=32, length=4, generator=1))
    for query, sample in zip(queries, both.__getitems__(queries), strict=True):
        assert torch.equal(sample["image"], image[query]["image"])
        assert torch.equal(sample["mask"], mask[query]["mask"])
        assert sample["bounds"].shape == (9,)
        assert sample["mask_valid"].shape == (32, 32)


def test_union_fills_from_either_side(scenes):
    west = rt.RasteretGeoDataset(scenes.subset(date_range=("2020-01-01", "2020-01-31")))
    year = rt.RasteretGeoDataset(scenes.subset(date_range=("2020-12-01", "2020-12-31")))
    union = west | year
    assert len(union) == 4
    sample = union.__getitems__([CHIP])[0]
    assert torch.equal(sample["image"], torch.maximum(west[CHIP]["image"], year[CHIP]["image"]))
    with pytest.raises(IndexError):
        union[9e6 : 9e6 + 10, 0:10]


def test_label_field(scenes):
    labelled = scenes.with_column("height", list(np.linspace(0.0, 1.0, len(scenes)))).with_column(
        "kind", [3] * len(scenes)
    )
    sample = rt.RasteretGeoDataset(labelled, label_field="kind")[CHIP]
    assert sample["label"].tolist() == [3]
    assert rt.RasteretGeoDataset(labelled, label_field="height")[CHIP]["label"].dtype == torch.float32


def test_pickles_and_copies_are_small_and_equal(dataset):
    expected = dataset[CHIP]["image"]
    packed = pickle.dumps(dataset)
    assert len(packed) < 20_000
    assert torch.equal(pickle.loads(packed)[CHIP]["image"], expected)
    twin = copy.deepcopy(dataset)
    twin.index = twin.index.iloc[:1]
    assert (len(twin), len(dataset)) == (1, 6)


@pytest.mark.slow
@pytest.mark.parametrize("context", ["fork", "forkserver"])
def test_workers_give_the_same_batches(dataset, context):
    expected = dataset[CHIP]["image"]  # the parent has read local files: a fork is still safe
    assert context in multiprocessing.get_all_start_methods()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python's own warning about forks beside threads
        loader = DataLoader(
            dataset,
            sampler=[CHIP] * 4,
            batch_size=2,
            num_workers=2,
            collate_fn=stack_samples,
            multiprocessing_context=context,
        )
        batches = list(loader)
    assert all(torch.equal(image, expected) for batch in batches for image in batch["image"])


def test_bad_input_is_named_with_its_cure(scenes, tmp_path):
    with pytest.raises(BandNotFoundError, match="B02"):
        rt.RasteretGeoDataset(scenes, ["red"])
    with pytest.raises(SplitNotFoundError, match="split"):
        rt.RasteretGeoDataset(scenes, split="train")
    with pytest.raises(DatasetNotFoundError, match="nowhere"):
        rt.RasteretGeoDataset(tmp_path / "nowhere")
    for options in ({"resampling": "lanczos"}, {"read": "fast"}, {"res": 0}, {"dtype": "float31"}, {"dtype": float}):
        with pytest.raises(InputError):
            rt.RasteretGeoDataset(scenes, **options)
    for transforms in ([], 3):
        with pytest.raises(InputError, match=r"transforms=.* cannot be called; give a function"):
            rt.RasteretGeoDataset(scenes, transforms=transforms)
    with pytest.raises(EmptySelectionError):
        rt.RasteretGeoDataset(scenes, geometries=[shapely.box(0, 0, 1, 1)])
    dataset = rt.RasteretGeoDataset(scenes)
    with pytest.raises(QueryOutsideError, match=r"not found in dataset with bounds: .* in WGS 84 .* 31N;"):
        dataset[0:10, 0:10]
    for query in (0, "here", ..., (1, 2), (slice(None),) * 4):
        with pytest.raises(InputError, match="is no query"):
            dataset[query]
    with pytest.raises(InputError, match="is no time"):
        dataset[*CHIP, "noon":]
    with pytest.raises(InputError, match="is no step"):
        dataset[*CHIP, ::0]
    with pytest.raises(InputError, match=r"1 x \(1, 4, 50000000, 50000000\) pixels .* GiB"):
        dataset[0.0:5e8, 0.0:5e8]
    with pytest.raises(InputError, match="pixel size"):
        dataset.res = (1, 2, 3)
    assert dataset.res == (10.0, 10.0)
    dataset.index = dataset.index.drop(columns="row")
    with pytest.raises(InputError, match="row"):
        dataset[CHIP]


def test_bad_files_are_named_with_their_cure(tmp_path):
    (tmp_path / "words.tif").write_text("no pixels here")
    with pytest.raises(NotATiffError, match=r"words\.tif"):
        rt.build_from_files(tmp_path / "words.tif", progress=False)
    with pytest.raises((ObjectNotFoundError, InputError), match="nothing"):
        rt.build_from_files(tmp_path / "nothing.tif", progress=False)
    path = tmp_path / "plain.tif"
    tifffile.imwrite(path, np.zeros((16, 16), "uint8"))
    with pytest.raises(NotGeoreferencedError, match=r"plain\.tif"):
        rt.build_from_files(path, progress=False)


def test_a_file_that_vanishes_is_an_error_or_invalid_pixels_by_choice(tmp_path, scene_folder):
    for file in sorted(scene_folder.glob("west_20200105_*.tif")):
        shutil.copy(file, tmp_path)
    collection = rt.build_from_files(
        tmp_path, filename_regex=r"[a-z]+_(?P<date>\d{8})_(?P<band>B\d+)\.tif", progress=False
    )
    (tmp_path / "west_20200105_B03.tif").unlink()
    with pytest.raises(ObjectNotFoundError, match=r"west_20200105.*B03"):
        rt.RasteretGeoDataset(collection)[CHIP]
    lenient = rt.RasteretGeoDataset(collection, read=rt.ReadOptions(on_error="nodata"))
    sample = lenient[CHIP]
    assert not sample["mask_valid"].any()
    assert (sample["image"][1] == 0).all()
    assert (sample["image"][0] > 0).all()


def test_a_large_index_is_a_small_pickle(scenes, tmp_path):
    """20 000 items: the recipe travels, not the rows."""
    many = scenes.to_table().take(np.zeros(20_000, int)).combine_chunks()
    many = many.set_column(many.schema.get_field_index("id"), "id", pa.array([f"i{n}" for n in range(20_000)]))
    path = rt.as_collection(many).save(tmp_path / "many")
    dataset = rt.RasteretGeoDataset(path, targets=rt.RasterTargets(scenes, band="B02"))
    assert len(dataset) == len(dataset.index) == 20_000
    packed = pickle.dumps(dataset)
    assert len(packed) < 20_000
    assert len(pickle.dumps(copy.deepcopy(dataset))) < 20_000
    assert len(pickle.loads(packed).lookup.rows) == 20_000


def test_the_dtype_is_torchgeos(scenes):
    assert rt.RasteretGeoDataset(scenes).dtype == torch.float32
    assert rt.RasteretGeoDataset(scenes, ["B02"], is_image=False).dtype == torch.int64
    assert rt.RasteretGeoDataset(scenes, dtype="float16").dtype == torch.float16
    assert rt.RasteretGeoDataset(scenes, dtype="native").dtype is None
    with pytest.raises(InputError, match="none of torch's"):
        rt.RasteretGeoDataset(scenes, dtype="floats")
    with pytest.raises(InputError, match=r"res=\(10, -1\) must be positive"):
        rt.RasteretGeoDataset(scenes, res=(10, -1))
