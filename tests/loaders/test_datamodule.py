"""The data module in the hands of a real Trainer, and what it promises by itself."""

import itertools
import math
import pickle

import matplotlib.pyplot as plt
import numpy as np
import pyarrow.compute as pc
import pytest
import rasterio
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.tuner import Tuner
from tiffs import write_tiff
from torch import nn
from torch.nn import functional

import rasteret_torch as rt
from rasteret_torch.cli.naip import NdviClasses
from rasteret_torch.errors import BandNotFoundError, InputError, SplitLeakError, SplitNotFoundError
from rasteret_torch.loaders.measure import balancing_weights
from rasteret_torch.loaders.patches import RandomPatches

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*is smaller than the logging interval"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec"),
]
BANDS = ["B02", "B03", "B04", "B08"]
SPLITS = {"2020-01-05": "train", "2020-04-20": "val", "2020-12-31": "test"}


class ThresholdLabels:
    """Labels from the last band, which leaves the image."""

    def __call__(self, sample):
        image = sample["image"]
        return {**sample, "image": image[:-1], "mask": (image[-1].int() > 4500).byte()}


class Pixelwise(LightningModule):
    """The smallest model that trains; keeps what it saw."""

    def __init__(self, channels=3, classes=2):
        super().__init__()
        self.model = nn.Conv2d(channels, classes, kernel_size=1)
        self.train_bounds, self.seen = [], {"train": 0, "val": 0, "test": 0, "predict": 0}

    def _loss(self, batch, role):
        assert batch["image"].dtype == torch.float32
        assert batch["mask"].dtype == torch.int64
        self.seen[role] += len(batch["image"])
        return functional.cross_entropy(self.model(batch["image"]), batch["mask"])

    def training_step(self, batch, index):
        self.train_bounds.append((self.current_epoch, batch["bounds"]))
        return self._loss(batch, "train")

    def validation_step(self, batch, index):
        self._loss(batch, "val")

    def test_step(self, batch, index):
        self._loss(batch, "test")

    def predict_step(self, batch, index):
        return self.model(batch["image"]).argmax(dim=1)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture(scope="module")
def split_scenes(scenes):
    days = [str(moment.date()) for moment in scenes.column("datetime").to_pylist()]
    return scenes.with_column("split", [SPLITS[day] for day in days])


def module_of(collection, **options):
    settings = {"patch_size": 64, "batch_size": 4, "length": 8, "transforms": ThresholdLabels(), "holds_out": "time"}
    return rt.RasteretDataModule(collection, BANDS, **(settings | options))


def trainer_of(tmp_path, **options):
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    settings = (
        {"accelerator": "cpu", "max_epochs": 1, "num_sanity_val_steps": 0, "enable_checkpointing": False}
        | quiet
        | options
    )
    return Trainer(default_root_dir=tmp_path, **settings)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Lightning couldn't infer the indices")  # batches carry their own
@pytest.mark.parametrize(("iterable", "workers"), [(True, 0), (True, 1), (False, 0)])
def test_a_trainer_runs_every_stage(split_scenes, tmp_path, iterable, workers):
    # In workers a transform of the package, as that of this file would have them import all that stands above.
    transforms = NdviClasses() if workers else ThresholdLabels()
    chosen = {"iterable": iterable, "num_workers": workers, "transforms": transforms}
    data, model = module_of(split_scenes, predict="test", ignore_index=0, **chosen), Pixelwise(classes=3)
    trainer = trainer_of(tmp_path)
    trainer.fit(model, data)
    trainer.test(model, data, verbose=False)
    predicted = trainer.predict(model, data)
    grid = 2 * 4 * 4 if iterable else len(data.test_dataloader().sampler)  # two scenes of 200 x 200 px
    assert model.seen == {"train": 8, "val": grid, "test": grid, "predict": 0}
    assert sum(len(batch) for batch in predicted) == grid


