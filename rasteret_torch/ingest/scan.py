"""The rows of any table in batches, and what tells this table from another when it is built again."""

from __future__ import annotations

import functools
import glob
import pickle
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyarrow.fs import FileSystem

from rasteret_torch.errors import DatasetNotFoundError, IndexCorruptError, InputError, RasteretTorchError
from rasteret_torch.index import canonical, locate, snapshot, table_of
from rasteret_torch.index.arrow import with_all_columns
from rasteret_torch.index.remote import hub_errors, remote
from rasteret_torch.ingest.names import matching
from rasteret_torch.ingest.normalize import Shape
from rasteret_torch.store import StorageBackend, is_local, local_path

BATCH_ROWS = 8192
Description = Callable[[], Any]  # of a table, as a build input: large ones take time to look at


@dataclass(frozen=True, slots=True)
class Choice:
    """Which part of a table is taken.

    Attributes:
        columns: their names; None for all.
        condition: of the rows; None for all.
    """

    columns: tuple[str, ...] | None
    condition: pc.Expression | None

    @property
    def fingerprint(self) -> tuple[Any, ...]:
        """As a build input. The text of an expression leaves out the middle of long lists, its pickle nothing."""
        return self.columns, None if self.condition is None else snapshot.digest(pickle.dumps(self.condition))


def batches_of(
    source: Any, where: tuple[FileSystem | None, StorageBackend | None], choice: Choice, shape: Shape
) -> tuple[Iterable[pa.RecordBatch], Description]:
    """The rows to index in batches, and what makes a description that tells this table from another.

    Args:
        source: as the first argument of `build_from_table`.
        where: file system and backend by which a path or URL is read.
        choice: of rows and columns.
        shape: says which columns a collection needs.

    Raises:
        InputError: columns or a filter that do not fit, or no table.
        DatasetNotFoundError, IndexCorruptError: nothing there, or nothing that is Parquet.
    """
    names = None if choice.columns is None else list(choice.columns)
    if isinstance(source, pa.RecordBatchReader):
        _check_columns(names, source.schema.names, shape)
        with _fitting(source.schema.names):
            scanner = ds.Scanner.from_batches(source, columns=names, filter=choice.condition)
        return _rechunked(scanner), _unlike_any
    described: Description
    folder: Path | None = None
    if isinstance(source, str | Path) or _are_paths(source):
        dataset, described = _open(source, *where)
        folder = _own_folder(source)
    elif isinstance(source, ds.Dataset):
        is_stamped = isinstance(source, ds.FileSystemDataset)
        dataset, described = source, functools.partial(_stamps, source) if is_stamped else _unlike_any
    else:
        if _are_stac_items(source):
            raise InputError(
                "these are STAC items, not rows of a table; save them as one JSON file "
                "(pystac.ItemCollection(items).save_object(path)) and pass its path to build_from_stac(stac_api=...)"
            )
        table = table_of(source)
        dataset = ds.dataset(table)
        described = functools.partial(_content, table)
    _check_columns(names, dataset.schema.names, shape)
    with _fitting(dataset.schema.names):
        scanner = dataset.scanner(columns=names, filter=choice.condition, batch_size=BATCH_ROWS)
    batches = _with_asset_structs(_rechunked(scanner, dataset.schema.metadata), dataset, choice, shape)
    return batches if folder is None else (locate.resolved(batch, folder) for batch in batches), described


def _with_asset_structs(
    batches: Iterator[pa.RecordBatch], dataset: ds.Dataset, choice: Choice, shape: Shape
) -> Iterator[pa.RecordBatch]:
    """Assets that are maps, each row with keys of its own, as structs of the keys of all rows."""
    name = next((source for source, target in shape.column_map.items() if target == "assets"), "assets")
    if shape.href_column is not None or name not in dataset.schema.names:
        return batches
    if not pa.types.is_map(dataset.schema.field(name).type):
        return batches
    some = dataset.scanner(columns=[name], filter=choice.condition, batch_size=BATCH_ROWS).to_batches()
    keys = list(dict.fromkeys(key for batch in some for key in batch.column(0).keys.unique().to_pylist()))
    return (_structured(batch, name, keys) for batch in batches)


def _structured(batch: pa.RecordBatch, name: str, keys: Sequence[str]) -> pa.RecordBatch:
    structs = canonical.map_to_struct(batch.column(name), keys)
    return batch.set_column(batch.schema.get_field_index(name), name, structs)


@contextmanager
def _fitting(names: Sequence[str]) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, KeyError, TypeError) as error:
        raise InputError(
            f"columns or filter_expr do not fit the table, which has {names}: {str(error).partition(' in ')[0]}"
        ) from error


def _own_folder(source: Any) -> Path | None:
    """The folder of a saved collection, which its relative hrefs belong to; None for tables of other makers."""
    if not isinstance(source, str | Path) or not is_local(str(source)):
        return None
    path = locate.absolute(local_path(str(source)))
    return path if (path / snapshot.MANIFEST).is_file() else None


