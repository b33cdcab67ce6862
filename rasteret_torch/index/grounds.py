"""The ground that items stand on, as plane polygons in metres: what splits are compared by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from rasteret_torch.errors import InputError
from rasteret_torch.index.blocks import METRES_A_DEGREE

if TYPE_CHECKING:
    from rasteret_torch.index.collection import Collection

_SIMPLER_BY_M = 1.0  # footprints have points along their edges; a metre matters to no split
_SLIVER_SHARE = 1e-3
_NEXT_TO_POLE = 89.9  # degrees, where longitudes still have a length
_FAR_M = 100_000.0  # nobody asks for more between splits, and planes are no measure of it
_AT_ONCE = 10_000

Pairs = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Grounds:
    """Distinct places, and which of them each item has.

    Neighbours whose grids are not aligned overlap by slivers; what is no wider than a pixel, or without grids smaller
    than a thousandth of the smaller place, is not shared.

    Attributes:
        shapes: one polygon a place, in metres on a plane.
        place: for each item, a number into `shapes`; -1 where it has no place.
        pixel_m: where the polygons are pixel grids (boxes along the axes), the largest pixel size (x, y).
    """

    shapes: NDArray[Any]
    place: NDArray[np.int64]
    pixel_m: tuple[float, float] | None = None

    def overlaps(self, candidates: Pairs) -> tuple[Pairs, NDArray[np.float64]]:
        """The pairs of places [2, K] that share ground, and how much in square metres; a place shares all with itself.

        Raises:
            InputError: footprints that no polygon arithmetic takes.
        """
        one, other = self.shapes[candidates[0]], self.shapes[candidates[1]]
        if self.pixel_m is not None:
            shared, some = _box_overlap(one, other, self.pixel_m)
        else:
            shared, some = _overlap(one, other)
        some |= candidates[0] == candidates[1]  # points too
        return candidates[:, some], shared[some]

    def neighbours(self) -> Pairs:
        """Pairs of places [2, K] whose boxes touch, each once, i <= j, those of a place with itself included."""
        first, second = shapely.STRtree(self.shapes).query(self.shapes)
        once = first <= second
        return np.stack([first[once], second[once]])

    def distance(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
        """Metres between the nearest places of two sets; inf where one is empty."""
        if not len(one) or not len(other):
            return float("inf")
        few, many = (self.shapes[places] for places in sorted((one, other), key=len))
        tree = shapely.STRtree(many)
        (mine, theirs), distances = tree.query_nearest(few, all_matches=False, return_distance=True)
        if self.pixel_m is not None or not distances.min():
            return float(distances.min())
        least = float(_local_distances(few[mine], many[theirs]).min())
        stretch = _stretch(self.shapes)
        for start in range(0, len(few) if least < _FAR_M else 0, _AT_ONCE):
            # What is nearer than that looks at most so much farther on a plane that shears.
            some = few[start : start + _AT_ONCE]
            mine, theirs = tree.query(some, predicate="dwithin", distance=least * stretch)
            least = float(_local_distances(some[mine], many[theirs]).min(initial=least))
        return least


def grounds_of(collection: Collection) -> Grounds:
    """The grounds of all items: exact grids where all lie in one projected CRS, else footprints."""
    grids = _grid_boxes(collection)
    if grids is not None:
        distinct, place = np.unique(grids[0], axis=0, return_inverse=True)
        return Grounds(np.atleast_1d(shapely.box(*distinct.T)), place, grids[1])
    column = collection.geometry.combine_chunks()
    encoded = column.cast(pa.binary()).dictionary_encode()
    place = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    shapes = shapely.from_wkb(encoded.dictionary.to_numpy(zero_copy_only=False), on_invalid="ignore")
    missing = shapely.is_missing(shapes) | shapely.is_empty(shapes)
    numbers = np.where(missing, -1, np.cumsum(~missing) - 1)
    place = np.where(place < 0, -1, numbers[place]) if len(numbers) else place
    return Grounds(_in_metres(shapes[~missing]), place)


def _grid_boxes(collection: Collection) -> tuple[NDArray[np.float64], tuple[float, float]] | None:
    """[N, 4] in metres of a common projected CRS, and the largest pixel; None where a grid is missing or rotated."""
    runtime = collection.runtime
    if len(runtime.crs_list) != 1 or not runtime.crs_list[0].is_projected:
        return None
    metres = runtime.crs_list[0].axis_info[0].unit_conversion_factor
    pixel = np.zeros(2)
    for band in collection.bands:
        transforms, _, ids = runtime.grids(band)
        if (ids < 0).any() or transforms[:, [1, 3]].any():
            return None
        pixel = np.maximum(pixel, np.abs(transforms[:, [0, 4]]).max(axis=0) * metres)
    boxes = runtime.bounds() * metres
    return None if np.isnan(boxes).any() else (boxes, (float(pixel[0]), float(pixel[1])))


def _in_metres(shapes: NDArray[Any]) -> NDArray[Any]:
    """Lon/lat shapes on an equal-area plane (sinusoidal) around their middle, which shears far from it."""
    if not len(shapes):
        return shapes
    parts, owner = shapely.get_parts(shapes, return_index=True)
    points, part = shapely.get_coordinates(parts, return_index=True)
    lon, lat = points.T
    centre = np.angle(np.exp(1j * np.radians(lon)).mean(), deg=True)
    middle = np.bincount(part, lon) / np.bincount(part)
    lon = lon - 360.0 * np.round((middle - centre) / 360.0)[part] - centre
    plane = np.column_stack([lon * np.cos(np.radians(lat)), lat]) * METRES_A_DEGREE
    parts = shapely.simplify(shapely.set_coordinates(parts, plane), _SIMPLER_BY_M)
    bad = ~shapely.is_valid(parts)
    parts[bad] = shapely.make_valid(parts[bad])
    if len(parts) == len(shapes):
        return parts
    return np.array([shapely.union_all(parts[owner == number]) for number in range(len(shapes))], object)


def _stretch(shapes: NDArray[Any]) -> float:
    """How many times longer than on the ground a short distance may be on the plane, at most."""
    x, y = shapely.get_coordinates(shapes).T / METRES_A_DEGREE
    shear = np.abs(np.radians(x) * np.tan(np.radians(np.clip(y, -_NEXT_TO_POLE, _NEXT_TO_POLE)))).max()
    return float(shear / 2 + np.sqrt(1 + shear**2 / 4))


def _local_distances(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    """Metres between neighbours on the plane, pair by pair, each as on a plane of its own."""
    boxes = shapely.bounds(one)
    lat = np.clip(boxes[:, [1, 3]].mean(axis=1) / METRES_A_DEGREE, -_NEXT_TO_POLE, _NEXT_TO_POLE)
    return np.asarray(shapely.distance(_unsheared(one, lat), _unsheared(other, lat)))


def _unsheared(shapes: NDArray[Any], lat: NDArray[np.float64]) -> NDArray[Any]:
    """Shapes of the plane with all longitudes as far apart as they are at one latitude, each at its own."""
    points, owner = shapely.get_coordinates(shapes, return_index=True)
    own = np.cos(np.radians(np.clip(points[:, 1] / METRES_A_DEGREE, -_NEXT_TO_POLE, _NEXT_TO_POLE)))
    points[:, 0] *= np.cos(np.radians(lat))[owner] / own
    return np.asarray(shapely.set_coordinates(shapes.copy(), points))


def _overlap(one: NDArray[Any], other: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Common area in square metres, and whether it is more than a sliver."""
    try:
        shared = shapely.area(shapely.intersection(one, other))
    except shapely.errors.GEOSException as error:
        raise InputError(f"the footprints of the collection are not polygons that intersect ({error})") from error
    return shared, shared > _SLIVER_SHARE * np.minimum(shapely.area(one), shapely.area(other))


def _box_overlap(
    one: NDArray[Any], other: NDArray[Any], pixel_m: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The same of boxes, by their sides."""
    left, right = shapely.bounds(one), shapely.bounds(other)
    sides = np.minimum(left[:, 2:], right[:, 2:]) - np.maximum(left[:, :2], right[:, :2])
    return np.prod(np.maximum(sides, 0.0), axis=1), (sides > np.multiply(pixel_m, 1 + 1e-6)).all(axis=1)
