"""Predictions as maps: equal to the model on the ground, blended, without duplicates, and valid COGs."""

import json

import numpy as np
import pyarrow.compute as pc
import pystac
import pytest
import rasterio
import torch
from affine import Affine
from disks import full_at
from lightning.pytorch import LightningModule, Trainer
from ranks import run_ranks
from rasterio.enums import MaskFlags
from tiffs import write_tiff
from torch import nn
from torch.utils.data import DataLoader
from torchgeo.datasets import stack_samples
from torchgeo.samplers import GriddedPatchSampler

import rasteret_torch as rt
from rasteret_torch.cli.naip import build_index
from rasteret_torch.errors import InputError, WriteError
from rasteret_torch.loaders.iterable_loader import RasteretDataLoader
from rasteret_torch.loaders.predict import RasteretPredictionWriter
from rasteret_torch.loaders.predict_canvas import Canvas, Merged, Sheet, chip_weights
from rasteret_torch.loaders.predict_map import MapStyle, write_map

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec"),
]
BANDS = ["R", "G", "B", "NIR"]


class Pixelwise(LightningModule):
    """Looks at each pixel alone, so that a map must equal the model on the whole image."""

    def __init__(self, channels=4, classes=3, returns="probabilities"):
        super().__init__()
        torch.manual_seed(0)
        self.model, self.returns = nn.Conv2d(channels, classes, kernel_size=1), returns

    def predict_step(self, batch, index):
        out = self.model(batch["image"].float())
        match self.returns:
            case "probabilities":
                return {"probabilities": out.softmax(dim=1), "bounds": batch["bounds"]}
            case "classes":
                return out.argmax(dim=1)
            case "value":
                return out[:, 0]
            case "binary":
                return out[:, :1].sigmoid()
            case "small":
                return out[..., ::2, ::2]
            case other:
                return {other: 1}