@pytest.mark.filterwarnings("ignore:Total length of `list` across ranks is zero")  # that is what val=None means
@pytest.mark.parametrize("iterable", [True, False])
def test_epochs_differ_and_repeat(split_scenes, tmp_path, iterable):
    def epochs():
        data, model = module_of(split_scenes, val=None, iterable=iterable), Pixelwise()
        trainer_of(tmp_path, max_epochs=2).fit(model, data)
        return [torch.cat([bounds for at, bounds in model.train_bounds if at == epoch]) for epoch in (0, 1)]

    first, second = epochs(), epochs()
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("iterable", [True, False])
@pytest.mark.parametrize("batches", [1, 1.0])
def test_a_trainer_that_is_to_overfit_sees_the_same_batches_in_every_epoch(split_scenes, tmp_path, iterable, batches):
    data, model = module_of(split_scenes, iterable=iterable), Pixelwise()
    trainer_of(tmp_path, max_epochs=3, overfit_batches=batches).fit(model, data)
    first, second, third = (torch.cat([chips for at, chips in model.train_bounds if at == epoch]) for epoch in range(3))
    assert len(first) == (4 if batches == 1 and isinstance(batches, int) else 8)
    assert torch.equal(first, second)
    assert torch.equal(first, third)


@pytest.mark.filterwarnings("ignore:Total length of `list` across ranks is zero")  # that is what val=None means
def test_a_tuner_scales_batches(split_scenes, tmp_path):
    data, model = module_of(split_scenes, val=None, length=64), Pixelwise()
    tuner = Tuner(trainer := trainer_of(tmp_path))
    tuner.scale_batch_size(model, data, init_val=2, max_trials=3, steps_per_trial=1)
    assert data.batch_size == 8
    assert [len(chips) for _, chips in model.train_bounds] == [4, 4, 8]  # Lightning tries what there is first
    model.train_bounds.clear()
    data.batch_size = 48
    trainer.fit(model, data)
    assert [len(chips) for _, chips in model.train_bounds] == [48, 16]


@pytest.mark.parametrize("iterable", [True, False])
def test_each_training_chip_is_of_one_date_of_its_split(split_scenes, iterable):
    data = module_of(split_scenes, iterable=iterable)
    data.setup("fit")
    january = [1577836800.0 + 86400 * 4, 1577836800.0 + 86400 * 5]  # 2020-01-05, POSIX seconds
    for batch in data.train_dataloader():
        assert (batch["bounds"][:, 6] >= january[0]).all()
        assert (batch["bounds"][:, 7] <= january[1]).all()


def test_mean_and_std_are_those_of_the_training_pixels(split_scenes):
    data = module_of(split_scenes, transforms=None, patch_size=96)
    data.setup("fit")
    pixels = split_scenes.select_split("train").get_numpy(
        split_scenes.select_split("train").bounds, BANDS
    )  # both scenes of the date
    values = pixels[pixels > 0]
    assert data.mean.shape == (4,)
    assert data.mean.numpy() == pytest.approx(values.mean(), rel=0.03)
    assert data.std.numpy() == pytest.approx(values.std(), rel=0.03)


def test_normalised_pixels_round_trip_and_invalid_ones_become_zero(split_scenes):
    data = module_of(split_scenes, mean=[1.0, 2.0, 3.0], std=2.0)
    data.setup("fit")
    image = torch.full((2, 3, 4, 4), 7, dtype=torch.uint16)
    valid = torch.ones(2, 4, 4, dtype=torch.uint8)
    valid[0, 0, 0] = 0
    out = data.normalise(image, valid)
    assert out[1, :, 0, 0].tolist() == [3.0, 2.5, 2.0]
    assert out[0, :, 0, 0].tolist() == [0.0, 0.0, 0.0]
    assert torch.equal(data.denormalise(out)[1], image[1].float())


def test_time_series_are_normalised_per_channel(split_scenes):
    west = split_scenes.where(pc.field("tile") == "west").with_column("split", ["train"] * 3)
    data = module_of(west, val=None, time_series=True, transforms=None, mean=[0.0, 0, 0, 1], std="none")
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (4, 3, 4, 64, 64)
    out = data.on_after_batch_transfer(batch, 0)["image"]
    inside = batch["mask_valid"].bool()
    assert torch.equal(out[:, :, 3][inside], batch["image"][:, :, 3].float()[inside] - 1)  # older torch picks no uint16


@pytest.mark.parametrize(("iterable", "words"), [(True, "shapes .* do not stack"), (False, r"\[1, 2\] time steps")])
def test_time_series_of_different_lengths_do_not_stack(split_scenes, iterable, words):
    settings = {"time_series": True, "transforms": None, "mean": "none", "std": "none"}
    data = module_of(split_scenes, length=32, batch_size=32, iterable=iterable, **settings)
    data.setup("fit")  # chips over both scenes have two items, others one
    with pytest.raises(InputError, match=words):
        next(iter(data.train_dataloader()))


