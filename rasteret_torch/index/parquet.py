"""Parquet (ours, rasteret's, any with the columns of a collection) into the rows of a collection."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyarrow.fs import LocalFileSystem

from rasteret_torch.errors import DatasetNotFoundError, IndexCorruptError, InputError, RasteretTorchError
from rasteret_torch.index import canonical, geometries, locate, mapped, pruning, snapshot, trust
from rasteret_torch.index import schema as s
from rasteret_torch.index.arrow import empty_table, in_types, with_all_columns
from rasteret_torch.index.deferred import StoredLayer
from rasteret_torch.index.remote import Remote, hub_errors, remote
from rasteret_torch.store.location import is_local

_IN_MEMORY_NBYTES = 128 << 20  # decoded; a larger table is written to an Arrow file batch by batch, and mapped
DEFERRED_NBYTES = 8 << 20  # on disk; of a larger collection of ours only what is asked for is read
FOREIGN_NBYTES = 64 << 20  # the same of one of other makers
_TRIES = 50
_GROUP_NBYTES = 512 << 20  # decoded; what is read at once of a deferred collection
_READ = ds.ParquetFileFormat(default_fragment_scan_options=ds.ParquetFragmentScanOptions(pre_buffer=True))
# From elsewhere, where a file is not hashed before it is read, its pages are checked as they come.
_READ_REMOTE = ds.ParquetFileFormat(
    default_fragment_scan_options=ds.ParquetFragmentScanOptions(pre_buffer=True, page_checksum_verification=True)
)

Place = Path | Remote


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows are read, and which files of this machine they may name.

    Attributes:
        bbox, date_range: as in `pruning.condition`; row groups without such rows are not read.
        root: as in `trust.trust_of`.
    """

    bbox: Any = None
    date_range: Any = None
    root: trust.Roots = None

    @property
    def is_all(self) -> bool:
        """Whether every row is wanted."""
        return self.bbox is None and self.date_range is None


@dataclass(frozen=True, slots=True)
class Stored:
    """What lies at a place.

    Attributes:
        layer: the rows, in our types, with absolute hrefs.
        schema: as stored, with its metadata.
        manifest: of a collection of ours, else None.
    """

    layer: mapped.Columns
    schema: pa.Schema
    manifest: snapshot.Manifest | None

    @property
    def is_checked(self) -> bool:
        """Whether ids were looked at when it was written."""
        return self.manifest is not None and not isinstance(self.layer, mapped.Layer)