def trainer_of(tmp_path, writer, **options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(
        default_root_dir=tmp_path, accelerator="cpu", callbacks=[writer], enable_checkpointing=False, **quiet, **options
    )


def run(tmp_path, data, model, **settings):
    writer = RasteretPredictionWriter(tmp_path / "map.tif", **settings)
    trainer_of(tmp_path, writer).predict(model, data, return_predictions=False)
    assert not list(tmp_path.glob(".*.parts"))
    return writer.paths


@pytest.fixture(scope="module")
def naip():
    return build_index()


def module_of(collection, **options):
    settings = {"predict": "train", "patch_size": 96, "batch_size": 8, "mean": 100.0, "std": 50.0}
    return rt.RasteretDataModule(collection, BANDS, **(settings | options))


@torch.no_grad()
def direct(collection, date, path, model):
    """The model on the mosaic of a date, on the grid of a map: values [K, H, W] and valid [H, W]."""
    there = collection.subset(split="train", date_range=(date, date))
    with rasterio.open(path) as file:
        bounds, res = tuple(file.bounds), file.res
    whole = there.read_window(there.column("id").to_pylist(), bounds, res, BANDS)
    image = (torch.from_numpy(whole.data).float() - 100) / 50
    return model.model(image[None])[0].softmax(dim=0).numpy(), whole.valid.all(axis=0)


@pytest.mark.parametrize(("blend", "iterable"), [("hann", True), ("centre", True), ("hann", False)])
def test_the_shipped_imagery_is_mapped_as_the_model_sees_it(naip, tmp_path, blend, iterable):
    model = Pixelwise().eval()
    paths = run(tmp_path, module_of(naip, iterable=iterable), model, blend=blend, names=["water", "bare", "plants"])
    days = ["20090818", "20120731", "20140720", "20160816"]
    assert [path.name for path in paths] == [f"map_{day}.tif" for day in days]
    for path, day in zip(paths, days, strict=True):
        values, valid = direct(naip, f"{day[:4]}-{day[4:6]}-{day[6:]}", path, model)
        with rasterio.open(path) as file:
            found = file.read(1)
            assert (file.nodata, file.dtypes) == (255, ("uint8",))
            assert file.crs == rasterio.crs.CRS.from_epsg(naip.epsg[0])
        clear = np.sort(values, axis=0)[-1] - np.sort(values, axis=0)[-2] > 1e-5
        assert (found[~valid] == 255).mean() > 0.99
        same = found[valid & clear] == values.argmax(axis=0)[valid & clear]
        # TorchGeo's sampler lays its chips off the pixel grids of some items: nearest pixels, a part of one further.
        assert same.mean() > (0.9999 if iterable else 0.95)


def test_probabilities_keep_their_numbers(naip, tmp_path):
    model = Pixelwise().eval()
    day = naip.subset(date_range=("2009", "2009"))
    (path,) = run(tmp_path, module_of(day), model, output="value", names=["a", "b", "c"])
    assert path.name == "map.tif"
    values, valid = direct(day, "2009-08-18", path, model)
    with rasterio.open(path) as file:
        found = file.read()
        assert file.descriptions == ("a", "b", "c")
        assert np.isnan(file.nodata)
    assert np.isnan(found[:, ~valid]).all()
    np.testing.assert_allclose(found[:, valid], values[:, valid], atol=1e-5)


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """One file of 700 x 1100 px with a hole of nodata."""
    folder = tmp_path_factory.mktemp("big")
    data = np.random.default_rng(0).integers(1, 200, (4, 700, 1100)).astype("uint8")
    data[:, 300:340, 500:560] = 0
    write_tiff(folder / "scene_20200219.tif", data, nodata=0, tiled=True, blockxsize=256, blockysize=256)
    return rt.build_from_files(
        folder, bands=BANDS, filename_regex=r"scene_(?P<date>\d{8})\.tif", progress=False
    ).with_column("split", ["train"])


def test_the_file_is_a_valid_cog(big, tmp_path):
    (path,) = run(tmp_path, module_of(big), Pixelwise(), names=["one", "two", "three"])
    with rasterio.open(path) as file:
        assert file.profile["tiled"]
        assert file.block_shapes == [(512, 512)]
        assert file.overviews(1) == [2, 4]
        assert file.shape == (700, 1100)
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.mask_flag_enums == ([MaskFlags.nodata],)
        assert (file.read(1)[300:340, 500:560] == 255).all()
        assert file.transform == Affine(10, 0, 1000, 0, -10, 5000)
        offsets = [int(file.get_tag_item("IFD_OFFSET", "TIFF", bidx=1, ovr=ovr)) for ovr in (None, 0, 1)]
        first_tiles = [int(file.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1, ovr=ovr)) for ovr in (None, 0, 1)]
    assert offsets == sorted(offsets)  # full resolution first, then its overviews, all before the pixels
    assert max(offsets) < min(first_tiles)
    assert first_tiles == sorted(first_tiles, reverse=True)  # the coarsest overview first
    assert rt.read_tiff(path).data.shape == (1, 700, 1100)


def test_the_item_says_where_and_when(big, tmp_path):
    (path,) = run(tmp_path, module_of(big), Pixelwise(), names=["one", "zwei (grün)", "three"])
    record = json.loads(path.with_suffix(".json").read_text())
    item = pystac.Item.from_dict(record)
    assert record["properties"]["proj:code"] == "EPSG:32631"
    assert record["properties"]["proj:shape"] == [700, 1100]
    assert item.common_metadata.start_datetime.isoformat() == "2020-02-19T00:00:00+00:00"
    assert item.assets["prediction"].href == "./map.tif"
    assert record["bbox"] == pytest.approx(big.bounds, abs=1e-3)
    classes = record["assets"]["prediction"]["classification:classes"]
    assert [one["name"] for one in classes] == ["one", "zwei__gr_n_", "three"]  # [0-9A-Za-z-_]+, says the extension
    assert [one["description"] for one in classes] == ["one", "zwei (grün)", "three"]
    assert [url.split("/")[3] for url in record["stac_extensions"]] == ["projection", "classification"]


