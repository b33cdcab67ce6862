"""A tile that was decompressed only in part goes on from there, once."""

from __future__ import annotations

import dataclasses
import zlib
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rasteret_torch.errors import CorruptTileError
from rasteret_torch.tiff import Layout, Tile, decode_tile, inflate_tile, rest_nbytes

ROWS = 40


def stored(form: Layout) -> bytes:
    """A tile of noise that compresses a little."""
    nbytes = form.tile_nbytes(ROWS)
    body = zlib.compress(np.random.default_rng(nbytes).integers(0, 40, nbytes, np.uint8).tobytes())
    return imagecodecs.bitorder_decode(body) if form.fill_order == 2 else body


def layout(compression: int = 8, dtype: str = "uint16", samples: int = 1, **changes: Any) -> Layout:
    kind, table = np.dtype(dtype), np.array([8], np.uint64)
    sample_format = {"u": 1, "f": 3}[kind.kind]
    plain = Layout(48, 64, 48, 64, samples, kind.itemsize * 8, sample_format, kind, compression, table, table)
    return dataclasses.replace(plain, **changes)


FORMS = (
    layout(),
    layout(predictor=2),
    layout(dtype="float32", predictor=3),
    layout(dtype="uint8", samples=3, predictor=2),
    layout(bits=12),
    layout(fill_order=2),
)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.dtype}-{form.bits}-{form.predictor}-{form.fill_order}")
@settings(max_examples=25)
@given(data=st.data())
def test_a_finished_tile_equals_one_decoded_at_once(form: Layout, data: st.DataObject) -> None:
    body = stored(form)
    first = data.draw(st.integers(1, ROWS - 1), label="rows of the first go")
    read = data.draw(st.integers(min(len(body) * first // ROWS + 200, len(body)), len(body)), label="bytes read")
    begun = inflate_tile(form, body[:read], rows=ROWS, need_rows=first, of_nbytes=len(body))
    assert begun.rest is not None
    assert begun.rest.read_nbytes == read
    if data.draw(st.booleans(), label="is unpacked"):
        begun.pixels(slice(0, first))
    whole = begun.finished(body[read:])
    expected = decode_tile(form, body, rows=ROWS)
    np.testing.assert_array_equal(whole.pixels(slice(0, ROWS)), expected)
    np.testing.assert_array_equal(begun.pixels(slice(0, first)), expected[:first])
    assert whole.rest is None


def begun_tile(body: bytes, read: int) -> Tile:
    return inflate_tile(FORMS[0], body[:read], rows=ROWS, need_rows=ROWS // 2, of_nbytes=len(body))


def test_only_the_first_who_asks_goes_on() -> None:
    body = stored(FORMS[0])
    begun = begun_tile(body, len(body))
    begun.finished(b"")
    with pytest.raises(CorruptTileError, match="elsewhere"):
        begun.finished(b"")


@pytest.mark.parametrize("damage", ["shorter", "longer", "checksum", "other bytes"])
def test_a_rest_that_does_not_fit_is_an_error(damage: str) -> None:
    body = stored(FORMS[0])
    read = len(body) * 3 // 4
    rest = {
        "shorter": body[read:-400],
        "longer": zlib.compress(zlib.decompress(body) + b"more")[read:],
        "checksum": body[read:-1] + bytes([body[-1] ^ 1]),
        "other bytes": bytes(len(body) - read),
    }[damage]
    with pytest.raises(CorruptTileError):
        begun_tile(body, read).finished(rest)


def test_only_what_can_be_finished_and_is_to_be_keeps_a_rest() -> None:
    body = stored(FORMS[0])
    plain = layout(compression=1)
    assert inflate_tile(FORMS[0], body, rows=ROWS, need_rows=9).rest is None
    assert inflate_tile(FORMS[0], body, rows=ROWS, of_nbytes=len(body)).rest is None
    assert inflate_tile(plain, bytes(plain.tile_nbytes(ROWS)), rows=ROWS, need_rows=9, of_nbytes=1).rest is None
    with pytest.raises(CorruptTileError):
        inflate_tile(FORMS[0], body, rows=ROWS, need_rows=9).finished(b"")


def test_what_finishes_a_tile_counts_as_memory() -> None:
    body = stored(FORMS[0])
    pixels = FORMS[0].tile_nbytes(ROWS // 2)
    assert begun_tile(body, len(body)).nbytes == pixels + rest_nbytes(len(body), len(body), 0.5)
    assert rest_nbytes(1000, 2000, 0.5) < rest_nbytes(2000, 2000, 0.5) == rest_nbytes(1000, 2000, 0.5) + 1000
