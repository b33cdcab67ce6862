"""Pictures of samples: what is drawn, in which colours, under which names."""

from __future__ import annotations

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import rasterio
import torch
from matplotlib.colors import ListedColormap, to_rgba
from tiffs import write_tiff

import rasteret_torch as rt
from rasteret_torch.errors import InputError
from rasteret_torch.loaders.plotting import rgb_bands_of

CHIP = (slice(1100.0, 1420.0), slice(4000.0, 4320.0))
COLOURS = {0: (255, 0, 0, 255), 1: (0, 255, 0, 255), 2: (0, 0, 255, 255)}


@pytest.fixture(autouse=True)
def no_window():
    backend = matplotlib.get_backend()
    matplotlib.use("Agg")
    yield
    plt.close("all")
    matplotlib.use(backend)


@pytest.fixture
def palette_map(tmp_path):
    """A label map of three classes that carries its colours."""
    path = tmp_path / "map_2020.tif"
    write_tiff(path, np.random.default_rng(0).integers(0, 3, (1, 200, 380)).astype("uint8"), nodata=255)
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, COLOURS)
    return rt.build_from_files(path, filename_regex=r"map_(?P<date>\d{4})\.tif", date_format="%Y", progress=False)


def titles(figure):
    return [axis.get_title() for axis in figure.axes]


def pictures(figure):
    return [axis.images[0].get_array() for axis in figure.axes]


@pytest.mark.parametrize(
    ("bands", "shown"),
    [
        (("B02", "B03", "B04", "B08"), ("B04", "B03", "B02")),
        (("R", "G", "B", "NIR"), ("R", "G", "B")),
        (("nir", "blue", "green", "red"), ("red", "green", "blue")),
        (("x", "y", "z", "w"), ("x", "y", "z")),
        (("vv", "vh"), ("vv",)),
    ],
)
def test_natural_colours_are_found_by_name(bands, shown):
    assert rgb_bands_of(bands) == shown


def test_a_sample_shows_image_mask_and_prediction(scenes, palette_map):
    dataset = rt.RasteretGeoDataset(scenes, targets=palette_map)
    assert dataset.rgb_bands == ("B04", "B03", "B02")
    assert dataset.all_bands == ("B02", "B03", "B04", "B08")
    sample = dataset[CHIP]
    sample["prediction"] = sample["mask"].clone()
    sample["mask"][0] = -100
    figure = dataset.plot(sample, suptitle="a chip")
    assert titles(figure) == ["Image", "Mask", "Prediction"]
    assert figure.get_suptitle() == "a chip"
    image, mask, prediction = pictures(figure)
    red = sample["image"][2].numpy()
    low, high = np.percentile(red, (2, 98))
    assert np.allclose(image[..., 0], np.clip((red - low) / (high - low), 0, 1), atol=1e-5)
    assert mask[0].mask.all()
    assert not prediction.mask.any()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["0", "1", "2", "ignored"]
    drawn = figure.axes[2].images[0].to_rgba(np.array([[0, 1, 2]]))[0, :, :3]
    assert np.allclose(drawn, np.eye(3))
    assert titles(dataset.plot(sample, show_titles=False)) == ["", "", ""]


@pytest.mark.parametrize(
    ("column", "prediction", "words"),
    [
        (["rock", "tree"] * 3, torch.tensor(1), "Label: tree\nPrediction: tree"),
        ([8, 7] * 3, torch.tensor([8]), "Label: 7\nPrediction: 8"),
        ([0.5, 0.25] * 3, torch.tensor([0.125]), "Label: 0.25\nPrediction: 0.125"),
        ([[0, 1], [1, 0]] * 3, torch.tensor([1, 1]), "Label: 1, 0\nPrediction: 1, 1"),
    ],
)
def test_labels_and_their_predictions_are_written(scenes, column, prediction, words):
    """As TorchGeo's tasks that are not of pixels give them to `plot` while validating."""
    dataset = rt.RasteretGeoDataset(scenes.with_column("what", column), targets="what")
    sample = dataset[CHIP] | {"prediction": prediction}
    sample["label"] = sample["label"] if len(sample["label"]) > 1 else sample["label"][0]
    assert titles(dataset.plot(sample)) == [f"Image\n{words}"]
    assert titles(dataset.plot(sample, show_titles=False)) == [""]


def test_invalid_pixels_are_grey_and_series_have_their_dates(scenes):
    dataset = rt.RasteretGeoDataset(scenes, time_series=True)
    figure = dataset.plot(dataset[900.0:1220.0, 4000.0:4320.0])  # sticks out
    assert titles(figure) == ["2020-01-05", "2020-04-20", "2020-12-31"]
    for picture in pictures(figure):
        assert np.allclose(picture[:, :10], 0.93)
        assert not np.allclose(picture[:, 10:], 0.93)


def test_names_and_colours_can_be_given(scenes, palette_map):
    spec = rt.RasterTargets(palette_map, classes=(2, 0, 1))
    dataset = rt.RasteretGeoDataset(scenes, ["B08"], targets=spec)
    assert [to_rgba(dataset.cmap(number)) for number in range(3)] == [to_rgba(c) for c in ("blue", "red", "lime")]
    figure = dataset.plot(dataset[CHIP])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["2", "0", "1"]
    dataset.cmap = ListedColormap(["black", "white", "grey"])
    dataset.rgb_bands = ("B08",)
    image, _ = pictures(dataset.plot(dataset[CHIP]))
    assert np.array_equal(image[..., 0], image[..., 1])
    own = rt.RasteretGeoDataset(palette_map, is_image=False)
    assert own.cmap(1) == to_rgba("lime")


def test_colours_are_those_of_the_first_file_that_could_be_read(scenes, palette_map, tmp_path):
    (tmp_path / "map_2019.tif").write_bytes(b"II*\0 and nothing more")
    options = {"filename_regex": r"map_(?P<date>\d{4})\.tif", "date_format": "%Y", "progress": False}
    with pytest.warns(UserWarning, match="1 of 2 files could not be indexed"):
        both = rt.build_from_files(tmp_path, **options)
    assert len(both) == 2
    expected = rt.RasteretGeoDataset(palette_map, is_image=False).cmap
    assert expected is not None
    with pytest.warns(UserWarning, match="1 of 2 items have no place"):
        labels = rt.RasteretGeoDataset(both, is_image=False)
    labels.plot(labels[CHIP])
    assert labels.cmap.colors.tolist() == expected.colors.tolist()
    with pytest.warns(UserWarning, match="1 of 2 items have no place"):
        images = rt.RasteretGeoDataset(scenes, targets=rt.RasterTargets(both))
    assert images.cmap.colors.tolist() == expected.colors.tolist()


def test_what_cannot_be_drawn_is_said(scenes):
    dataset = rt.RasteretGeoDataset(scenes)
    sample = dataset[CHIP]
    with pytest.raises(InputError, match="no sample"):
        dataset.plot({"image": torch.zeros(2, 3, 4, 8, 8)})
    with pytest.raises(InputError, match="neither image nor mask"):
        dataset.plot({"bounds": sample["bounds"]})
