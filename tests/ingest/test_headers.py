"""Many headers at once: in order, each file once, each failure its own."""

import asyncio
import time
from collections.abc import Sequence

import pytest
from scenes import write_tiff

from rasteret_torch.errors import DeadlineExceededError, InputError, NotATiffError, ObjectNotFoundError
from rasteret_torch.ingest import read_headers
from rasteret_torch.tiff.model import TiffHeader


def test_order_repetition_and_failures(tmp_path):
    good = write_tiff(tmp_path / "good.tif")
    (tmp_path / "text.tif").write_text("hello")
    hrefs = [str(tmp_path / name) for name in ("missing.tif", "good.tif", "text.tif", "good.tif")]
    missing, header, text, again = read_headers(hrefs)
    assert isinstance(missing, ObjectNotFoundError)
    assert isinstance(text, NotATiffError)
    assert "text.tif" in str(text)
    assert isinstance(header, TiffHeader)
    assert header is again
    assert header.file_size == good.stat().st_size
    assert header.last_modified.timestamp() == pytest.approx(good.stat().st_mtime, abs=1e-5)
    assert read_headers([]) == []


def test_many_are_in_flight(tmp_path):
    """As many files of a slow backend as there are places, so 100 take twice as long as one."""
    data = write_tiff(tmp_path / "a.tif").read_bytes()

    class Slow:
        running = 0
        most = 0

        async def get_range(self, url: str, start: int, length: int) -> bytes:
            Slow.running += 1
            Slow.most = max(Slow.most, Slow.running)
            await asyncio.sleep(0.2)
            Slow.running -= 1
            return data[start : start + length]

        async def get_ranges(self, url: str, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
            return [await self.get_range(url, *one) for one in ranges]

    headers = read_headers([f"https://example.com/{number}.tif" for number in range(100)], backend=Slow())
    assert Slow.most == 64
    assert all(isinstance(header, TiffHeader) for header in headers)


def test_a_backend_without_sizes_reads_headers_at_the_end(tmp_path):
    """GDAL appends the directory of a striped file after its pixels; a backend does not say where the file ends."""
    path = write_tiff(
        tmp_path / "a.tif", shape=(300, 300), tiled=False, blockxsize=None, blockysize=None, compress="none"
    )
    data = path.read_bytes()
    data = data[:4] + (len(data)).to_bytes(4, "little") + data[8:] + data[int.from_bytes(data[4:8], "little") :][:500]

    class Sizeless:
        async def get_range(self, url: str, start: int, length: int) -> bytes:
            return data[start : start + length]

        async def get_ranges(self, url: str, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
            return [await self.get_range(url, *one) for one in ranges]

    (header,) = read_headers(["https://example.com/a.tif"], backend=Sizeless())
    assert isinstance(header, TiffHeader)
    assert header.image.width == 300


def test_a_header_has_a_deadline():
    class Stuck:
        async def get_range(self, url: str, start: int, length: int) -> bytes:
            await asyncio.sleep(60)
            return b""

        async def get_ranges(self, url: str, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
            return []

    start = time.perf_counter()
    (error,) = read_headers(["https://example.com/a.tif"], backend=Stuck(), timeout_s=0.3)
    assert isinstance(error, DeadlineExceededError)
    assert "within 0.3 s" in str(error)
    assert time.perf_counter() - start < 30


def test_server_faults_stay_with_their_file(range_server):
    write_tiff(range_server.folder / "good.tif")
    good, gone = read_headers([range_server.url("good.tif"), range_server.url("gone.tif") + "?secret=1"])
    assert isinstance(good, TiffHeader)
    assert isinstance(gone, ObjectNotFoundError)
    assert "secret" not in str(gone)


def test_backends_that_are_none(tmp_path):
    with pytest.raises(InputError, match="type str, which has no get_range"):
        read_headers(["s3://mine/a.tif"], backend="s3")
    with pytest.raises(InputError, match="max_concurrent=0"):
        read_headers(["s3://mine/a.tif"], max_concurrent=0)

    class Broken:
        async def get_range(self, url, start, length):
            raise ZeroDivisionError

        async def get_ranges(self, url, ranges):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        read_headers(["s3://mine/a.tif", "s3://mine/b.tif"], backend=Broken())