@dataclass(frozen=True, slots=True)
class Local:
    """Makes the hrefs of a batch absolute and checks that the index may name them.

    Attributes:
        folder: path or URL that relative hrefs belong to.
        trust: what hrefs are checked against.
    """

    folder: Path | str
    trust: trust.Trust

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch with absolute hrefs."""
        batch = locate.resolved(canonical.with_assets(batch), self.folder)
        self.trust.check(batch)
        return batch


@dataclass(frozen=True, slots=True)
class Opened:
    """A dataset before its rows are read.

    Attributes:
        dataset: of Parquet files.
        condition: of the rows.
        local: for their hrefs.
    """

    dataset: ds.FileSystemDataset
    condition: pc.Expression | None
    local: Local


def read(place: Place, wanted: Wanted = Wanted(), folder: str | None = None) -> Stored:
    """Reads a file or folder of Parquet; again where it is replaced meanwhile, so that all is of one writing.

    Raises:
        DatasetNotFoundError: a folder without Parquet, or nothing behind a URL.
        IndexCorruptError: files are missing, resized or damaged; SchemaVersionError for a newer format.
        InputError: not the columns of a collection.
        UntrustedUriError: hrefs that an index from elsewhere may not name.
        StoreError: a URL that cannot be read.
    """
    for _ in range(_TRIES):
        before = _written(place)
        try:
            stored = _read(place, wanted, folder)
        except IndexCorruptError:
            if _written(place) == before:
                raise
        else:
            if _written(place) == before:
                return stored
    raise IndexCorruptError(f"{place} is being written again and again; load it when its builders have finished")


def _written(place: Place) -> tuple[int, int] | None:
    return snapshot.writing(place) if isinstance(place, Path) else None


def _read(place: Place, wanted: Wanted, folder: str | None) -> Stored:
    with hub_errors(place):
        manifest = _manifest(place)
        dataset = _dataset(place, manifest)
        try:
            canonical.check_required(dataset.schema, str(place))
        except UnicodeDecodeError as error:
            raise IndexCorruptError(f"{place} has damaged column names ({error})") from error
        s.read_stamp(dataset.schema)
        condition = pruning.condition(dataset.schema, wanted.bbox, wanted.date_range)
        base = _base(place, manifest)
        opened = Opened(dataset, condition, Local(base, _trust(place, base, manifest, wanted.root)))
        layer = _deferred(opened, place, manifest, folder) or _layer(opened)
    if manifest is not None and wanted.is_all and layer.num_rows != manifest.rows:
        raise IndexCorruptError(f"{place} has {layer.num_rows} rows, its manifest {manifest.rows}; build it again")
    return Stored(layer, dataset.schema, manifest)


def open_root(recipe: mapped.Recipe) -> mapped.Root:
    """The rows of a recipe; every process opens them once.

    Where the process that wrote the Arrow files has ended, a pickle still works as long as the collection does.

    Raises:
        IndexCorruptError: neither is there.
    """
    known = mapped.known_root(recipe.token)
    if known is not None:
        return known
    first, *added = recipe.layers
    if isinstance(first, mapped.StoredRecipe):
        base = reopen(first.path, first.content_hash, first.folder)
    elif recipe.origin is not None and not os.path.exists(first):
        base = reopen(*recipe.origin)
    else:
        base = mapped.Layer.mapped(first)
    return mapped.Root([base, *(mapped.Layer.mapped(str(path)) for path in added)], recipe.token, recipe.origin)


def reopen(path: str, content_hash: str, folder: str | None = None) -> mapped.Columns:
    """The rows of a saved collection that a recipe names.

    Args:
        path: of the collection.
        content_hash: it must still have.
        folder: of shared Arrow files, see `mapped.StoredRecipe`.

    Raises:
        IndexCorruptError: the collection is gone, or holds other rows now.
    """
    place: Place = Path(path) if is_local(path) else remote(path)
    # A recipe comes from a process of this user, which has checked the collection; the hash says that it is the same.
    gone = isinstance(place, Path) and not place.exists()
    stored = None if gone else read(place, Wanted(root="/"), folder)
    if stored is None or _version(place, stored.manifest) != content_hash:
        raise IndexCorruptError(
            f"the collection at {place} is gone, or holds other rows than when it was pickled; load it"
        )
    return stored.layer


def _manifest(place: Place) -> snapshot.Manifest | None:
    if isinstance(place, Path):
        return snapshot.read_manifest(place)
    text = None if place.path.partition("?")[0].endswith(".parquet") else place.text(snapshot.MANIFEST)
    manifest = None if text is None else snapshot.parse_manifest(text, str(place))
    for part in () if manifest is None else manifest.files:
        found = place.filesystem.get_file_info([place.child(part.name)])[0].size
        if found != part.nbytes:
            raise IndexCorruptError(
                f"{place}/{part.name} has {found} bytes, the manifest says {part.nbytes}; upload the collection again"
            )
    return manifest


def _base(place: Place, manifest: snapshot.Manifest | None) -> Path | str:
    """What relative hrefs belong to."""
    if isinstance(place, Path):
        return place if place.is_dir() else place.parent
    is_folder = manifest is not None or place.is_dir()
    return place.base if is_folder else place.base.partition("?")[0].rpartition("/")[0]


def _trust(place: Place, base: Path | str, manifest: snapshot.Manifest | None, root: trust.Roots) -> trust.Trust:
    def is_own() -> bool:
        if manifest is None or not isinstance(place, Path):
            return False
        sealed = trust.is_sealed([part.sha256 for part in manifest.files], manifest.seal)
        return sealed and snapshot.is_whole(place, manifest)

    return trust.trust_of(str(place), base if isinstance(base, Path) else None, is_own, root)


def _dataset(place: Place, manifest: snapshot.Manifest | None) -> ds.FileSystemDataset:
    inside = sorted(place.glob(f"*/{snapshot.MANIFEST}")) if manifest is None and isinstance(place, Path) else []
    if inside:
        names = ", ".join(found.parent.name for found in inside[:5])
        raise DatasetNotFoundError(f"{place} is no collection but a folder of collections ({names}); name one of them")
    try:
        if isinstance(place, Path):
            where, filesystem, form = str(place), None, _READ
        else:
            where, filesystem, form = place.path, place.filesystem, _READ_REMOTE
        files = where if manifest is None else [f"{where}/{part.name}" for part in manifest.files]
        hive = "hive" if manifest is None and place.is_dir() else None
        dataset = ds.dataset(files, filesystem=filesystem, format=form, partitioning=hive)
        dataset = dataset if manifest is not None else with_all_columns(dataset)
    except RasteretTorchError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(place, error) from error
    if not dataset.files:
        raise DatasetNotFoundError(f"{place} holds no Parquet files; check the path")
    return dataset


def _unreadable(place: Place, error: Exception) -> RasteretTorchError:
    """A folder of images, or an image, is what is named in place of an index of it."""
    inside = place.iterdir() if isinstance(place, Path) and place.is_dir() else [place]
    kinds = {str(one).lower().rpartition(".")[2] for one in inside}
    if kinds & {"tif", "tiff"} and "parquet" not in kinds:
        return InputError(f"{place} is no collection, but what one is made of; build one with build_from_files")
    return IndexCorruptError(f"{place} is not readable as Parquet ({error})")


def _deferred(
    opened: Opened, place: Place, manifest: snapshot.Manifest | None, folder: str | None
) -> StoredLayer | None:
    """The layer of a large saved collection, of which nothing is read yet; None for all others."""
    if opened.condition is not None or not isinstance(place, Path):
        return None
    files = [Path(file) for file in opened.dataset.files]
    is_small = sum(file.stat().st_size for file in files) <= (FOREIGN_NBYTES if manifest is None else DEFERRED_NBYTES)
    if is_small or (manifest is None and not _is_like_ours(opened.dataset)):
        return None
    return StoredLayer(files, (str(place), _version(place, manifest)), opened.local, mapped.Shared(folder))


def _is_like_ours(dataset: ds.FileSystemDataset) -> bool:
    """Whether each column of a table of other makers can be read by itself, and row group by row group."""
    stored = dataset.schema
    plain = canonical.canonical(empty_table(stored)).schema.names == stored.names
    if not plain or not geometries.is_lonlat(stored) or not any(map(s.is_header_field, stored)):
        return False
    parts = list(dataset.get_fragments())
    same = all(part.physical_schema.equals(stored) for part in parts)  # no column comes from the name of a folder
    return same and all(group.total_byte_size <= _GROUP_NBYTES for part in parts for group in part.row_groups)


def _version(place: Place, manifest: snapshot.Manifest | None) -> str:
    """What tells the rows at a place from others: the hash of a manifest, else the stamps of local files."""
    if manifest is not None or not isinstance(place, Path):
        return "" if manifest is None else manifest.content_hash
    files = sorted(place.rglob("*.parquet")) if place.is_dir() else [place]
    stamps = [(file.name, status.st_size, status.st_mtime_ns) for file in files for status in [file.stat()]]
    return f"files:{snapshot.fingerprint({'files': stamps})}"


def _pruned(dataset: ds.FileSystemDataset, condition: pc.Expression | None) -> ds.FileSystemDataset:
    """The row groups that hold rows of a condition, by its columns: statistics know nothing of the antimeridian.

    Files elsewhere are left to their statistics, since each look at them is a request.
    """
    if condition is None or not isinstance(dataset.filesystem, LocalFileSystem):
        return dataset
    names = [name for name in ("bbox", *s.TIMES, "year") if name in dataset.schema.names]
    kept = [
        group
        for part in dataset.get_fragments(filter=condition)
        for group in part.split_by_row_group(condition, schema=dataset.schema)
        if group.to_table(dataset.schema, columns=names, filter=condition).num_rows
    ]
    return ds.FileSystemDataset(kept, dataset.schema, dataset.format, dataset.filesystem)


def _layer(opened: Opened) -> mapped.Layer:
    try:
        dataset = _pruned(opened.dataset, opened.condition)
        nbytes = sum(group.total_byte_size for part in dataset.get_fragments() for group in part.row_groups)
        if nbytes > _IN_MEMORY_NBYTES:
            return streamed(dataset.to_batches(filter=opened.condition), dataset.schema, opened.local)
        batches = [opened.local(batch) for batch in dataset.to_table(filter=opened.condition).to_batches()]
        schema = batches[0].schema if batches else dataset.schema
        return mapped.Layer(canonical.canonical(pa.Table.from_batches(batches, schema)))
    except RasteretTorchError:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise IndexCorruptError(f"{opened.local.trust.where} is damaged ({error}); build or copy it again") from error


def streamed(batches: Iterable[pa.RecordBatch], schema: pa.Schema, local: Local | None = None) -> mapped.Layer:
    """Batches in our types, written to an Arrow file as they come and mapped from it."""
    wanted = canonical.canonical(empty_table(schema)).schema

    def converted() -> Iterator[pa.RecordBatch]:
        for batch in batches:
            table = canonical.canonical(pa.Table.from_batches([batch if local is None else local(batch)]))
            yield from in_types(table, wanted).to_batches(max_chunksize=mapped.CHUNK_ROWS)

    return mapped.Layer.streamed(wanted, converted())
