"""Which sample is alpha: the tag, unless GDAL's metadata says otherwise."""

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from tiffs import source_of, write_tiff

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
