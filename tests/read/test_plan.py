"""The dtypes that a chip has of its files."""

import numpy as np
import pytest

from rasteret_torch.errors import InputError
from rasteret_torch.read.formats import common_dtype, measured_dtype


def dtypes(names):
    return [np.dtype(name) for name in names.split()]


@pytest.mark.parametrize(
    ("stored", "measured"),
    [("uint8 int16 uint16 float32", "float32"), ("int32 uint32 int64 uint64 float64", "float64")],
)
def test_measured_numbers_are_floats_that_hold_what_was_stored(stored, measured):
    assert {measured_dtype(dtype) for dtype in dtypes(stored)} == {np.dtype(measured)}
    with pytest.raises(InputError, match="real numbers"):
        measured_dtype(np.dtype(np.complex64))


@pytest.mark.parametrize(
    ("stored", "common"),
    [("uint8 uint8", "uint8"), ("uint8 int16", "int16"), ("uint16 int16", "int32"), ("uint8 float32", "float32")],
)
def test_the_common_dtype_holds_all(stored, common):
    assert common_dtype(dtypes(stored)) == np.dtype(common)


def test_integers_alone_never_become_floats():
    with pytest.raises(InputError, match="int64, uint64 have no common integer type"):
        common_dtype(dtypes("uint64 int64"))
