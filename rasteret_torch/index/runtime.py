"""`RuntimeIndex`: the rows of a collection by number, in microseconds, for the read path."""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS

from rasteret_torch import errors
from rasteret_torch.errors import (
    BandNotFoundError,
    IndexCorruptError,
    InputError,
    NotGeoreferencedError,
    RasteretTorchError,
)
from rasteret_torch.geo import Bounds, Grid, parse_crs, same_crs
from rasteret_torch.geo.crs import turns_of, wkt_of
from rasteret_torch.index import boxes, contents, dates, mapped, places, query
from rasteret_torch.index import schema as s
from rasteret_torch.index.headers import header_of, is_single_plane, one_plane
from rasteret_torch.index.source import Source
from rasteret_torch.index.stored import HeaderColumn
from rasteret_torch.index.view import View
from rasteret_torch.tiff.limits import check_header
from rasteret_torch.tiff.model import TiffHeader

_SOURCES_KEPT = 16384  # headers of recent items, 1 to 3 KB each; chips of a long stack ask for all of it in one order
_lock = threading.Lock()
_runtimes: weakref.WeakValueDictionary[tuple[str, bytes], RuntimeIndex] = weakref.WeakValueDictionary()


def runtime_of(view: View) -> RuntimeIndex:
    """The runtime form of these rows; one per process, however many collections ask."""
    key = view.key
    with _lock:
        found = _runtimes.get(key)
        if found is None:
            found = _runtimes[key] = RuntimeIndex(view)
    return found


