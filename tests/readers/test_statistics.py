"""Statistics of bands against NumPy over the whole files."""

import json
import pickle

import numpy as np
import pytest
import rasterio
from scenes import DATED, write_tiff
from tiffs import write_tiff as write_pixels

import rasteret_torch as rt
from rasteret_torch.errors import BandNotFoundError, EmptySelectionError, IndexCorruptError, InputError
from rasteret_torch.index.stats import CollectionStats
from rasteret_torch.readers.statistics import StatsOptions

PERCENTS = (0.5, 2.0, 50.0, 98.0)


def build(folder, **options):
    return rt.build_from_files(folder, name="measured", filename_regex=DATED, progress=False, **options)


def whole(folder, band=1):
    values, valid = [], []
    for path in sorted(folder.glob("*.tif")):
        with rasterio.open(path) as file:
            values.append(file.read(band).ravel())
            valid.append(file.read_masks(band).ravel() > 0)
    return np.concatenate(values), np.concatenate(valid)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"])
@pytest.mark.parametrize("nodata", [None, 7])
def test_every_pixel_as_numpy_sees_it(tmp_path, dtype, nodata):
    for day, shape in enumerate([(90, 70), (300, 40), (33, 257)], start=1):
        write_tiff(tmp_path / f"scene_2020010{day}.tif", shape=shape, dtype=dtype, bands=2, nodata=nodata, seed=day)
    found = build(tmp_path).stats(options=StatsOptions(max_pixels=None, percentiles=PERCENTS))
    assert found.exact
    assert found.items == 3
    for number, one in enumerate(found.bands, start=1):
        values, valid = whole(tmp_path, number)
        exact = values[valid].astype(float)
        assert one.dtype == dtype
        assert one.pixels == valid.sum()
        assert one.nodata_share == pytest.approx(1 - valid.mean(), abs=1e-12)
        assert one.mean == pytest.approx(exact.mean(), rel=1e-12)
        assert one.std == pytest.approx(exact.std(), rel=1e-12)
        assert (one.min, one.max) == (exact.min(), exact.max())
        assert [value for _, value in one.percentiles] == pytest.approx(np.percentile(exact, PERCENTS), abs=1e-9)
        assert sum(one.counts) == pytest.approx(valid.sum())
        classes, counts = np.unique(values[valid], return_counts=True)
        expected = zip(classes.tolist(), (counts / valid.sum()).tolist(), strict=True) if dtype[0] != "f" else ()
        assert one.classes == tuple((value, pytest.approx(share)) for value, share in expected)


def test_the_shipped_imagery(naip):
    found = naip.stats()
    assert found.exact
    rasters = [rt.read_tiff(path) for path in hrefs(naip)]
    pixels = [np.concatenate([one.data[band][one.valid[band]] for one in rasters]) for band in range(4)]
    assert found.means() == pytest.approx([band.mean() for band in pixels])
    assert found.stds() == pytest.approx([band.std() for band in pixels])
    assert found.means(["N", "R"]) == pytest.approx([pixels[3].mean(), pixels[0].mean()])


def hrefs(collection):
    return [asset["R"]["href"] for asset in collection.column("assets").to_pylist()]


def test_a_sample_is_near_bounded_and_repeats(naip):
    options = StatsOptions(max_pixels=400_000, seed=3)
    found, exact = naip.stats(options=options), naip.stats()
    assert not found.exact
    assert found == naip.stats(options=options)
    assert found != naip.stats(options=StatsOptions(max_pixels=400_000, seed=4))
    for one, true in zip(found.bands, exact.bands, strict=True):
        assert one.pixels < 700_000 < true.pixels
        assert one.mean == pytest.approx(true.mean, rel=0.15)
        assert one.std == pytest.approx(true.std, rel=0.25)
        assert sum(one.counts) == pytest.approx(one.pixels)


