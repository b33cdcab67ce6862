"""`VectorTarget`: polygons and points on the pixels of chips."""

from __future__ import annotations

import functools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.feather as pf
import pyarrow.parquet as pq
import shapely
import shapely.affinity
import torch
from numpy.typing import NDArray
from pyproj import CRS
from torch import Tensor

from rasteret_torch.errors import CRSMismatchError, DatasetNotFoundError, InputError
from rasteret_torch.geo import Bounds, Grid, parse_crs, project_bounds, same_crs
from rasteret_torch.geo.crs import CRS84, turns_of
from rasteret_torch.index.areas import Areas, as_areas
from rasteret_torch.index.arrow import decoded, is_text
from rasteret_torch.index.projected import project_shape
from rasteret_torch.loaders.targets import BACKGROUND, ChipPlace, Classes, ClassName, VectorTargets
from rasteret_torch.read import ChipPixels, ChipPlan
from rasteret_torch.read.burn import paint

PARQUET, GEOJSON, IPC = (".parquet", ".geoparquet"), (".geojson", ".json"), (".arrow", ".feather")
_POINTS = (shapely.GeometryType.POINT, shapely.GeometryType.MULTIPOINT)
_INT64_MAX = (1 << 63) - 1
_BINARY_VALUE = 1  # written by shapes without an attribute
Placed = tuple[NDArray[np.object_], shapely.STRtree, NDArray[np.float64]]  # shapes, their tree, their total bounds


class VectorTarget:
    """Masks from shapes.

    Attributes:
        key: `mask`.
        spec: what was asked for.
        colours: None, as nothing says.
        backend: None, as nothing is read for a chip.
    """

    key = "mask"
    colours = None
    backend = None

    def __init__(self, spec: VectorTargets) -> None:
        """Reads the shapes.

        Raises:
            DatasetNotFoundError: no such file.
            InputError: no shapes, lines, a missing attribute or CRS, or values that are no classes.
        """
        if isinstance(spec.shapes, str | Path):  # a worker may stand in another folder
            spec = replace(spec, shapes=Path(spec.shapes).expanduser().absolute())
        self.spec = spec
        self._check()

    def _check(self) -> None:
        kinds = shapely.get_type_id(self._areas.shapes)
        flat = np.flatnonzero((shapely.get_dimensions(self._areas.shapes) < 2) & ~np.isin(kinds, _POINTS))
        if len(flat):
            name = self._areas.shapes[flat[0]].geom_type
            raise InputError(f"shape {flat[0]} is a {name}, which has no area; geometry.buffer(distance) gives it one")
        if self.spec.classes is not None and self.spec.attribute is None:
            raise InputError("classes= are values of an attribute; name its column with attribute=")
        _ = self._values

    @functools.cached_property
    def _areas(self) -> Areas:
        shapes, crs = self.spec.shapes, self.spec.crs
        if isinstance(shapes, str | Path):
            path = Path(shapes)
            if not path.is_file():
                raise DatasetNotFoundError(f"no file of shapes at {str(shapes)!r}; check the path of the targets")
            return _read(path, path.stat().st_mtime_ns, crs)
        return as_areas(shapes, crs=crs)

    @functools.cached_property
    def _background(self) -> int:
        """What stands where no shape is."""
        wanted = self.spec.background
        if wanted == "auto":
            only_polygons = not np.isin(shapely.get_type_id(self._areas.shapes), _POINTS).any()
            return 0 if only_polygons else self.spec.ignore_index
        return self.spec.ignore_index if wanted == "ignore" else wanted

    @functools.cached_property
    def _named(self) -> Classes | None:
        if self.spec.attribute is None:
            return None
        if self.spec.classes is not None:
            return Classes(self.spec.classes)
        column = _attribute(self._areas, self.spec.attribute)
        if not is_text(column.type):
            return None
        names = sorted(pc.unique(column).drop_null().to_pylist())
        first = [BACKGROUND] if self._background == 0 else []
        return Classes(first + [name for name in names if name not in first])

    @functools.cached_property
    def _values(self) -> NDArray[np.int64]:
        """The number of every shape.

        Raises:
            InputError: values that are neither whole numbers nor classes.
        """
        name, ignore = self.spec.attribute, self.spec.ignore_index
        if name is None:
            return np.full(len(self._areas), _BINARY_VALUE, np.int64)
        cells, classes = _attribute(self._areas, name).to_pylist(), self._named
        if classes is not None:
            where = f"attribute {name!r}"
            return np.array([ignore if cell is None else classes.number(cell, where) for cell in cells], np.int64)
        known = [cell for cell in cells if cell is not None and cell == cell]
        if any(not isinstance(cell, bool | int | float) or cell % 1 or abs(cell) > _INT64_MAX for cell in known):
            raise InputError(
                f"attribute {name!r} holds values that are no whole numbers of an int64; pass classes= to number them"
            )
        return np.array([ignore if cell is None or cell != cell else int(cell) for cell in cells], np.int64)

    @property
    def classes(self) -> tuple[ClassName, ...] | None:
        """Values by number."""
        return None if self._named is None else self._named.names

    @property
    def bounds(self) -> Bounds | None:
        """Of all shapes; None where there are none."""
        west, south, east, north = shapely.total_bounds(self._areas.shapes).tolist()
        if not math.isfinite(west):
            return None
        return project_bounds((west, south, east, north), self._areas.crs, parse_crs(CRS84))

    def plan(self, place: ChipPlace) -> ChipPlan | None:
        """Nothing is read."""
        return None

    def tensor(self, place: ChipPlace, read: ChipPixels | None) -> Tensor:
        """The mask, [H, W]."""
        grid = place.grid
        mask = np.full(grid.shape, self._background, np.int64)
        near, shapes = self._around(grid)
        paint(mask, shapes, self._values[near], grid, all_touched=self.spec.all_touched)
        return torch.from_numpy(mask)

    def _around(self, grid: Grid) -> tuple[NDArray[np.int64], NDArray[np.object_]]:
        """The shapes near a chip: their numbers, ascending, and where they lie; longitudes as the chip has them."""
        shapes, tree, (first, _, last, _) = self._placed(grid.crs)
        assert grid.crs is not None
        west, south, east, north = grid.bounds
        turns = turns_of(grid.crs, min(west, first), max(east, last))
        turn, near = tree.query([shapely.box(west + turn, south, east + turn, north) for turn in turns])
        order = np.argsort(near, kind="stable")
        turn, near = turn[order], near[order]
        found = shapes[near]
        for at in np.flatnonzero(turn):
            found[at] = shapely.affinity.translate(found[at], -turns[turn[at]])
        return near, found

    def _placed(self, crs: CRS | None) -> Placed:
        """The shapes in the CRS of a chip."""
        if crs is None:
            raise CRSMismatchError("chips without a CRS have no place for shapes; pass crs= to the dataset")
        key = crs.to_wkt()
        if key not in self._by_crs:
            shapes = self._areas.shapes
            if not same_crs(self._areas.crs, crs):
                shapes = np.array([project_shape(shape, self._areas.crs, crs) for shape in shapes], object)
            self._by_crs[key] = shapes, shapely.STRtree(shapes), shapely.total_bounds(shapes)
        return self._by_crs[key]

    @functools.cached_property
    def _by_crs(self) -> dict[str, Placed]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        """The specification alone: shapes of a file are read again on the other side."""
        return {"spec": self.spec}