def test_time_series_of_different_lengths_are_measured_one_by_one(split_scenes):
    data = module_of(split_scenes, time_series=True, transforms=None, length=32, batch_size=1)
    data.setup("fit")
    assert len({batch["image"].shape[1] for batch in data.train_dataloader()}) == 2
    assert data.normalise(next(iter(data.train_dataloader()))["image"]).abs().max() < 3
    assert data.mean.shape == (len(BANDS),)


def test_mean_and_std_travel_in_the_checkpoint(split_scenes, tmp_path):
    data, model = module_of(split_scenes), Pixelwise()
    trainer = trainer_of(tmp_path)
    trainer.fit(model, data)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    fresh = module_of(split_scenes, seed=9)
    trainer_of(tmp_path).test(Pixelwise(), fresh, ckpt_path=tmp_path / "model.ckpt", verbose=False, weights_only=False)
    assert torch.equal(fresh.mean, data.mean)


def test_a_path_names_the_collection(split_scenes, tmp_path):
    data = module_of(str(split_scenes.save(tmp_path / "index")))
    data.setup("validate")
    assert data.in_channels == 3
    assert sum(len(batch["image"]) for batch in data.val_dataloader()) == 32
    pickle.loads(pickle.dumps(data.val_dataset))


class Stopped(Callback):
    """Saves a checkpoint after some batches of the first epoch, and stops there."""

    def __init__(self, path, after):
        self.path, self.after = path, after

    def on_train_batch_end(self, trainer, model, outputs, batch, batch_idx):
        if batch_idx + 1 == self.after:
            trainer.save_checkpoint(self.path)
            raise StopIteration


class Shown(Pixelwise):
    """Keeps which chips it was trained with, by epoch, and how many steps were made when it was validated."""

    def __init__(self):
        super().__init__()
        self.chips, self.validated = [[], []], []

    def training_step(self, batch, index):
        self.chips[self.current_epoch] += batch["index"].tolist()
        return super().training_step(batch, index)

    def on_validation_epoch_start(self):
        self.validated.append(self.global_step)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize(("batch_size", "steps", "alone"), [(1, (6, 18), False), (4, (2, 5), True)])
def test_a_trainer_goes_on_with_batches_of_another_size(split_scenes, tmp_path, batch_size, steps, alone):
    def fit(model, of, **options):
        data = module_of(split_scenes, batch_size=of, length=12, mean="none", std="none")
        trainer = trainer_of(tmp_path, **({"max_epochs": 2} | options))
        if not alone:
            return trainer.fit(model, data, **resumed)
        loaders = data.train_dataloader(), data.val_dataloader()
        loaders[0].trainer, model.on_after_batch_transfer = trainer, data.on_after_batch_transfer
        return trainer.fit(model, *loaders, **resumed)

    before, after, resumed = Shown(), Shown(), {}
    fit(before, 2, callbacks=[Stopped(tmp_path / "stopped.ckpt", after=3)], limit_val_batches=0, max_epochs=1)
    resumed = {"ckpt_path": tmp_path / "stopped.ckpt", "weights_only": False}
    fit(after, batch_size)
    assert sorted(before.chips[0] + after.chips[0]) == sorted(after.chips[1]) == list(range(12))
    assert after.validated == [3 + step for step in steps]


def test_default_length_covers_every_item_once(split_scenes):
    dataset = rt.RasteretGeoDataset(split_scenes, BANDS, split="train")
    area_px = sum(shape.area for shape in dataset.index.geometry) / math.prod(dataset.res)
    assert len(RandomPatches(dataset, 50, None, 0, lambda: 0)) == math.ceil(area_px / 2500)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"train": "trian"}, SplitNotFoundError, "train"),
        ({"split_column": "fold"}, SplitNotFoundError, "fold"),
        ({"bands": ["B99"]}, BandNotFoundError, "B02"),
        ({"patch_size": 4000, "iterable": False}, InputError, "patch_size"),
        ({"mean": [1.0, 2.0]}, InputError, "channel"),
        ({"audit": "raise", "holds_out": "space"}, SplitLeakError, "share"),
    ],
)
def test_mistakes_are_named_with_their_cure(split_scenes, options, error, words):
    settings = {"bands": BANDS, "patch_size": 64, "length": 4, "batch_size": 4, "holds_out": "time"} | options
    data = rt.RasteretDataModule(split_scenes, **settings)
    with pytest.raises(error, match=words):  # noqa: PT012 - whichever of these three first meets the mistake
        data.setup("fit")
        batch = next(iter(data.train_dataloader()))
        data.on_after_batch_transfer(batch, 0)


