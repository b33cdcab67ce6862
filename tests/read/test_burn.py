"""Masks of polygons equal GDAL's."""

import tracemalloc

import numpy as np
import pytest
import rasterio.features
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from rasteret_torch.errors import InputError
from rasteret_torch.geo import Grid
from rasteret_torch.read.burn import burn, check_polygon, paint

GRID = Grid(Affine(10, 0, 1000, 0, -10, 5000), (20, 25))
COORDINATE = st.tuples(
    st.floats(900, 1350, allow_nan=False) | st.integers(180, 270).map(lambda n: n * 5.0),
    st.floats(4700, 5100, allow_nan=False) | st.integers(940, 1020).map(lambda n: n * 5.0),
)


def gdal(geometry, *, all_touched=False, grid=GRID):
    return rasterio.features.geometry_mask([geometry], grid.shape, grid.transform, invert=True, all_touched=all_touched)


@given(st.lists(COORDINATE, min_size=3, max_size=8))
@settings(max_examples=300)
def test_centres_equal_gdal_ties_included(points):
    polygon = shapely.Polygon(points)
    if polygon.is_valid and polygon.area > 0:
        np.testing.assert_array_equal(burn(polygon, GRID), gdal(polygon))


@given(COORDINATE, COORDINATE)
@settings(max_examples=200)
def test_boxes_equal_gdal_ties_included(one, other):
    box = shapely.box(min(one[0], other[0]), min(one[1], other[1]), max(one[0], other[0]), max(one[1], other[1]))
    np.testing.assert_array_equal(burn(box, GRID), gdal(box))


def test_holes_and_parts():
    ring = shapely.Point(1100, 4900).buffer(70).difference(shapely.Point(1100, 4900).buffer(30))
    several = shapely.MultiPolygon([ring, shapely.box(1200, 4850, 1235, 4990)])
    np.testing.assert_array_equal(burn(several, GRID), gdal(several))
    collection = shapely.GeometryCollection([several, shapely.Point(1001, 4999)])
    np.testing.assert_array_equal(burn(collection, GRID), gdal(several))


def test_rotated_grids():
    grid = Grid(Affine(7, 2, 1000, 1, -9, 5000), (20, 25))
    shape = shapely.Point(1100, 4930).buffer(55)
    np.testing.assert_array_equal(burn(shape, grid), gdal(shape, grid=grid))


@given(st.lists(st.tuples(st.floats(900, 1350), st.floats(4700, 5100)), min_size=3, max_size=7))
@settings(max_examples=200)
def test_all_touched_takes_every_pixel_with_ground_in_common(points):
    polygon = shapely.Polygon(points)
    if not polygon.is_valid or polygon.area < 1:
        return
    col, row = np.meshgrid(np.arange(25), np.arange(20))
    boxes = shapely.box(1000 + col * 10, 5000 - row * 10 - 10, 1000 + col * 10 + 10, 5000 - row * 10)
    common = shapely.area(shapely.intersection(polygon, boxes))
    mask = burn(polygon, GRID, all_touched=True)
    assert mask[common > 1e-4].all()
    assert not mask[shapely.distance(polygon, boxes) > 1e-6].any()


def test_edges_far_beyond_the_grid_take_no_memory():
    """As of the outline of a country, seen from a chip."""
    grid = Grid(Affine(1, 0, 0, 0, -1, 64), (64, 64))
    country = shapely.affinity.rotate(shapely.box(0, -1e5, 1e5, 1e5), 13, origin=(30, 30))
    tracemalloc.start()
    try:
        mask = burn(country, grid, all_touched=True)
        _, peak_nbytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0 < mask.sum() < mask.size
    np.testing.assert_array_equal(mask, gdal(country, all_touched=True, grid=grid))
    assert peak_nbytes < 10 * 2**20


@pytest.mark.parametrize("off", [0, 1e-9, -1e-9, 5e-4, 2e-3, -2e-3, 0.05, 3, 5])  # metres from pixel edges
def test_all_touched_next_to_pixel_edges_as_gdal(off):
    box = shapely.box(1050 + off, 4900 - off, 1100, 4950 + off)
    corners = shapely.Polygon([(1050, 4950), (1100, 4900 + off), (1150, 4950), (1100, 5000)])
    for shape in (box, corners, corners.reverse(), shapely.box(1061, 4900, 1064 + off, 4930)):
        mask = burn(shape, GRID, all_touched=True)
        np.testing.assert_array_equal(mask, gdal(shape, all_touched=True))
    if off == 0:
        assert burn(box, GRID, all_touched=True).sum() == 25


@pytest.mark.parametrize("geometry", [shapely.Point(0, 0), shapely.LineString([(0, 0), (1, 1)])])
def test_points_and_lines_have_no_pixels(geometry):
    with pytest.raises(InputError, match="buffer"):
        check_polygon(geometry)


@given(st.lists(st.lists(COORDINATE, min_size=3, max_size=6), min_size=1, max_size=6), st.booleans())
@settings(max_examples=200)
def test_many_shapes_at_once_equal_one_after_the_other(rings, all_touched):
    shapes = [shape for shape in map(shapely.Polygon, rings) if shape.is_valid and shape.area > 0]
    shapes += [shapely.MultiPoint(ring) for ring in rings[:1]]
    values = np.arange(1, len(shapes) + 1)
    canvas = np.full(GRID.shape, -7, np.int64)
    paint(canvas, np.array(shapes, object), values, GRID, all_touched=all_touched)
    expected = np.full(GRID.shape, -7, np.int64)
    for shape, value in zip(shapes, values, strict=True):
        if shape.geom_type == "Polygon":
            expected[burn(shape, GRID, all_touched=all_touched)] = value
        for point in shapely.get_parts(shape) if shape.geom_type == "MultiPoint" else ():
            row, col = int(np.floor((5000 - point.y) / 10)), int(np.floor((point.x - 1000) / 10))
            if 0 <= row < 20 and 0 <= col < 25:
                expected[row, col] = value
    np.testing.assert_array_equal(canvas, expected)


def test_overlaps_equal_gdals():
    shapes = [shapely.Point(1000 + 23 * n, 4995 - 17 * n).buffer(20 + 3 * n, quad_segs=4) for n in range(11)]
    canvas = np.zeros(GRID.shape, np.int64)
    paint(canvas, np.array(shapes, object), np.arange(1, 12), GRID)
    pairs = zip(shapes, range(1, 12), strict=True)
    np.testing.assert_array_equal(canvas, rasterio.features.rasterize(pairs, GRID.shape, transform=GRID.transform))
    paint(canvas, np.array([], object), np.array([], np.int64), GRID)
    assert canvas.any()
