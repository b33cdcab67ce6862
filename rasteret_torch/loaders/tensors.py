"""Samples: dictionaries of tensors, and the dtypes that these have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from rasteret_torch.errors import InputError

Sample = dict[str, Any]  # the values are tensors
SampleDtype = torch.dtype | Literal["native"] | None


def as_dtype(value: SampleDtype | str) -> SampleDtype:
    """A dtype of its name, as a YAML config holds it.

    Raises:
        InputError: torch has no such dtype, or only its name.
    """
    if value is None:
        return None
    if value == "native":
        return "native"
    found = getattr(torch, value.removeprefix("torch."), None) if isinstance(value, str) else value
    if not isinstance(found, torch.dtype):
        raise InputError(f"dtype={value!r} is none of torch's; name one such as 'float32', or 'native'")
    try:
        torch.zeros(1).to(found)
    except (NotImplementedError, RuntimeError) as error:
        raise InputError(f"dtype={value!r} takes no pixels; name one such as 'float32', or 'native'") from error
    return found


def transformed(transforms: Callable[[Sample], Sample] | None, sample: Sample, which: str) -> Sample:
    """A sample after its transforms; to what these raise is added with which sample they did.

    Args:
        transforms: of the user; None leaves the sample as it is.
        sample: as it was read.
        which: the sample, in words.

    Raises:
        InputError: they return nothing.
    """
    if transforms is None:
        return sample
    try:
        made: Sample | None = transforms(sample)
    except Exception as error:
        error.add_note(f"transforms= raised this for {which}")
        raise
    if made is None:
        raise InputError(f"transforms= returned None for {which}; it must return the sample it changed")
    return made


def converted(tensor: Tensor, dtype: SampleDtype, *, is_image: bool) -> Tensor:
    """Pixels in the dtype that samples have; the tensor itself where it has it already.

    Args:
        tensor: pixels in the dtype of the file.
        dtype: None follows TorchGeo (float32 images, int64 masks); "native" keeps the dtype of the file (uint16 stays
            `torch.uint16`); or any torch dtype.
        is_image: which of TorchGeo's defaults applies.
    """
    if dtype == "native":
        return tensor
    return tensor.to((torch.float32 if is_image else torch.int64) if dtype is None else dtype)


def interpolates(dtype: SampleDtype, file_dtype: np.dtype[Any], *, is_image: bool) -> bool:
    """Whether pixels that lie off the grid are interpolated: where the sample's dtype is a float (TorchGeo's rule)."""
    if dtype == "native":
        return file_dtype.kind == "f" and is_image
    if dtype is None:
        return is_image
    return dtype.is_floating_point