def _check_columns(names: Sequence[str] | None, present: Sequence[str], shape: Shape) -> None:
    """Refuses a choice of columns that leaves out some of those that a collection is made of.

    Raises:
        InputError: naming them.
    """
    if names is None or not set(names) <= set(present):
        return
    mapped = {target: source for source, target in shape.column_map.items()}
    href = shape.href_column or mapped.get("assets", "assets")
    hrefs = [href] if href in present else [href.partition(".")[0]]
    times = [mapped.get(name, name) for name in ("datetime", "start_datetime")]
    enough = [[one for one in some if one in present] for some in ([mapped.get("id", "id")], times, hrefs)]
    lacking = [some[0] for some in enough if some and not set(some) & set(names)]
    if lacking:
        raise InputError(
            f"columns={list(names)} leaves out {lacking}, which a collection is made of; add them: "
            f"columns={[*lacking, *names]}"
        )


def _are_paths(source: Any) -> bool:
    return isinstance(source, Sequence) and bool(source) and all(isinstance(one, str | Path) for one in source)


def _are_stac_items(source: Any) -> bool:
    """Items, or a list of them, as pystac's objects or as JSON."""
    first = source[0] if isinstance(source, list | tuple) and source else source
    if isinstance(first, Mapping):
        return isinstance(first.get("properties"), Mapping) or isinstance(first.get("features"), list | tuple)
    return type(first).__module__.partition(".")[0] in ("pystac", "pystac_client")


def _rechunked(scanner: ds.Scanner, metadata: Mapping[bytes, bytes] | None = None) -> Iterator[pa.RecordBatch]:
    """Batches of a bounded size, with what the schema of their table says (GeoParquet's CRS)."""
    batches = scanner.to_batches()
    while True:
        try:
            batch = next(batches, None)
        except RasteretTorchError:
            raise
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise IndexCorruptError(
                f"the table cannot be read on ({str(error)[:300]}); its files may be damaged, or not of one schema"
            ) from error
        if batch is None:
            return
        if metadata and not batch.schema.metadata:
            batch = batch.replace_schema_metadata(metadata)
        for start in range(0, batch.num_rows, BATCH_ROWS):
            yield batch.slice(start, BATCH_ROWS)


def _open(source: Any, filesystem: FileSystem | None, backend: StorageBackend | None) -> tuple[ds.Dataset, Description]:
    """A dataset of a path or URL, a glob or a list of paths; and what makes the stamps of its files."""
    if not isinstance(source, str | Path):
        many = [str(one) for one in source]
        is_here = filesystem is None and all(is_local(one) for one in many)
        return _dataset([str(locate.absolute(local_path(one))) for one in many] if is_here else many, filesystem)
    text = str(source)
    if filesystem is not None:
        return _dataset(text, filesystem)
    if is_local(text):
        return _dataset(_found(text), None)
    place = remote(text, backend)
    with hub_errors(place):
        place.is_dir()  # says what is wrong with the URL
    return _dataset(place.path, place.filesystem)


def _found(text: str) -> str | list[str]:
    """The path of a table on this machine, or those that a glob names."""
    local = locate.absolute(local_path(text))
    if local.exists():
        return str(local)
    if not glob.has_magic(text):
        raise DatasetNotFoundError(f"there is no table at {text!r}; check the path")
    found = matching(local)
    if not found:
        raise DatasetNotFoundError(f"there is no table that fits {text!r}; check the path")
    return found


def _dataset(place: str | list[str], filesystem: FileSystem | None) -> tuple[ds.Dataset, Description]:
    shown = place if isinstance(place, str) else ", ".join(place[:3])
    try:
        dataset = with_all_columns(ds.dataset(place, filesystem=filesystem, format="parquet", partitioning="hive"))
    except RasteretTorchError:
        raise
    except FileNotFoundError as error:
        raise DatasetNotFoundError(f"there is no table at {str(error)[:200]}; check the path") from error
    except (pa.ArrowException, OSError) as error:
        raise IndexCorruptError(
            f"{shown} is not readable as Parquet ({str(error)[:200]}); tables of other formats can be passed as a "
            "DataFrame, an Arrow table or a dataset"
        ) from error
    if not dataset.files:
        raise DatasetNotFoundError(f"{shown} holds no Parquet files; check the path")
    return dataset, functools.partial(_stamps, dataset)


def _stamps(dataset: ds.FileSystemDataset) -> list[tuple[Any, ...]]:
    """Name, size and modification time of each file."""
    infos = dataset.filesystem.get_file_info(list(dataset.files))
    return [(info.path, info.size, info.mtime_ns) for info in infos]


def _unlike_any() -> str:
    """Stands for rows that can be read only once: a collection built of them is never taken for this one."""
    return uuid.uuid4().hex


def _content(table: pa.Table) -> str:
    """Hash of the rows of a table in memory, as a build input."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return snapshot.digest(sink.getvalue())