@pytest.mark.parametrize(
    "options",
    [
        {"locality": 8, "iterable": False},
        {"sampler": "rows", "iterable": False},
        {"min_valid": 0.5, "iterable": False},
        {"min_valid": "", "iterable": False},
        {"batch_size": 0},
        {"num_workers": ""},
        {"length": 0},
        {"length": []},
        {"num_classes": ""},
        {"mean": "imagenet"},
        {"mean": []},
        {"std": float("nan")},
        {"mean": None},
        {"std": [1.0, 0.0]},
        {"sampler": "tiles"},
        {"train_aug": "flip"},
        {"patch_size": "64"},
        {"audit": "shout"},
        {"audit": []},
        {"holds_out": "ground"},
        {"transforms": []},
        {"transforms": 3},
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(split_scenes, options):
    with pytest.raises(InputError, match=next(iter(options))):
        rt.RasteretDataModule(split_scenes, BANDS, **options)


@pytest.mark.parametrize("iterable", [True, False])
def test_training_on_nothing_is_refused(split_scenes, iterable):
    data = module_of(split_scenes, iterable=iterable, length=3, batch_size=4, drop_last=True)
    with pytest.raises(InputError, match="drop_last=True would leave out every chip"):
        data.train_dataloader()
    data = module_of(split_scenes, iterable=iterable, length=4, batch_size=4, drop_last=True)
    assert len(data.train_dataloader()) == 1


def test_predicting_needs_a_split(split_scenes):
    with pytest.raises(InputError, match="predict="):
        module_of(split_scenes).setup("predict")


@pytest.mark.parametrize("iterable", [True, False])
def test_chips_of_prediction_may_overlap(split_scenes, iterable):
    data = module_of(split_scenes, predict="test", predict_overlap=16, iterable=iterable)
    places = torch.cat([batch["bounds"][:, [0, 3]] for batch in data.predict_dataloader()])
    assert len(places.unique(dim=0)) == len(places)
    west = [x for x in places[:, 0].unique().tolist() if x < 2800.0]  # of the western scene
    assert {right - left for left, right in itertools.pairwise(west)} == {48 * 10.0}  # 64 px less 16, of 10 m
    with pytest.raises(InputError, match="predict_overlap"):
        module_of(split_scenes, predict_overlap=64)


@pytest.mark.parametrize("iterable", [True, False])
def test_pictures(split_scenes, iterable):
    data = module_of(split_scenes, iterable=iterable)
    figure = data.plot(suptitle="held out")
    assert [axis.get_title() for axis in figure.axes] == ["Image", "Mask"]
    data.setup("fit")
    batch = next(iter(data.val_dataloader()))
    sample = {key: value[0] for key, value in batch.items()}
    figure = data.plot({**sample, "prediction": sample["mask"]}, show_titles=False)
    assert [axis.get_title() for axis in figure.axes] == ["", "", ""]
    plt.close("all")


def test_constant_channels_can_be_divided_by(tmp_path):
    write_tiff(tmp_path / "flat_20200101.tif", np.full((1, 128, 128), 5, "uint8"))
    flat = rt.build_from_files(tmp_path, filename_regex=r"flat_(?P<date>\d{8})\.tif", progress=False)
    data = rt.RasteretDataModule(flat.with_column("split", ["train"]), val=None, patch_size=32)
    data.setup("fit")
    assert (data.mean.item(), data.std.item()) == (5.0, 1.0)


@pytest.mark.parametrize(
    ("dtype", "middle"), [("float64", 1e8), ("float64", 1e12), ("int32", 2**31 - 99), ("uint32", 4e9)]
)
def test_small_spreads_far_from_zero_are_measured_and_kept(tmp_path, dtype, middle):
    near = np.random.default_rng(0).normal(0, 4, (1, 128, 128)).round()
    write_tiff(tmp_path / "far_20200101.tif", (middle + near).astype(dtype))
    far = rt.build_from_files(tmp_path, filename_regex=r"far_(?P<date>\d{8})\.tif", progress=False)
    data = rt.RasteretDataModule(far.with_column("split", ["train"]), val=None, patch_size=128, batch_size=1, length=1)
    assert data.std.item() == pytest.approx(near.std(), rel=1e-6)
    data.setup("fit")
    fresh = rt.RasteretDataModule(far, val=None, patch_size=128)
    fresh.load_state_dict(data.state_dict())
    (batch,) = data.train_dataloader()
    for module in (data, fresh):
        image = module.normalise(batch["image"], batch["mask_valid"])
        assert image.dtype == (torch.float64 if dtype == "float64" else torch.float32)
        np.testing.assert_allclose(image[0].numpy(), (near - near.mean()) / near.std(), rtol=1e-4, atol=1e-4)


def test_numbers_that_are_not_finite_do_not_count(tmp_path):
    image = np.random.default_rng(0).normal(3, 2, (2, 64, 64)).astype("float32")
    image[0, :5], image[1, 7, 7] = np.nan, np.inf
    write_tiff(tmp_path / "odd_20200101.tif", image)
    odd = rt.build_from_files(tmp_path, filename_regex=r"odd_(?P<date>\d{8})\.tif", progress=False)
    data = rt.RasteretDataModule(odd.with_column("split", ["train"]), val=None, patch_size=64, length=1)
    expected = [band[np.isfinite(band)].astype(float) for band in image]
    assert data.mean.tolist() == pytest.approx([band.mean() for band in expected])
    assert data.std.tolist() == pytest.approx([band.std() for band in expected])


def test_classes_are_weighed_where_the_image_is_valid(tmp_path):
    for name, pixels, nodata in (
        ("image", np.ones((1, 64, 64), "uint8"), 0),
        ("label", np.zeros((1, 64, 64), "uint8"), None),
    ):
        (tmp_path / name).mkdir()
        pixels[0, :16] = 1 - pixels[0, 0, 0]  # the quarter without an image has class 1, and another quarter, too
        if name == "label":
            pixels[0, 48:] = 1
        write_tiff(tmp_path / name / "a_20200101.tif", pixels, nodata=nodata)
    images, labels = (
        rt.build_from_files(tmp_path / name, filename_regex=r"a_(?P<date>\d{8})\.tif", progress=False)
        for name in ("image", "label")
    )
    targets = rt.RasterTargets(labels, classes=(0, 1))
    settings = {"val": None, "patch_size": 64, "length": 1, "targets": targets}
    data = rt.RasteretDataModule(images.with_column("split", ["train"]), ignore_index=255, **settings)
    assert data.class_weights.tolist() == pytest.approx([48 / (2 * 32), 48 / (2 * 16)])


@pytest.mark.parametrize("iterable", [True, False])
def test_scaled_chips_and_their_mean(tmp_path, iterable):
    path = write_tiff(tmp_path / "hot_20200101.tif", np.full((1, 64, 64), 300, "uint16"))
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (0.1,), (-20.0,)
    hot = rt.build_from_files(tmp_path, filename_regex=r"hot_(?P<date>\d{8})\.tif", progress=False)
    hot = hot.with_column("split", ["train"])
    hot = hot.with_stats(hot.stats(split="train"))  # of what is stored, 300, and not of what it measures
    data = rt.RasteretDataModule(hot, val=None, patch_size=32, scaled=True, iterable=iterable)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].dtype == torch.float32
    assert batch["image"].unique().tolist() == [10.0]
    assert data.mean.item() == 10.0


# What a model must know before setup --------------------------------------------------------------------------------


def test_properties_before_setup(split_scenes):
    labelled = split_scenes.with_column("kind", [0, 2, 2, 1, 0, 2])
    data = rt.RasteretDataModule(labelled, BANDS, label_field="kind", patch_size=64)
    train = labelled.select_split("train").to_table(["kind"]).column("kind").to_pylist()
    assert (data.in_channels, data.num_classes) == (4, 3)
    weights = data.class_weights
    assert weights.shape == (3,)
    assert sum(weights[kind] for kind in train) / len(train) == pytest.approx(1.0)
    assert data.mean.shape == data.std.shape == (4,)
    assert module_of(split_scenes).in_channels == 3  # a transform decides


def test_statistics_that_the_collection_keeps(split_scenes, tmp_path):
    kept = split_scenes.with_stats(split_scenes.stats(split="train"))
    data = rt.RasteretDataModule(kept.save(tmp_path / "kept"), ["B08", "B02"])
    found = kept.stored_stats
    assert data.mean.tolist() == pytest.approx([found["B08"].mean, found["B02"].mean])
    assert data.std.tolist() == pytest.approx([found["B08"].std, found["B02"].std])
    of_another = rt.RasteretDataModule(kept, ["B02"], train="val", patch_size=64)
    assert of_another.mean.item() != found["B02"].mean  # the stored ones are of another split


def test_classes_are_not_guessed_from_masks(split_scenes):
    data = module_of(split_scenes)
    with pytest.raises(InputError, match="num_classes"):
        _ = data.num_classes
    known = module_of(split_scenes, num_classes=2)
    assert known.num_classes == 2
    below = 4500 / 9000  # half of the pixels are above the threshold
    assert known.class_weights.tolist() == pytest.approx([below * 2, below * 2], rel=0.05)


def test_labels_that_number_no_class(split_scenes):
    names = split_scenes.with_column("crop", ["rye", "oats", "maize", "rye", "maize", "oats"])
    assert rt.RasteretDataModule(names, BANDS, targets="crop").num_classes == 3
    data = rt.RasteretDataModule(split_scenes.with_column("yield", [0.5] * 6), BANDS, label_field="yield")
    with pytest.raises(InputError, match="does not number classes"):
        _ = data.class_weights


def test_weights_of_classes():
    weights = balancing_weights(torch.tensor([6, 2, 0]), 4)
    assert weights.tolist() == pytest.approx([8 / 2 / 6, 2.0, 2.0, 2.0])


def test_leaking_splits_are_warned_of(split_scenes):
    with pytest.warns(UserWarning, match="leak"):
        module_of(split_scenes, holds_out="space").setup("fit")
    module_of(split_scenes, holds_out="space", audit="off").setup("fit")


def test_rows_and_their_labels(split_scenes, tmp_path):
    labelled = split_scenes.with_column("kind", [0, 2, 2, 1, 0, 2])
    data = rt.RasteretDataModule(
        labelled, BANDS, label_field="kind", sampler="rows", patch_size=32, mean="none", std="none", audit="off"
    )
    data.setup("fit")
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert batch["image"].shape == (2, 4, 32, 32)
    kinds = labelled.select_split("train").to_table(["kind"]).column("kind").to_pylist()
    assert sorted(batch["label"].tolist()) == sorted(kinds)


def test_rows_by_weight_and_chips_that_show_something(split_scenes):
    weighed = split_scenes.with_column("weight", [0.0, 1.0] * 3)
    data = module_of(weighed, sampler="rows", weights="weight", length=20, transforms=None)
    rows = torch.cat([batch["bounds"] for batch in data.train_dataloader()])
    assert len(rows) == 20
    assert len(rows.unique(dim=0)) == 1  # the only row of training with a weight
    whole = module_of(split_scenes, predict="val", transforms=None)
    inside = module_of(split_scenes, predict="val", transforms=None, min_valid=0.9)
    assert whole._split("val").length == 32
    assert inside._split("val").length == 3 * (4 + 3)  # those that stick out of the west are filled by its neighbour
    assert inside._split("predict").length == 32


def test_invalid_pixels_of_a_mask_are_ignored(split_scenes):
    data = module_of(split_scenes, ignore_index=255, mean="none", std="none")
    batch = {
        "image": torch.ones(1, 2, 3, 2, 2),
        "mask": torch.ones(1, 2, 2, dtype=torch.uint8),
        "mask_valid": torch.tensor([[[[1, 0], [0, 1]], [[0, 0], [1, 1]]]], dtype=torch.uint8),
    }
    out = data.on_after_batch_transfer(batch, 0)
    assert out["mask"].tolist() == [[[1, 255], [1, 1]]]  # seen in one step is seen
    assert out["mask"].dtype == torch.int64
    assert out["image"][0, 0, :, 0, 1].tolist() == [0.0, 0.0, 0.0]