def test_samples_are_unbiased_where_blocks_differ_in_size(tmp_path):
    # 288 columns: blocks of 256 and of 32; the narrow ones are bright. Counting pixels alone would lose most of them.
    path = write_tiff(tmp_path / "scene_20200101.tif", shape=(4096, 288), dtype="uint8", blockxsize=256, blockysize=256)
    with rasterio.open(path, "r+") as file:
        data = np.zeros((4096, 288), "uint8")
        data[:, 256:] = 200
        file.write(data, 1)
    one = build(tmp_path)
    means = [one.stats(options=StatsOptions(max_pixels=260_000, seed=seed)).bands[0].mean for seed in range(60)]
    assert np.mean(means) == pytest.approx(200 * 32 / 288, rel=0.5)


def test_overviews_are_read_where_asked_for(tmp_path):
    path = write_tiff(tmp_path / "scene_20200101.tif", shape=(512, 512), dtype="uint8")
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4], rasterio.enums.Resampling.nearest)
        second = file.read(1, out_shape=(128, 128))
    one = build(tmp_path).stats(options=StatsOptions(level=2)).bands[0]
    assert one.pixels == 128 * 128
    assert one.mean == pytest.approx(second.mean())
    with pytest.raises(InputError, match="'scene_20200101', band 'B1': level=3, but it has 2 overviews"):
        build(tmp_path).stats(options=StatsOptions(level=3))


def test_values_that_are_not_finite_are_not_valid(tmp_path):
    data = np.random.default_rng(0).normal(size=(40, 50)).astype("float32")
    data[:3] = np.nan
    data[3, 0] = np.inf
    path = write_tiff(tmp_path / "scene_20200101.tif", dtype="float32")
    with rasterio.open(path, "r+") as file:
        file.write(data, 1)
    one = build(tmp_path).stats().bands[0]
    good = data[np.isfinite(data)].astype(float)
    assert one.pixels == good.size
    assert one.nodata_share == pytest.approx(1 - good.size / data.size)
    assert one.mean == pytest.approx(good.mean())


def test_a_split_alone(dated_splits):
    first = rt.read_tiff(hrefs_of(dated_splits)[0]).data[0]
    found = dated_splits.stats("B1", split="train")
    assert found.bands[0].mean == pytest.approx(first.mean())
    assert (found.split, found.items) == ("train", 1)


@pytest.fixture
def dated_splits(tmp_path):
    for number in range(3):
        write_tiff(tmp_path / f"scene_2020010{number + 1}.tif", bands=2, seed=number)
    return build(tmp_path).with_column("split", ["train", "val", "test"])


def hrefs_of(collection):
    return [asset["B1"]["href"] for asset in collection.column("assets").to_pylist()]


def test_they_are_stored_and_survive(dated_splits, tmp_path):
    assert dated_splits.stored_stats is None
    found = dated_splits.stats(split="train")
    kept = dated_splits.with_stats(found)
    assert kept.stored_stats == found
    assert pickle.loads(pickle.dumps(kept)).stored_stats == found
    loaded = rt.load(kept.save(tmp_path / "saved"))
    assert loaded.stored_stats == found
    assert loaded.select_split("val").stored_stats.means(["B2"]) == found.means(["B2"])
    assert rt.as_collection(loaded.to_table()).stored_stats == found
    assert rt.load(loaded.with_stats(None).save(tmp_path / "bare")).stored_stats is None
    assert CollectionStats.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    with pytest.raises(IndexCorruptError, match="no statistics"):
        CollectionStats.from_dict({"bands": [{"band": "B1"}]})


def test_words(dated_splits):
    found = dated_splits.stats()
    assert "every pixel" in str(found)
    assert "B2" in found._repr_html_()
    assert "B1" in found
    assert found["B1"].percentile(0) == found["B1"].min
    with pytest.raises(BandNotFoundError, match="no statistics of band 'B9'"):
        found["B9"]
    with pytest.raises(InputError, match="between 0 and 100"):
        found["B1"].percentile(101)