class RuntimeIndex:
    """Rows by number, from 0, in the order of the collection.

    Attributes:
        count: of rows.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._root = root = view.root
        self.count = len(view)
        self.bands = root.bands
        self._headers = {
            field.name.removesuffix(s.HEADER_SUFFIX): root.headers(field.name)
            for field in root.schema
            if s.is_header_field(field)
        }
        self._cached_source = functools.lru_cache(_SOURCES_KEPT)(self._read_source)
        self._trees: dict[str, boxes.BoxIndex] = {}
        self._known_bounds: dict[tuple[str, tuple[str, ...]], NDArray[np.float64]] = {}

    def __len__(self) -> int:
        return self.count

    # -- light columns ----------------------------------------------------------------------------------------------

    def _light(self, *names: str) -> pa.Table:
        """Some columns of the rows, as far as they are there."""
        return self._view.select([name for name in names if name in self._root.schema.names])

    @functools.cached_property
    def ids(self) -> Sequence[str]:
        """Item ids."""
        return tuple(self._light("id").column("id").to_pylist())

    @functools.cached_property
    def _times(self) -> tuple[dates.Micros, dates.Micros]:
        return query.time_columns(self._light(*s.TIMES))

    @property
    def start_us(self) -> dates.Micros:
        """First moment of each item, microseconds since 1970 UTC."""
        return self._times[0]

    @property
    def end_us(self) -> dates.Micros:
        """Last moment of each item (included), microseconds since 1970 UTC."""
        return self._times[1]

    @functools.cached_property
    def content_hash(self) -> str:
        """Hash of ids, times, hrefs and headers in their order: the same in every process, copy and folder."""
        if self._view.rows is None and self._root.content_hash:
            return self._root.content_hash
        return contents.content_hash(self._root, self._view.rows)

    # -- one file ---------------------------------------------------------------------------------------------------

    def source(self, row: int, band: str) -> Source:
        """Where the pixels of one band of one row are, with the parsed header.

        Raises:
            BandNotFoundError: no such band in the collection, or none in this row.
            InputError: the row has no header, or a file of several samples and no `band_index`.
            TiffError, StoreError: the file could not be read when the index was built.
        """
        if not 0 <= row < self.count:
            raise InputError(f"row {row} of a collection of {self.count} items")
        return self._cached_source(row, band)

    def _read_source(self, row: int, band: str) -> Source:
        item, href, sample = self._asset(row, band)
        header, single = self._header(row, band, item)
        samples = header.image.samples
        if sample is None and samples > 1:
            raise InputError(
                f"band {band!r} of item {item!r} lies in a file of {samples} samples and the index has no band_index "
                "for it; name the sample of each band with band_index_map (or bands=) when building"
            )
        number = 0 if sample is None or single else sample
        if not 0 <= number < samples:
            raise InputError(f"band {band!r} of item {item!r} is sample {sample} of a file that has {samples}")
        return Source(item, band, href, number, header)

    def _check(self, band: str) -> None:
        if band not in self.bands:
            raise BandNotFoundError(f"no band {band!r} in this collection; it has {list(self.bands)}")

    def _of_band(self, band: str) -> HeaderColumn:
        self._check(band)
        if band not in self._headers:
            raise InputError(f"this collection has no headers of band {band!r}; build it with enrich_cog=True")
        return self._headers[band]

    def _asset(self, row: int, band: str) -> tuple[str, str, int | None]:
        self._check(band)
        place = self._view.root_row(row)
        item = str(self._root_ids[place].as_py())
        hrefs, samples = self._assets.get(band, (None, None))
        href = None if hrefs is None else hrefs[place].as_py()
        if href is None:
            raise BandNotFoundError(
                f"item {item!r} has no band {band!r}; take the items that have it: "
                f"where(pyarrow.compute.field('assets', {band!r}).is_valid())"
            )
        return item, href, None if samples is None else samples[place].as_py()

    @functools.cached_property
    def _root_ids(self) -> pa.ChunkedArray:
        return self._root.column("id")

    @functools.cached_property
    def _assets(self) -> dict[str, tuple[pa.ChunkedArray, pa.ChunkedArray | None]]:
        """By band the hrefs and samples of all rows of the root: nothing is copied."""
        column = self._root.column("assets")
        found = {}
        for field in column.type:
            asset = pc.struct_field(column, field.name)
            if asset.type.get_field_index("href") < 0:
                continue
            indexed = asset.type.get_field_index("band_index") >= 0
            found[field.name] = (
                pc.struct_field(asset, "href"),
                pc.struct_field(asset, "band_index") if indexed else None,
            )
        return found

    def has_asset(self, band: str) -> NDArray[np.bool_]:
        """[N] whether each row names a file for the band, read or not."""
        hrefs, _ = self._assets.get(band, (None, None))
        if hrefs is None:
            return np.zeros(self.count, bool)
        named: NDArray[np.bool_] = pc.is_valid(hrefs).to_numpy()
        return self._view.part(named)

    def _header(self, row: int, band: str, item: str) -> tuple[TiffHeader, bool]:
        """The header, and whether its tile table is of this band alone (a rasteret row of a planar file)."""
        chunk, place = self._of_band(band).at(self._view.root_row(row))
        try:
            if chunk.alike is not None:
                return chunk.alike.header(place), False
            record = chunk.record(place)
        except IndexCorruptError as error:
            raise IndexCorruptError(f"item {item!r}, band {band!r}: {error}") from error
        except (OverflowError, UnicodeDecodeError) as error:
            raise IndexCorruptError(f"item {item!r}, band {band!r}: its header is damaged ({error})") from error
        if record is None:
            raise InputError(f"item {item!r} has no header of band {band!r}; build the index with enrich_cog=True")
        if record.get("error"):
            raise _stored_error(record["error"], item, band)
        try:
            header = header_of(record, chunk.tables(place))
            single = is_single_plane(header.image)
            if single:
                header = one_plane(header)
            if header.crs is None and record.get("bits_per_sample") is None:
                header = replace(header, crs=self.row_crs[row].as_py())
            check_header(header)
        except RasteretTorchError as error:
            raise type(error)(f"item {item!r}, band {band!r}: {error}") from error
        return header, single

    def dtypes(self, rows: Sequence[int], band: str) -> set[np.dtype[Any]]:
        """The dtypes that a band has in some rows; rows without a header, or with a damaged one, add none."""
        headers = self._headers.get(band)
        if headers is None:
            return set()
        places = np.asarray(rows, np.int64)
        return headers.dtypes(places if self._view.rows is None else self._view.rows[places])

    # -- places -----------------------------------------------------------------------------------------------------

    def grid(self, row: int, band: str) -> Grid:
        """The pixel grid of a file.

        Raises:
            NotGeoreferencedError: the file has no place.
        """
        source = self.source(row, band)
        header = source.header
        if header.transform is None:
            raise NotGeoreferencedError(
                f"item {source.item_id!r}, band {band!r}: {source.href} has no affine georeferencing; "
                "read it by pixels with read_tiff"
            )
        crs = None if header.crs is None else parse_crs(header.crs)
        return Grid(header.transform, (header.image.height, header.image.width), crs)

    def grids(self, band: str) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int32]]:
        """(transforms [N, 6] as a, b, c, d, e, f; shapes [N, 2] as rows, cols; crs_ids [N] into `crs_list`).

        Rows without a header, or without georeferencing, have nan, 0 and -1.
        """
        headers = self._of_band(band)
        return self._view.part(headers.transforms), self._view.part(headers.shapes), self._crs[1][band]

    @property
    def crs_list(self) -> list[CRS]:
        """The CRSs that `crs_ids` number."""
        return self._crs[0]

    @functools.cached_property
    def row_crs(self) -> pa.ChunkedArray:
        """The CRS that each row states for its files, see `places.row_crs`."""
        return places.row_crs(self._light(*places.CRS_COLUMNS), self.count)

    @functools.cached_property
    def _crs(self) -> tuple[list[CRS], dict[str, NDArray[np.int32]]]:
        per_band: dict[str, pa.ChunkedArray] = {}
        for band, headers in self._headers.items():
            column = headers.field("crs")
            labels = self.row_crs if column is None else self._view.taken(column)
            per_band[band] = pc.coalesce(labels, self.row_crs) if labels.null_count else labels
        return places.numbered(per_band)

    def bounds(self, crs: CRS | None = None, band: str | Sequence[str] | None = None) -> NDArray[np.float64]:
        """[N, 4] (xmin, ymin, xmax, ymax) of the outer pixel edges of each item's files.

        Args:
            crs: the CRS of the result, the edges densified; default each item's own (that of its first band).
            band: of which band or bands; default all.

        Returns:
            nan for items without a place; xmin > xmax where a geographic box crosses the antimeridian.
        """
        names = tuple(self._headers) if band is None else (band,) if isinstance(band, str) else tuple(band)
        target = None if crs is None else parse_crs(crs)
        key = "" if target is None else wkt_of(target), names
        if key not in self._known_bounds:
            grids = [self.grids(name) for name in names]
            if target is not None and self._all_lie_in(target, grids):
                bounds = self.bounds(None, names)
            else:
                bounds = places.bounds_of_grids(grids, self.crs_list, target, self.count)
                bounds.flags.writeable = False
            self._known_bounds[key] = bounds
        return self._known_bounds[key]

    def _all_lie_in(self, crs: CRS, grids: Sequence[places.Grids]) -> bool:
        """Whether that is the CRS of them all."""
        alike = self.crs_list and self.count and all((ids == 0).all() for *_, ids in grids)
        return bool(alike and same_crs(self.crs_list[0], crs))

    def res(self, band: str) -> tuple[float, float]:
        """Pixel size (x, y) of the first row that has the band, in units of its CRS.

        Raises:
            InputError: no row has it.
        """
        transforms = self.grids(band)[0]
        known = np.flatnonzero(~np.isnan(transforms).any(axis=1))
        if not len(known):
            raise InputError(f"no item has a georeferenced header of band {band!r}")
        return Grid(Affine(*transforms[known[0]]), (1, 1)).res

    def find(self, bbox: Bounds | None = None, date_range: object = None, crs: object = None) -> mapped.Rows:
        """Row numbers whose box touches `bbox` and whose time touches `date_range`, ascending.

        Args:
            bbox: in `crs`; without `crs`, lon/lat boxes (CRS84).
            date_range: (start, end), a date-only end includes that day.
            crs: compares exact grid bounds in this CRS.
        """
        if bbox is None:
            return np.arange(self.count) if date_range is None else self._calendar.touching(*dates.range_of(date_range))
        box = query.lonlat_of(bbox) if crs is None else query.bounds_of(bbox)
        if box[0] > box[2] and crs is not None and not parse_crs(crs).is_geographic:
            raise InputError(f"box {box} has xmin > xmax, which only longitudes may have; swap them")
        rows = self._tree(crs).touching(box) if crs is None else self._around(box, parse_crs(crs))
        if date_range is None:
            return rows
        start, end = dates.range_of(date_range)
        return rows[(self.start_us[rows] <= end) & (self.end_us[rows] >= start)]

    def _around(self, box: Bounds, crs: CRS) -> mapped.Rows:
        """Rows whose grids touch a box in a CRS, however either counts longitudes."""
        west, south, east, north = box if box[0] <= box[2] else (box[0], box[1], box[2] + 360.0, box[3])
        tree = self._tree(crs)
        turns = turns_of(crs, min(west, tree.reach[0]), max(east, tree.reach[1]))
        found = [tree.touching((west + turn, south, east + turn, north)) for turn in turns]
        return found[0] if len(found) == 1 else np.unique(np.concatenate(found))

    @functools.cached_property
    def _calendar(self) -> places.TimeIndex:
        return places.TimeIndex(self.start_us, self.end_us)

    def _tree(self, crs: object) -> boxes.BoxIndex:
        key = "" if crs is None else wkt_of(parse_crs(crs))
        if key not in self._trees:
            every = query.bbox_columns(self._light("bbox")) if crs is None else self.bounds(parse_crs(crs))
            self._trees[key] = boxes.BoxIndex(every)
        return self._trees[key]


def _stored_error(text: str, item: str, band: str) -> RasteretTorchError:
    name, _, sentence = text.partition(": ")
    kind = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, RasteretTorchError)):
        kind, sentence = errors.TiffError, text
    return kind(
        f"item {item!r}, band {band!r} could not be indexed: {sentence.rstrip('.')}; build the index again, or leave "
        "such items out: collection.where(pyarrow.compute.field('status') == 'ok')"
    )
