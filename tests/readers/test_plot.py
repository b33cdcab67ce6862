"""Pictures: what they show, not how they look; they were looked at when they were made."""

import matplotlib.pyplot as plt
import numpy as np
import pyarrow as pa
import pytest
import rasterio
import shapely
from affine import Affine
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from places import boxes_collection, shapes_collection, tiled_collection
from tiffs import write_tiff

import rasteret_torch as rt
from rasteret_torch.errors import BandNotFoundError, InputError
from rasteret_torch.geo import parse_crs
from rasteret_torch.readers.plot import SPLIT_COLOURS
from rasteret_torch.readers.plot_pixels import plot_raster, plot_stats

BOXES = [(9.0, 45.0, 9.1, 45.1), (9.1, 45.0, 9.2, 45.1), (9.2, 45.0, 9.3, 45.1)]


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def drawn(figure, axis=0):
    """Colour (or value) of each footprint of a map, by its lower left longitude."""
    found = {}
    for part in figure.axes[axis].collections:
        if isinstance(part, PolyCollection):
            values = part.get_array()
            colours = (
                values.tolist() if values is not None else [to_hex(part.get_facecolor()[0])] * len(part.get_paths())
            )
            west = [round(float(path.vertices[:, 0].min()), 6) for path in part.get_paths()]
            found |= dict(zip(west, colours, strict=True))
    return found


def test_splits_have_their_colours(tmp_path):
    places = boxes_collection(BOXES, split=["val", None, "train"])
    figure = places.plot()
    assert drawn(figure) == {9.0: SPLIT_COLOURS["val"], 9.1: "#d0d0d0", 9.2: SPLIT_COLOURS["train"]}
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["none (1)", "train (1)", "val (1)"]
    assert figure.axes[0].get_title() == "places: 3 items by split"
    figure.savefig(tmp_path / "map.png", dpi=40)
    assert (tmp_path / "map.png").stat().st_size > 2000


def test_dates_are_maps_of_their_own_or_a_scale():
    few = boxes_collection(BOXES, [0, 0, 40], split=["train", "val", "train"])
    figure = few.plot("date")
    assert [axis.get_title() for axis in figure.axes[:2]] == ["2020-01-01 (2)", "2020-02-10 (1)"]
    assert drawn(figure, 1) == {9.2: SPLIT_COLOURS["train"]}
    many = tiled_collection(4, 3, 1000.0).with_column("split", ["train"] * 12)
    stepped = boxes_collection([(9 + 0.1 * n, 45.0, 9.1 + 0.1 * n, 45.1) for n in range(12)], range(12))
    values = list(drawn(stepped.plot("date")).values())
    assert values == sorted(values)
    assert len(set(values)) == 12
    assert drawn(many.plot("date")) != {}  # one date


def test_clouds_numbers_and_classes():
    places = boxes_collection(
        BOXES, **{"eo:cloud_cover": [10.0, None, 80.0], "score": [1, 2, 3], "kind": ["a", "b", "a"], "big": [0.5, 1, 9]}
    )
    assert drawn(places.plot("cloud")) == {9.0: 10.0, 9.1: "#d0d0d0", 9.2: 80.0}
    assert len(set(drawn(places.plot("score")).values())) == 3
    kinds = drawn(places.plot("kind"))
    assert kinds[9.0] == kinds[9.2] != kinds[9.1]
    assert drawn(places.plot("big"))[9.2] == 9.0
    _, ax = plt.subplots()
    assert places.plot("kind", ax=ax, title="mine") is ax.get_figure()
    assert ax.get_title() == "mine"


def test_categories_are_words():
    kinds = pa.array(["train", "val", "train"]).dictionary_encode()
    assert drawn(boxes_collection(BOXES, kind=kinds).plot("kind"))[9.1] == SPLIT_COLOURS["val"]
    dated = boxes_collection(BOXES, [0, 0, 40], split=kinds).plot("date")
    assert drawn(dated) == {9.0: SPLIT_COLOURS["train"], 9.1: SPLIT_COLOURS["val"]}


def test_shapes_of_all_kinds_and_many_items():
    crossing = shapely.MultiPolygon([shapely.box(179, 0, 180, 1), shapely.box(-180, 0, -179, 1)])
    mixed = shapes_collection(np.array([crossing, shapely.Point(0, 0)]), split=["train", "val"])
    assert len(drawn(mixed.plot())) == 2
    many = tiled_collection(150, 150, 500.0)
    many = many.with_column("split", ["train"] * len(many))
    assert len(many.plot().axes[0].collections[0].get_offsets()) == 22_500
    assert many.plot("datetime").axes


def test_refusals():
    places = boxes_collection(BOXES, none=[None, None, None], odd=[[1], [2], [3]], nan=[float("nan")] * 3)
    with pytest.raises(InputError, match="no column"):
        places.plot("nowhere")
    with pytest.raises(InputError, match="has no colours"):
        places.plot("odd")
    with pytest.raises(InputError, match="no value to draw"):
        places.plot("nan")
    assert set(drawn(places.plot("none")).values()) == {"#d0d0d0"}


