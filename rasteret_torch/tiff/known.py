"""The bytes of a file that the header parser has been given so far."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Generator, Sequence

from rasteret_torch.errors import CorruptTiffError
from rasteret_torch.tiff.limits import HeaderLimits

Span = tuple[int, int]  # offset, nbytes
Answer = tuple[Sequence[bytes], int | None]  # one blob per span, file size where known

_MAX_OFFSET = 2**62
_JOIN_GAP = 8192  # spans closer than this are asked for as one


class KnownBytes:
    """Pieces of a file, joined where they touch, and the budget for more."""

    def __init__(self, limits: HeaderLimits) -> None:
        self.file_size: int | None = None
        self._limits = limits
        self._rounds = 0
        self._nbytes = 0
        self._starts: list[int] = []
        self._pieces: list[bytes] = []

    @property
    def head(self) -> bytes:
        """What is known from the start of the file on."""
        return self._pieces[0] if self._starts and self._starts[0] == 0 else b""

    def ask(self, spans: Sequence[Span]) -> Generator[Sequence[Span], Answer, None]:
        """Asks for spans, joined where close, and takes in the answer.

        Raises:
            CorruptTiffError: the header needs more bytes or more rounds than the limits allow.
        """
        joined = _join(spans)
        self._rounds += 1
        self._nbytes += sum(nbytes for _, nbytes in joined)
        if self._rounds > self._limits.rounds or self._nbytes > self._limits.header_nbytes:
            raise CorruptTiffError(
                f"the header needs more than {self._limits.rounds} reads or {self._limits.header_nbytes} bytes; "
                "rewrite the file as a COG, whose header stands at its start"
            )
        blobs, file_size = yield joined
        if file_size is not None:
            self.file_size = file_size
        for (offset, nbytes), blob in zip(joined, blobs, strict=True):
            if len(blob) < nbytes and self.file_size is None and (blob or offset == 0):
                self.file_size = offset + len(blob)
            if blob:
                self._add(offset, bytes(blob[:nbytes]))
            self._check_answer(offset, nbytes, len(blob))

    @property
    def rounds_left(self) -> int:
        """Times that may still be asked."""
        return self._limits.rounds - self._rounds

    def _check_answer(self, offset: int, asked: int, got: int) -> None:
        """A short answer that does not end where the file ends would make the parser ask again for ever."""
        if got >= asked:
            return
        if self.file_size is None:
            raise CorruptTiffError(f"no byte came from offset {offset} on; the file was cut short")
        if offset + got < min(self.file_size, offset + asked):
            raise CorruptTiffError(f"{got} of {asked} bytes came from offset {offset}; the file was cut short")

    def get(self, offset: int, nbytes: int) -> bytes | None:
        """The bytes of a span, or None unless all are known."""
        if nbytes == 0:
            return b""
        index = bisect_right(self._starts, offset) - 1
        if index < 0:
            return None
        start = offset - self._starts[index]
        piece = self._pieces[index]
        return piece[start : start + nbytes] if start + nbytes <= len(piece) else None

    def require(self, offset: int, nbytes: int, what: str) -> bytes:
        """The bytes of a span that were asked for.

        Raises:
            CorruptTiffError: they did not come.
        """
        data = self.get(offset, nbytes)
        if data is None:
            raise CorruptTiffError(f"{what} at bytes {offset} to {offset + nbytes} could not be read")
        return data

    def expect(self, offset: int, nbytes: int, what: str) -> None:
        """Checks that a span lies inside the file and the budget, before it is asked for.

        Raises:
            CorruptTiffError: it does not.
        """
        if self.file_size is not None and offset + nbytes > self.file_size:
            raise CorruptTiffError(
                f"{what} at bytes {offset} to {offset + nbytes} ends after the file's {self.file_size} bytes; "
                "the file is damaged or was cut short"
            )
        if offset + nbytes > _MAX_OFFSET:
            raise CorruptTiffError(f"{what} at byte {offset} lies beyond any file; the file is damaged")
        if nbytes > self._limits.header_nbytes:
            raise CorruptTiffError(
                f"{what} claims {nbytes} bytes, more than the limit of {self._limits.header_nbytes} for a whole header"
            )

    def missing(self, offset: int, nbytes: int, *, to_end: bool = False) -> list[Span]:
        """The parts of a span that are not known. `to_end` cuts it at the end of the file."""
        stop = offset + nbytes
        if to_end and self.file_size is not None:
            stop = min(stop, self.file_size)
        index = max(0, bisect_right(self._starts, offset) - 1)
        if self._starts and self._starts[index] <= offset and stop <= self._starts[index] + len(self._pieces[index]):
            return []
        spans: list[Span] = []
        for start, piece in zip(self._starts[index:], self._pieces[index:], strict=True):
            if start >= stop:
                break
            if start > offset:
                spans.append((offset, start - offset))
            offset = max(offset, start + len(piece))
        if offset < stop:
            spans.append((offset, stop - offset))
        return spans

    def _add(self, offset: int, blob: bytes) -> None:
        """Takes in bytes, joining them with pieces they touch or overlap (known bytes win)."""
        for start, nbytes in self.missing(offset, len(blob)):
            index = bisect_right(self._starts, start)
            self._starts.insert(index, start)
            self._pieces.insert(index, blob[start - offset : start - offset + nbytes])
        starts: list[int] = []
        groups: list[list[bytes]] = []
        for start, piece in zip(self._starts, self._pieces, strict=True):
            if starts and starts[-1] + sum(len(part) for part in groups[-1]) == start:
                groups[-1].append(piece)
            else:
                starts.append(start)
                groups.append([piece])
        self._starts = starts
        self._pieces = [group[0] if len(group) == 1 else b"".join(group) for group in groups]


def _join(spans: Sequence[Span]) -> list[Span]:
    joined: list[Span] = []
    for offset, nbytes in sorted(spans):
        if joined and offset - sum(joined[-1]) <= _JOIN_GAP:
            start, length = joined[-1]
            joined[-1] = (start, max(length, offset + nbytes - start))
        else:
            joined.append((offset, nbytes))
    return joined
