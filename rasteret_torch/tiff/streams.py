"""Byte codecs: from the stored bytes of a tile to exactly as many as asked, never one more written."""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable
from typing import Any, cast

import imagecodecs
import numpy as np
from isal import igzip_lib
from numpy.typing import NDArray

from rasteret_torch.errors import CorruptTileError
from rasteret_torch.tiff.support import Compression
from rasteret_torch.tiff.wrapped import decode_old_lzw

Buffer = bytes | memoryview
Bytes = NDArray[np.uint8]

# What the C codecs raise for damaged input: imagecodecs' errors are RuntimeErrors, its argument checks ValueErrors.
CODEC_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    TypeError,
    IndexError,
    OverflowError,
    MemoryError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    cast("type[Exception]", igzip_lib.error),
)
_LZMA_MEMORY = 128 * 2**20  # xz's strongest preset needs 65 MiB
_SLACK = 2**20
_MOST_DISCARDED = 2**26
_MOST_RUNS = 2**21  # counted one by one
DEFLATE_STATE_NBYTES = 86 * 1024  # of memory, that a stream takes which was not inflated to its end


def inflate_bytes(compression: int, data: Buffer, nbytes: int, *, stored_nbytes: int) -> Bytes:
    """Decompresses the first `nbytes` bytes of a stream into a new array, which may be read-only.

    Args:
        compression: tag 259.
        data: the stored bytes; more than the stream needs is ignored, as libtiff does.
        nbytes: wanted.
        stored_nbytes: that the whole stream holds; what lies beyond `nbytes` need not be decompressed, or be there.

    Raises:
        CorruptTileError: the stream is damaged or yields fewer bytes.
    """
    codec = Compression(compression)
    return _checked(codec.name, data, nbytes, lambda: _STREAMS[codec](data, nbytes, stored_nbytes))


def _checked(name: str, data: Buffer, nbytes: int, decode: Callable[[], Bytes]) -> Bytes:
    try:
        out = decode()
    except CODEC_ERRORS as error:
        raise CorruptTileError(f"{name} stream of {len(data)} bytes does not decode to {nbytes}: {error}") from error
    if out.size != nbytes:
        raise CorruptTileError(
            f"{name} stream of {len(data)} bytes ends after {out.size} of {nbytes} bytes; the tile is damaged"
        )
    return out


class DeflateStream:
    """A deflate stream that is inflated in two goes: as far as wanted, and from there to its end."""

    def __init__(self) -> None:
        self._stream = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_ZLIB)

    def start(self, data: Buffer, nbytes: int) -> Bytes:
        """The first `nbytes` bytes; `data` may end where they do.

        Raises:
            CorruptTileError: the stream is damaged or yields fewer bytes.
        """
        return _checked("DEFLATE", data, nbytes, lambda: self._next(data, nbytes))

    def finish(self, data: Buffer, nbytes: int) -> Bytes:
        """The bytes up to the end, of which there must be `nbytes`.

        Args:
            data: the stored bytes from where those of `start` ended.
            nbytes: that are left.

        Raises:
            CorruptTileError: the stream is damaged, or yields fewer or more bytes.
        """
        out = _checked("DEFLATE", data, nbytes, lambda: self._next(data, nbytes + 1))  # on to the checksum
        if not self._stream.eof:
            raise CorruptTileError(f"DEFLATE stream does not end after {nbytes} more bytes")
        return out

    def _next(self, data: Buffer, nbytes: int) -> Bytes:
        return np.frombuffer(self._stream.decompress(data, nbytes), np.uint8)


def _stored(data: Buffer, nbytes: int, stored_nbytes: int) -> Bytes:
    return np.frombuffer(data, np.uint8, count=min(nbytes, len(data))).copy()


def _deflate(data: Buffer, nbytes: int, stored_nbytes: int) -> Bytes:
    """Inflates only as far as wanted. This decompressor takes its room, and frees the interpreter's lock, only once."""
    if nbytes < stored_nbytes:
        return DeflateStream().start(data, nbytes)
    stream = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_ZLIB)
    out = stream.decompress(data, nbytes + 1)  # one more, so that it goes on to the checksum
    if len(out) > nbytes or not stream.eof:
        return _longer_deflate(data, nbytes)
    return np.frombuffer(out, np.uint8)