def raster(bands=4, hole=True):
    data = np.random.default_rng(0).integers(1, 100, (bands, 20, 30)).astype("uint8")
    valid = np.ones(data.shape, bool)
    valid[:, :5, :5] = not hole
    grid = rt.Grid(Affine(10, 0, 500_000, 0, -10, 5_000_000), (20, 30), parse_crs(32632))
    return rt.Raster(data, valid, grid)


def test_rasters_in_colours_and_alone():
    picture = plot_raster(raster()).axes[0].images[0]
    pixels = picture.get_array()
    assert pixels.shape == (20, 30, 4)
    assert (pixels[:5, :5, 3] == 0).all()
    assert (pixels[5:, 5:, 3] == 1).all()
    assert picture.get_extent() == [500_000, 500_300, 4_999_800, 5_000_000]
    low, high = np.percentile(raster().data[0][raster().valid[0]], (2, 98))
    expected = np.clip((raster().data[0].astype(float) - low) / (high - low), 0, 1)
    np.testing.assert_allclose(pixels[..., 0], expected)
    alone = plot_raster(raster(), 3, label="NDVI", title="index")
    assert alone.axes[0].images[0].get_array().mask.sum() == 25
    assert alone.axes[1].get_ylabel() == "NDVI"
    assert plot_raster(raster(1)).axes[0].images[0].get_array().shape == (20, 30)


@pytest.mark.parametrize("axis", [1, 2])
def test_rows_and_columns_that_run_the_other_way_give_the_same_picture(axis):
    one = raster(1)
    place = one.grid.transform
    flip = (
        place @ Affine.translation(0, 20) @ Affine.scale(1, -1)
        if axis == 1
        else place @ Affine.translation(30, 0) @ Affine.scale(-1, 1)
    )
    turned = rt.Raster(np.flip(one.data, axis), np.flip(one.valid, axis), rt.Grid(flip, (20, 30), one.grid.crs))
    np.testing.assert_array_equal(rendered(turned), rendered(one))


def rendered(shown):
    figure = plot_raster(shown)
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())


def test_classes_have_the_colours_of_their_palette(tmp_path):
    path = write_tiff(tmp_path / "scene_20200101.tif", np.arange(240, dtype="uint8").reshape(1, 12, 20) % 3, nodata=0)
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {1: (255, 0, 0), 2: (0, 128, 255)})
    collection = rt.build_from_files(path, filename_regex=r"scene_(?P<date>\d{8})\.tif", progress=False)
    window = collection.read_window("scene_20200101", collection.runtime.grid(0, "B1").bounds, 10, "B1")
    for shown in (window, rt.read_tiff(path)):
        axis = plot_raster(shown, label="cover").axes[0]
        colours = axis.images[0].to_rgba(axis.images[0].get_array())
        np.testing.assert_allclose(colours[0, 1:3, :3], [[1, 0, 0], [0, 128 / 255, 1]], atol=1e-6)
        assert axis.images[0].get_array().mask[0, 0]  # nodata
        assert [text.get_text() for text in axis.get_legend().get_texts()] == ["1", "2"]
    assert len(plot_raster(window, cmap="magma").axes) == 2  # with a scale
    assert collection.read_window("scene_20200101", window.grid.bounds, 10, "B1", scaled=True).color_map is None


def test_large_rasters_are_thinned(monkeypatch):
    monkeypatch.setattr("rasteret_torch.readers.plot_pixels.MOST_PX", 10)
    picture = plot_raster(raster(1)).axes[0].images[0]
    assert picture.get_array().shape == (7, 10)
    assert picture.get_extent() == [500_000, 500_300, 4_999_800, 5_000_000]


def test_rasters_that_are_no_picture():
    with pytest.raises(InputError, match="choose three"):
        plot_raster(raster(), [0, 1])
    with pytest.raises(BandNotFoundError, match="no band"):
        plot_raster(raster(), 9)
    with pytest.raises(InputError, match="ascend"):
        plot_raster(raster(), stretch=(98, 2))
    series = rt.Raster(raster().data[None], raster().valid[None], raster().grid)
    with pytest.raises(InputError, match="time series"):
        plot_raster(series)
    with pytest.raises(InputError, match="imshow"):
        plot_raster(raster().data)
    nothing = rt.Raster(raster().data, np.zeros_like(raster().valid), raster().grid)
    assert plot_raster(nothing).axes


def test_histograms(naip):
    found = naip.stats()
    figure = found.plot()
    assert [axis.get_title().split()[0] for axis in figure.axes] == ["R", "G", "B", "N"]
    assert len(plot_stats(found, ["N"]).axes) == 1
    with pytest.raises(BandNotFoundError):
        found.plot(["X"])
