"""The dtypes that samples have, and labels as tensors."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from rasteret_torch.errors import InputError

SampleDtype = torch.dtype | Literal["native"] | None


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


def label_tensor(value: Any, column: str) -> Tensor:
    """An index cell as a label: shape (1,) for a number, (k,) for a list of k numbers.

    Raises:
        InputError: the cell is null or not a number.
    """
    values = value if isinstance(value, list) else [value]
    if not values or any(isinstance(part, str) or not isinstance(part, (bool, int, float)) for part in values):
        raise InputError(
            f"column {column!r} holds {value!r}, which is no label; store numbers (or lists of numbers) in the column"
        )
    is_float = any(isinstance(part, float) for part in values)
    return torch.tensor(values, dtype=torch.float32 if is_float else torch.int64)