@pytest.mark.parametrize(("returns", "dtype", "nodata"), [("classes", "uint8", 255), ("binary", "uint8", 255)])
def test_class_numbers_and_one_channel(big, tmp_path, returns, dtype, nodata):
    model = Pixelwise(returns=returns).eval()
    (path,) = run(tmp_path, module_of(big), model)
    with torch.no_grad():
        image = (torch.from_numpy(rt.read_tiff(hrefs(big)[0]).data).float() - 100) / 50
        out = model.predict_step({"image": image[None]}, 0)[0].squeeze()
    expected = (out >= 0.5).numpy() if returns == "binary" else out.numpy()
    with rasterio.open(path) as file:
        found = file.read(1)
        assert (file.dtypes[0], file.nodata) == (dtype, nodata)
    inside = found != 255
    assert inside.sum() == 700 * 1100 - 40 * 60
    assert (found[inside] == expected[inside]).mean() > 0.9999


def hrefs(collection):
    return [asset["R"]["href"] for asset in collection.column("assets").to_pylist()]


class PlaceDependent(LightningModule):
    """Predicts 0 in the middle of a chip and 1 along its edges."""

    def predict_step(self, batch, index):
        height, width = batch["image"].shape[-2:]
        edge = torch.ones(len(batch["image"]), 1, height, width)
        edge[..., 8:-8, 8:-8] = 0
        return edge


def overlapping(collection, size=64, stride=32):
    dataset = rt.RasteretGeoDataset(collection, BANDS)
    sampler = GriddedPatchSampler(dataset, size=size, stride=stride)
    return DataLoader(dataset, batch_size=4, sampler=sampler, collate_fn=stack_samples)


@pytest.mark.parametrize("blend", ["centre", "hann"])
def test_where_chips_overlap_their_middles_count(big, tmp_path, blend):
    (path,) = run(tmp_path, overlapping(big), PlaceDependent(), output="value", blend=blend)
    with rasterio.open(path) as file:
        inner = file.read(1)[64:-64, 64:-64]
    inner = inner[~np.isnan(inner)]
    if blend == "centre":
        assert (inner == 0).all()
    else:
        assert 0 < inner.mean() < 0.15
        assert inner.max() < 1