def _longer_deflate(data: Buffer, nbytes: int) -> Bytes:
    """The start of a stream that holds more than a tile.

    The rest is inflated too, for its checksum: damage makes streams longer as often as shorter.
    """
    stream = zlib.decompressobj()
    prefix = stream.decompress(data, nbytes)
    rest, discarded = stream.unconsumed_tail, 0
    while not stream.eof:
        more = stream.decompress(rest, _SLACK)
        rest, discarded = stream.unconsumed_tail, discarded + len(more)
        if not more and not stream.eof:
            raise CorruptTileError("the stream has no end")
        if discarded > _MOST_DISCARDED:
            raise CorruptTileError(f"the stream holds over {_MOST_DISCARDED} bytes more than the tile")
    return np.frombuffer(prefix, np.uint8)


def _lzw(data: Buffer, nbytes: int, stored_nbytes: int) -> Bytes:
    if len(data) > 1 and data[0] == 0 and data[1] & 1:
        return decode_old_lzw(bytes(data), nbytes)
    return _written(imagecodecs.lzw_decode(data, out=_room(nbytes)))


def _lzma(data: Buffer, nbytes: int, stored_nbytes: int) -> Bytes:
    stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_LZMA_MEMORY)
    return np.frombuffer(stream.decompress(data, nbytes), np.uint8)


def _roomy(
    decode: Callable[..., Any], *, most: int, end: Callable[[Buffer, int], int]
) -> Callable[[Buffer, int, int], Bytes]:
    """A codec that needs room for the whole stream: tried with exactly a tile first, then with some more.

    Args:
        decode: of imagecodecs.
        most: output bytes that one input byte can give.
        end: where the stream ends that gives so many bytes; what follows, which `decode` takes ill, is padding.
    """

    def inflate(data: Buffer, nbytes: int, stored_nbytes: int) -> Bytes:
        try:
            out = decode(data, out=_room(stored_nbytes))
        except RuntimeError:
            room = min(most * len(data), 2 * stored_nbytes + _SLACK)
            out = decode(data[: end(data, nbytes)], out=_room(room))
        return _written(out) if len(out) <= nbytes else _written(out)[:nbytes].copy()

    return inflate


def _zstd_end(data: Buffer, nbytes: int) -> int:
    """Where the first frame ends (RFC 8878, 3.1.1): its header, blocks and checksum."""
    descriptor = data[4]
    is_single = descriptor >> 5 & 1
    at = 6 - is_single + (0, 1, 2, 4)[descriptor & 3] + (is_single, 2, 4, 8)[descriptor >> 6]
    is_last = False
    while at < len(data) and not is_last:
        block = int.from_bytes(data[at : at + 3], "little")
        is_last, is_run = bool(block & 1), block >> 1 & 3 == 1
        at += 3 + (1 if is_run else block >> 3)
    return at + 4 * (descriptor >> 2 & 1)


def _packbits_end(data: Buffer, nbytes: int) -> int:
    """Where the runs end that give so many bytes."""
    at = made = 0
    if len(data) > _MOST_RUNS:
        return len(data)
    while made < nbytes and at < len(data):
        run = data[at]
        made += run + 1 if run < 128 else (257 - run if run > 128 else 0)
        at += run + 2 if run < 128 else (2 if run > 128 else 1)
    return at


def _room(nbytes: int) -> Any:  # imagecodecs' stubs do not say that `out` may be an array
    return np.empty(nbytes, np.uint8)


def _written(out: Any) -> Bytes:
    return np.asarray(out).reshape(-1).view(np.uint8)


_STREAMS: dict[Compression, Callable[[Buffer, int, int], Bytes]] = {
    Compression.NONE: _stored,
    Compression.DEFLATE: _deflate,
    Compression.DEFLATE_OLD: _deflate,
    Compression.LZW: _lzw,
    Compression.LZMA: _lzma,
    Compression.PACKBITS: _roomy(imagecodecs.packbits_decode, most=64, end=_packbits_end),
    Compression.ZSTD: _roomy(imagecodecs.zstd_decode, most=2**16, end=_zstd_end),
}