@functools.lru_cache(8)  # train, validation and test sets share the shapes
def _read(path: Path, mtime_ns: int, crs: str | int | None) -> Areas:
    """Shapes of a file.

    Raises:
        InputError: a format that is not read here, or a damaged file.
    """
    suffix = path.suffix.lower()
    try:
        if suffix in PARQUET:
            return as_areas(pq.read_table(path), crs=crs)
        if suffix in IPC:
            return as_areas(pf.read_table(path), crs=crs)
        if suffix in GEOJSON:
            return as_areas(json.loads(path.read_text()), crs=crs)
    except (pa.ArrowInvalid, ValueError) as error:
        if isinstance(error, InputError):
            raise InputError(f"{path.name}: {error}") from error
        raise InputError(f"{path.name} could not be read as {suffix[1:]}: {error}") from error
    raise InputError(
        f"{path.name}: shapes are read from {', '.join(PARQUET + GEOJSON + IPC)}; convert it, for example with "
        "geopandas.read_file(path).to_parquet(...)"
    )


def _attribute(areas: Areas, name: str) -> pa.ChunkedArray:
    columns = [] if areas.columns is None else areas.columns.column_names
    if name not in columns or areas.columns is None:
        raise InputError(f"the shapes have no attribute {name!r}; they have {columns}")
    return decoded(areas.columns.column(name))


def is_shapes(value: str | Path) -> bool:
    """Whether a path names a file of shapes, readable or not: any file that is no collection."""
    path = Path(value).expanduser()
    if not path.is_file():
        return False
    if path.suffix.lower() not in PARQUET:
        return True
    try:
        return "assets" not in pq.read_schema(path).names
    except pa.ArrowInvalid:
        return True  # damaged: reading it says how