class Neighbourhoods(LightningModule):
    """Looks 3 px around, so that what stands near the edge of a chip is wrong."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        layers = [nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()]
        self.model = nn.Sequential(*layers, nn.Conv2d(8, 2, 3, padding=1))

    def predict_step(self, batch, index):
        return self.model(batch["image"])


def test_inside_chip_centres_a_map_equals_the_model_on_the_whole_image(big, tmp_path):
    model = Neighbourhoods().eval()
    (path,) = run(tmp_path, module_of(big, predict_overlap=16), model, output="value", blend="centre")
    raster = rt.read_tiff(hrefs(big)[0])
    valid = torch.from_numpy(raster.valid.all(axis=0))
    with torch.no_grad():
        image = torch.where(valid, (torch.from_numpy(raster.data).float() - 100) / 50, 0)
        expected = model.model(image[None])[0].numpy()
    with rasterio.open(path) as file:
        found = file.read()
    inside = (slice(None), slice(8, -8), slice(8, -8))  # the border of the image is an edge of chips
    there = valid.numpy()[inside[1:]]
    np.testing.assert_allclose(found[inside][:, there], expected[inside][:, there], atol=1e-5)
    (seams,) = run(tmp_path, module_of(big), model, output="value")
    with rasterio.open(seams) as file:
        assert np.abs(file.read()[inside] - expected[inside])[:, there].max() > 0.01  # which is why chips overlap


def test_chips_in_the_crs_of_their_items_have_a_map_for_each(tmp_path):
    """The same batch holds chips of two zones; each must land in the map of its own."""
    data = np.arange(1, 65, dtype="uint8").reshape(1, 8, 8).repeat(8, axis=1).repeat(8, axis=2)
    for day, crs in ((1, "EPSG:32631"), (2, "EPSG:32632")):
        write_tiff(tmp_path / f"scene_2020010{day}.tif", data + day, crs=crs)
    zones = rt.build_from_files(tmp_path, filename_regex=r"scene_(?P<date>\d{8})\.tif", progress=False)
    streams = [
        rt.RasteretIterableDataset(zones.where(pc.field("proj:epsg") == code), sampler="grid", patch_size=64, crs=code)
        for code in (32631, 32632)
    ]
    chips = [
        {**chip, "epsg": torch.tensor(code)} for code, s in zip((32631, 32632), streams, strict=True) for chip in s
    ]
    for number, chip in enumerate(chips):
        chip["index"] = torch.tensor(number)

    class Same(LightningModule):
        def predict_step(self, batch, index):
            return batch["image"][:, 0].float()

    loader = DataLoader(chips, batch_size=2, collate_fn=stack_samples)
    paths = run(tmp_path, loader, Same(), output="value", blend="centre", per="all", crs=4326)
    assert [path.name for path in paths] == ["map_32631.tif", "map_32632.tif"]
    for day, path in enumerate(paths, start=1):
        with rasterio.open(path) as file:
            assert file.crs.to_epsg() == 32630 + day
            np.testing.assert_array_equal(file.read(), data + day)


def test_a_chip_that_comes_twice_counts_once(big, tmp_path):
    class Twice(PlaceDependent):
        count = 0

        def predict_step(self, batch, index):
            Twice.count += 1
            return torch.full((len(batch["image"]), 1, *batch["image"].shape[-2:]), float(Twice.count))

    loader = overlapping(big, 64, 64)
    queries = list(loader.sampler)
    again = DataLoader(loader.dataset, batch_size=1, sampler=queries + queries[:5], collate_fn=stack_samples)
    (path,) = run(tmp_path, again, Twice(), output="value")
    with rasterio.open(path) as file:
        assert float(np.nanmax(file.read(1))) == pytest.approx(len(queries))


def neighbours(tmp_path, crs=("EPSG:32632", "EPSG:32632")):
    """Two loaders, each of one 64 px file, the second beside the first."""
    for number, label in enumerate(crs):
        pixels = np.full((1, 64, 64), 3 + number, "uint8")
        write_tiff(
            tmp_path / str(number) / "scene_20200101.tif", pixels, origin=(1000.0 + 640 * number, 5000.0), crs=label
        )
        found = rt.build_from_files(
            tmp_path / str(number), filename_regex=r"scene_(?P<date>\d{8})\.tif", progress=False
        )
        yield RasteretDataLoader(rt.RasteretIterableDataset(found, sampler="grid", patch_size=32, batch_size=2))


class Same(LightningModule):
    def predict_step(self, batch, index, dataloader_idx=0):
        return batch["image"][:, 0].long()


def test_chips_of_all_loaders_are_drawn_although_each_numbers_them_from_0(tmp_path):
    for number in (0, 1):
        (tmp_path / str(number)).mkdir()
    (path,) = run(tmp_path, list(neighbours(tmp_path)), Same())
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(1), np.repeat([[3] * 64 + [4] * 64], 64, axis=0))


def test_loaders_in_two_crs_do_not_share_a_map(tmp_path):
    for number in (0, 1):
        (tmp_path / str(number)).mkdir()
    with pytest.raises(InputError, match="come in WGS 84 / UTM zone 32N and WGS 84 / UTM zone 33N; give"):
        run(tmp_path, list(neighbours(tmp_path, ("EPSG:32632", "EPSG:32633"))), Same())


def test_whole_numbers_are_not_averaged_where_chips_overlap(big, tmp_path):
    class Counted(LightningModule):
        count = 0

        def predict_step(self, batch, index):
            Counted.count += 2
            return torch.full((len(batch["image"]), *batch["image"].shape[-2:]), Counted.count)

    (path,) = run(tmp_path, overlapping(big, 64, 32), Counted(), output="value")
    with rasterio.open(path) as file:
        values = file.read(1)
    assert set(np.unique(values[np.isfinite(values)]) % 2) == {0.0}


@pytest.mark.parametrize(("output", "blend"), [("class", None), ("class", "centre"), ("value", None)])
def test_where_the_model_says_nan_is_no_data(tmp_path, output, blend):
    for number in (0, 1):
        (tmp_path / str(number)).mkdir()

    class Unsure(LightningModule):
        def predict_step(self, batch, index):
            out = torch.full((len(batch["image"]), 2, *batch["image"].shape[-2:]), 0.5)
            out[:, 1, 1::2], out[..., 5] = torch.nan, torch.nan
            return out

    (path,) = run(tmp_path, next(neighbours(tmp_path)), Unsure(), output=output, blend=blend)
    with rasterio.open(path) as file:
        first, shown = file.read(1), file.read_masks(1) > 0
    assert not shown[:, 5].any()
    if output == "value":  # the other band knows
        assert np.allclose(first[:, :5], 0.5)
    else:
        assert not shown[1::2].any()
        assert (first[::2, :5] == 0).all()


def test_hann_weights_of_half_overlaps_add_up_to_a_constant():
    weights = chip_weights(64, 64, "hann")
    total = weights[:32, :32] + weights[32:, :32] + weights[:32, 32:] + weights[32:, 32:]
    np.testing.assert_allclose(total, 1.0, atol=1e-4)
    centre = chip_weights(5, 7, "centre")
    assert centre[2].tolist() == [1, 2, 3, 3, 3, 2, 1]


def test_canvases_of_several_processes_are_one_map(tmp_path):
    """Random overlapping chips, drawn on one canvas or dealt out to three whose grids start elsewhere."""
    rng = np.random.default_rng(3)
    chips = []
    for _ in range(40):
        col, row = rng.integers(-700, 700, 2).tolist()
        chips.append((rng.random((2, 90, 120)), rng.random((90, 120)) > 0.1, Affine(10, 0, 10 * col, 0, -10, 10 * row)))
    for blend in ("hann", "centre"):
        alone = Canvas(tmp_path / blend / "alone", sheet(chips[0], blend))
        parts = [Canvas(tmp_path / blend / str(n), sheet(chips[n], blend)) for n in range(3)]
        for number, chip in enumerate(chips):
            alone.draw(*chip, (0.0, 1.0))
            parts[number % 3].draw(*chip, (0.0, 1.0))
        for canvas in (alone, *parts):
            canvas.close()
        one, many = Merged([alone]), Merged([Canvas.found(part.folder) for part in parts])
        assert (one.shape, one.transform) == (many.shape, many.transform)
        window = rt.Window(0, 0, *one.shape)
        expected, there = brute(chips, one, blend)
        for merged in (one, many):
            found, known = merged.read(window)
            assert np.array_equal(known, there)
            if blend == "hann":  # ties of "centre" go to the chip that comes first, in its process
                np.testing.assert_allclose(found[:, there], expected[:, there], atol=1e-5)


@pytest.mark.parametrize("noise", [0.0, 1e-9])
def test_neighbours_half_a_pixel_off_leave_no_gap(noise):
    """Chips of an item whose grid lies between the pixels of the map, by odd steps, as near as coordinates are."""
    rng = np.random.default_rng(4)
    first = sheet((None, None, Affine(10, 0, 600_000, 0, -10, 5_000_000)), "hann")
    starts = 600_005 + 150 * np.arange(-20, 20) + rng.uniform(-noise, noise, 40)
    cols = [first.offset(Affine(10, 0, start, 0, -10, 4_999_995))[1] for start in starts]
    assert set(np.diff(cols).tolist()) == {15}


def test_a_full_disk_is_named(tmp_path):
    chip = np.random.default_rng(0).random((2, 90, 120)), np.ones((90, 120), bool), Affine.scale(10, -10)
    canvas = Canvas(tmp_path / "part", sheet(chip, "centre"))
    with full_at(80_000), pytest.raises(WriteError, match=r"part/-?[01]_0.bin cannot be written"):
        canvas.draw(*chip, (0.0, 1.0))
    canvas = Canvas(tmp_path / "empty", sheet(chip, "centre"))
    canvas.draw(*chip, (0.0, 1.0))
    canvas.close()
    for nbytes in range(0, 80_000, 10_000):
        with full_at(nbytes), pytest.raises(WriteError, match=r"map.tif cannot be written"):
            write_map(tmp_path / "map.tif", Merged([canvas]), MapStyle("value", 2), tmp_path)
    assert not list(tmp_path.glob("map*"))


def sheet(chip, blend):
    return Sheet(tuple(chip[2])[:6], 2, "float32", blend)


def brute(chips, merged, blend):
    shape = [size + 400 for size in merged.shape]  # chips may stick out by pixels that are not valid
    total, weight = np.zeros((2, *shape)), np.zeros(shape)
    for values, valid, transform in chips:
        col, row = (round(part) + 200 for part in ~merged.transform @ (transform.c, transform.f))
        share = chip_weights(90, 120, blend) * valid
        total[:, row : row + 90, col : col + 120] += values * share
        weight[row : row + 90, col : col + 120] += share
    inside = (..., slice(200, -200), slice(200, -200))
    return (total / np.maximum(weight, 1e-12))[inside], weight[inside] > 0


def test_refusals(big, tmp_path):
    for wrong in ({"output": "classes"}, {"blend": "mean"}, {"per": "item"}):
        with pytest.raises(InputError, match="choose"):
            RasteretPredictionWriter(tmp_path / "map.tif", **wrong)
    with pytest.raises(InputError, match=r"end with \.tif"):
        RasteretPredictionWriter(tmp_path / "map.png")
    with pytest.raises(InputError, match="pass a list"):
        RasteretPredictionWriter(tmp_path / "map.tif", names="water")
    for returns, words in (("small", "return them in the size of the chips"), ("other", r"put the predictions under")):
        with pytest.raises(InputError, match=words):
            run(tmp_path, module_of(big), Pixelwise(returns=returns))
        assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="class numbers have no mean"):
        run(tmp_path, module_of(big), Pixelwise(returns="classes"), blend="hann")


_TWO_RANKS = """
import sys, torch
from lightning.pytorch import LightningModule, Trainer
import rasteret_torch as rt
import rasteret_torch.loaders.datamodule
from rasteret_torch.loaders.predict import RasteretPredictionWriter