def test_a_constant_band_can_be_divided_by(tmp_path):
    path = write_tiff(tmp_path / "scene_20200101.tif")
    with rasterio.open(path, "r+") as file:
        file.write(np.full((1, 40, 50), 9, "uint16"))
    found = build(tmp_path).stats()
    assert found.bands[0].std == 0.0
    assert found.stds() == [1.0]
    assert found.bands[0].classes == ((9, 1.0),)
    assert sum(found.bands[0].counts) == 2000


def test_items_that_were_not_indexed_are_left_out_with_a_warning(tmp_path):
    write_tiff(tmp_path / "scene_20200101.tif")
    (tmp_path / "scene_20200102.tif").write_text("no TIFF")
    with pytest.warns(UserWarning, match="1 of 2 files could not be indexed"):
        index = build(tmp_path)
    with pytest.warns(UserWarning, match="1 of 2 items, such as 'scene_20200102', have no header of band 'B1'"):
        assert index.stats().items == 1


def test_refusals(dated_splits, tmp_path):
    with pytest.raises(BandNotFoundError):
        dated_splits.stats("B9")
    for wrong in ({"max_pixels": 0}, {"bins": 0}, {"level": -1}, {"percentiles": (50, 2)}, {"percentiles": (101,)}):
        with pytest.raises(InputError, match="StatsOptions"):
            StatsOptions(**wrong)
    with pytest.raises(InputError, match="training samples"):
        dated_splits.stats(read=rt.ReadOptions(on_error="replace"))
    empty = write_tiff(tmp_path / "empty" / "scene_20200101.tif", nodata=5)
    with rasterio.open(empty, "r+") as file:
        file.write(np.full((1, 40, 50), 5, "uint16"))
    with pytest.raises(EmptySelectionError, match="no pixel of band 'B1'"):
        build(empty.parent).stats()
    mixed = tmp_path / "mixed"
    write_tiff(mixed / "scene_20200101.tif", dtype="uint8")
    write_tiff(mixed / "scene_20200102.tif", dtype="float32")
    with pytest.raises(InputError, match="dtypes uint8 and float32"):
        build(mixed).stats()
    write_tiff(tmp_path / "complex" / "scene_20200101.tif", dtype="complex64")
    with pytest.raises(InputError, match="complex"):
        build(tmp_path / "complex").stats()


@pytest.mark.parametrize(
    ("dtype", "value"), [("float64", 0.1), ("float64", 1e8 + 0.3), ("float32", 0.1), ("int16", -7)]
)
def test_a_constant_band_has_no_spread(tmp_path, dtype, value):
    for day in (1, 2, 3):
        write_pixels(tmp_path / f"scene_2020010{day}.tif", np.full((1, 70, 30 + day), value, dtype))
    found = build(tmp_path).stats()
    (one,) = found.bands
    assert (one.mean, one.std) == (np.array(value, dtype), 0.0)
    assert found.stds() == [1.0]


def test_statistics_of_a_split_do_not_outlive_its_column(tmp_path):
    for day in (1, 2):
        write_pixels(tmp_path / f"scene_2020010{day}.tif", np.full((1, 20, 20), 10 * day, "uint8"))
    items = build(tmp_path).with_column("split", ["train", "test"])
    measured = items.with_stats(items.stats(split="train"))
    assert measured.with_column("note", ["a", "b"]).stored_stats == measured.stored_stats
    with pytest.warns(UserWarning, match="column 'split' is replaced; measure them again"):
        assert measured.with_column("split", ["test", "train"]).stored_stats is None
    with pytest.warns(UserWarning, match="'train' are dropped"):
        assert measured.assign_splits(fractions={"train": 1.0}).stored_stats is None
    of_all = items.with_stats(items.stats())
    assert of_all.with_column("split", ["test", "train"]).stored_stats == of_all.stored_stats
