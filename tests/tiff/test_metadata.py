"""Nodata, scale and offset, names, dates: the odd ways in which files spell them."""

from __future__ import annotations

import datetime as dt
import math

import numpy as np
import pytest

from rasteret_torch.tiff.metadata import band_metadata, color_map, date_time, nodata_value
from rasteret_torch.tiff.tags import Fields, Tag


def fields(tag: Tag, data: bytes, field_type: int = 2) -> Fields:
    return Fields("<", {int(tag): (field_type, data)})


@pytest.mark.parametrize(
    ("text", "dtype", "expected"),
    [
        (b"0\0", "uint8", 0),
        (b"255 \0\0", "uint8", 255),
        (b"-9999", "uint8", -9999),
        (b"-9999.0", "int16", -9999),
        (b"18446744073709551615", "uint64", 2**64 - 1),
        (b"-9223372036854775807", "int64", -(2**63) + 1),
        (b"1e3", "int32", 1000),
        (b"0.5", "uint8", 0.5),
        (b"-3.4028234663852886e+38", "float32", -3.4028234663852886e38),
        (b"-3.40282346639e+38", "float32", -3.4028234663852886e38),
        (b"1,5", "float32", 1.5),
        (b" 7 apples", "float64", 7.0),
        (b"inf", "float32", math.inf),
        (b"-inf", "float32", -math.inf),
        (b"1e999", "float64", math.inf),
        (b"\0", "uint8", None),
        (b"", "uint8", None),
        (b"none", "uint8", 0),
        (b"9" * 5000, "uint8", math.inf),
        (b"none", "float32", 0.0),
        (b"-3.40282346639e+38", "float64", -3.4028234663852886e38),
        (b"\x1c2", "uint8", 0),
        (b"\x1f2", "int64", 0),
        ("\u0663".encode(), "uint8", 0),
        (b"\xc2\xa07", "float32", 0.0),
        (b"\v\t 7", "uint8", 7),
    ],
)
def test_nodata(text: bytes, dtype: str, expected: float | None) -> None:
    value = nodata_value(fields(Tag.GDAL_NODATA, text), np.dtype(dtype))
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize("field_type", [3, 4, 12, 16])
def test_nodata_that_is_no_text_is_none(field_type: int) -> None:
    assert nodata_value(fields(Tag.GDAL_NODATA, b"7\0\0\0" * 4, field_type), np.dtype("uint8")) is None


@pytest.mark.parametrize("text", [b"nan", b"NaN\0", b"-1.#IND", b"1.#QNAN", b"-nan"])
def test_nodata_nan(text: bytes) -> None:
    value = nodata_value(fields(Tag.GDAL_NODATA, text), np.dtype("float32"))
    assert value is not None
    assert math.isnan(value)


def test_scale_offset_and_names() -> None:
    result = band_metadata(
        fields(
            Tag.GDAL_METADATA,
            b'<GDALMetadata><Item name="SCALE" sample="1" role="scale">0.1</Item><Item name="x">y</Item>'
            b'<Item name="OFFSET" sample="0" role="offset">-5</Item><Item sample="9" role="scale">3</Item>'
            b'<Item name="DESCRIPTION" sample="1" role="description">n&amp;lt;ir</Item></GDALMetadata>\0\0',
        ),
        2,
    )
    assert (result.scales, result.offsets, result.names, result.notes) == ((1.0, 0.1), (-5.0, 0.0), ("", "n<ir"), ())


def test_a_scale_that_is_no_number_is_noted() -> None:
    result = band_metadata(fields(Tag.GDAL_METADATA, b'<G><Item sample="0" role="scale">x</Item></G>'), 1)
    assert result.scales == ()
    assert "not a number" in result.notes[0]


@pytest.mark.parametrize(
    "xml",
    [
        b"<GDALMetadata><Item",
        b"\xff\xfe\xff",
        b'<!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;&b;">]><a>&c;</a>',
        b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
        b"<a>" * 2_000_000,
    ],
)
def test_hostile_xml_is_noted_and_left_unread(xml: bytes) -> None:
    result = band_metadata(fields(Tag.GDAL_METADATA, xml), 1)
    assert result.scales == ()
    assert "42112" in result.notes[0]


@pytest.mark.parametrize("encoding", ["no-such", "rot13", "utf-16", "idna"])
def test_the_encoding_that_xml_declares_is_not_asked(encoding: str) -> None:
    xml = f'<?xml version="1.0" encoding="{encoding}"?><G><Item sample="0" role="scale">2</Item></G>'
    assert band_metadata(fields(Tag.GDAL_METADATA, xml.encode()), 1).scales == (2.0,)


def test_dates_and_colours() -> None:
    assert date_time(fields(Tag.DATE_TIME, b"2020:02:19 10:20:30\0")) == dt.datetime(2020, 2, 19, 10, 20, 30)
    assert date_time(fields(Tag.DATE_TIME, b"yesterday")) is None
    entries = np.arange(6, dtype="<u2")
    colours = color_map(fields(Tag.COLOR_MAP, entries.tobytes(), 3))
    assert colours is not None
    assert colours.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert color_map(fields(Tag.COLOR_MAP, entries.tobytes()[:-2], 3)) is None