class Mean(LightningModule):
    def __init__(self):
        super().__init__()
        self.nothing = torch.nn.Linear(1, 1)
    def predict_step(self, batch, number):
        return batch["image"].float().mean(dim=1)

if __name__ == "__main__":
    collection, folder = sys.argv[1:]
    for name in ("stream", "padded"):  # TorchGeo's samplers are dealt out with padding: some chips come twice
        data = rt.RasteretDataModule(collection, patch_size=96, batch_size=3, predict="train", mean="none", std="none",
                                     iterable=name == "stream")
        writer = RasteretPredictionWriter(f"{folder}/{name}.tif", output="value")
        quiet = dict(logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False)
        trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp", callbacks=[writer], **quiet)
        trainer.predict(Mean(), data, return_predictions=False)
"""


@pytest.mark.slow
def test_two_processes_draw_one_map(big, tmp_path):
    (tmp_path / "predict.py").write_text(_TWO_RANKS)
    saved = big.save(tmp_path / "index")
    run_ranks(tmp_path / "predict.py", saved, tmp_path)
    whole = rt.read_tiff(hrefs(big)[0])
    there = whole.valid.all(axis=0)
    for name in ("stream", "padded"):
        with rasterio.open(tmp_path / f"{name}.tif") as file:
            bounds, found = file.bounds, file.read(1)
        grid = whole.grid.window_of(tuple(bounds))
        expected = np.where(there, whole.data.mean(axis=0), np.nan)[grid.slices()]
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert not list(tmp_path.glob(".*"))
