"""Parquet behind URLs: https, buckets and the Hugging Face hub as filesystems that pyarrow reads by ranges."""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import pyarrow as pa
from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileSystemHandler, FileType, PyFileSystem

from rasteret_torch.errors import DatasetNotFoundError, InputError, MissingDependencyError, ObjectNotFoundError
from rasteret_torch.store import StorageBackend, is_local, redact
from rasteret_torch.store.fetch_files import list_below, read_span, stat
from rasteret_torch.store.location import HTTP_SCHEMES, parse, scheme_of

HUB_SCHEME = "hf"


@dataclass(frozen=True, slots=True)
class Remote:
    """A file or folder behind a URL.

    Attributes:
        uri: as the user wrote it, without a slash at the end.
        filesystem: reads it.
        path: of it in the filesystem.
        base: URL under which the files beside it are read; relative hrefs of an index belong to it.
    """

    uri: str
    filesystem: FileSystem
    path: str
    base: str

    def __str__(self) -> str:
        return redact(self.uri)

    def child(self, name: str) -> str:
        """Path of a file below it."""
        return f"{self.path}/{name}"

    @property
    def stem(self) -> str:
        """The last part of the URL, without query and suffix."""
        return self.path.rpartition("/")[2].partition("?")[0].removesuffix(".parquet")

    def is_dir(self) -> bool:
        """Whether it is a folder, not one file.

        Raises:
            DatasetNotFoundError: there is nothing.
        """
        kind = self.filesystem.get_file_info([self.path])[0].type
        if kind == FileType.NotFound:
            raise DatasetNotFoundError(f"there is nothing at {self}; check the URL")
        return bool(kind != FileType.File)

    def text(self, name: str) -> str | None:
        """The text of a small file below it; None where there is none."""
        try:
            with self.filesystem.open_input_file(self.child(name)) as file:
                return str(file.read().decode("utf-8"))
        except FileNotFoundError:
            return None


def is_remote(path: object) -> bool:
    """Whether a path is a URL of something other than this machine's files."""
    return isinstance(path, str) and not is_local(path)


def remote(uri: str, backend: StorageBackend | None = None) -> Remote:
    """The place behind a URL: https, s3, gs, az, or `hf://datasets/owner/name/…`.

    Raises:
        UntrustedUriError: another scheme.
        MissingDependencyError: `hf://` without huggingface_hub.
    """
    uri = uri if uri.endswith("://") else uri.rstrip("/")
    if scheme_of(uri) == HUB_SCHEME:
        filesystem, path, base = _hub(uri)
        return Remote(uri, PyFileSystem(filesystem), path, base)
    parse(uri)
    return Remote(uri, PyFileSystem(ObjectFiles(backend)), _path(uri), uri)


@contextlib.contextmanager
def hub_errors(place: object) -> Iterator[None]:
    """What the hub's client raises, as errors of ours; nothing where no hub is involved."""
    if not (isinstance(place, Remote) and scheme_of(place.uri) == HUB_SCHEME):
        yield
        return
    with importlib.import_module("rasteret_torch.index.hub").translated(place.uri):
        yield


def _hub(uri: str) -> Any:
    try:
        hub = importlib.import_module("rasteret_torch.index.hub")
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"{uri} needs {error.name}; install rasteret-torch[hub], or load the file by its https URL (…/resolve/…)"
        ) from error
    return hub.opened(uri)


def _path(uri: str) -> str:
    return uri.replace("://", "/", 1)


def _uri(path: str) -> str:
    return path.replace("/", "://", 1)


class ObjectFiles(FileSystemHandler):  # type: ignore[misc]
    """Objects behind URLs, read by ranges through the fetch layer: its deadlines, attempts and checks hold."""

    def __init__(self, backend: StorageBackend | None = None) -> None:
        self._backend = backend

    def get_type_name(self) -> str:
        """For messages of pyarrow."""
        return "objects"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectFiles) and self._backend is other._backend

    __hash__ = None  # type: ignore[assignment]

    def normalize_path(self, path: str) -> str:
        """Paths are URLs whose scheme is the first folder."""
        return path

    def get_file_info(self, paths: Sequence[str]) -> list[FileInfo]:
        """File, directory or nothing, with sizes."""
        return [self._info(path) for path in paths]

    def _info(self, path: str) -> FileInfo:
        try:
            return FileInfo(path, FileType.File, size=stat(_uri(path), self._backend).size)
        except ObjectNotFoundError:
            if scheme_of(_uri(path)) in HTTP_SCHEMES or not list_below(_uri(path), self._backend):
                return FileInfo(path, FileType.NotFound)
        return FileInfo(path, FileType.Directory)

    def get_file_info_selector(self, selector: FileSelector) -> list[FileInfo]:
        """The files below a folder; buckets have no folders of their own."""
        found = list_below(_uri(selector.base_dir), self._backend)
        folder = selector.base_dir.rstrip("/")
        return [
            FileInfo(f"{folder}/{one.name}", FileType.File, size=one.nbytes, mtime=one.modified)
            for one in found
            if selector.recursive or "/" not in one.name
        ]

    def open_input_file(self, path: str) -> pa.PythonFile:
        """A file that is read by ranges."""
        return pa.PythonFile(_ObjectFile(_uri(path), self._backend), mode="r")

    open_input_stream = open_input_file

    def _refuse(self, *_: object) -> NoReturn:
        raise InputError("objects behind URLs are read here, never written; save to a local folder and upload it")

    copy_file = create_dir = delete_dir = delete_dir_contents = delete_file = delete_root_dir_contents = _refuse
    move = open_append_stream = open_output_stream = _refuse


class _ObjectFile:
    """The part of a Python file that pyarrow uses."""

    def __init__(self, href: str, backend: StorageBackend | None) -> None:
        self._href, self._backend, self._at = href, backend, 0
        self._stamp = stat(href, backend)
        if self._stamp.size is None:
            raise InputError(f"the backend does not tell the size of {redact(href)}; load it through create_backend")
        self._nbytes: int = self._stamp.size
        self.closed = False

    def read(self, nbytes: int | None = None) -> bytes:
        rest = self._nbytes - self._at
        count = rest if nbytes is None or nbytes < 0 else min(nbytes, rest)
        body = read_span(self._href, self._at, count, self._stamp, self._backend) if count > 0 else b""
        self._at += len(body)
        return body

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._nbytes}[whence]
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        self.closed = True
