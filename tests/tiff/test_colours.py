"""Which sample is alpha: the tag, unless GDAL's metadata says otherwise."""

import dataclasses

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from tiffs import source_of, write_tiff

from rasteret_torch.tiff.metadata import extra_samples

RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


@pytest.mark.parametrize(
    ("colours", "alpha"),
    [
        ((*RGB, ColorInterp.alpha), 2),
        ((*RGB, ColorInterp.undefined), 0),
        ((ColorInterp.gray, *[ColorInterp.undefined] * 3), 0),
        ((ColorInterp.gray, ColorInterp.undefined, ColorInterp.undefined, ColorInterp.alpha), 2),
    ],
)
def test_colours_set_after_writing_overrule_the_tag(tmp_path, colours, alpha):
    data = np.arange(4 * 16 * 16, dtype="uint8").reshape(4, 16, 16)
    path = write_tiff(tmp_path / "a.tif", data, photometric="RGB", alpha="yes")
    with rasterio.open(path, "r+") as file:
        file.colorinterp = colours
    with rasterio.open(path) as file:
        assert (file.colorinterp[3] == ColorInterp.alpha) == bool(alpha)
    assert source_of(path).header.image.extra_samples[-1] == alpha


@pytest.mark.parametrize(
    ("fourth", "tagged", "meant"),
    [("nir", 2, 0), ("undefined", 1, 0), ("", 2, 2), ("", 0, 0), ("alpha", 0, 2), ("alpha", 1, 1)],
)
def test_what_a_colour_makes_of_the_tag(tmp_path, fourth, tagged, meant):
    image = source_of(write_tiff(tmp_path / "a.tif", np.zeros((4, 16, 16), "uint8"))).header.image
    image = dataclasses.replace(image, extra_samples=(tagged,))
    assert extra_samples(image, ("red", "green", "blue", fourth)) == (meant,)
    assert extra_samples(image, ()) == (tagged,)
