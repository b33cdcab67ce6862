"""Backends, their settings and their credentials, under the names that users import."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rasteret_torch.errors import MissingDependencyError
from rasteret_torch.store import CloudBackend, CloudConfig, ObstoreBackend, StorageBackend, create_backend

if TYPE_CHECKING:
    from rasteret_torch.store.recipes import EarthdataCredentials, PlanetaryComputerCredentials
    from rasteret_torch.store.recipes_boto3 import Boto3Credentials

_LATER = {
    "Boto3Credentials": "rasteret_torch.store.recipes_boto3",
    "EarthdataCredentials": "rasteret_torch.store.recipes",
    "PlanetaryComputerCredentials": "rasteret_torch.store.recipes",
}
__all__ = [
    "Boto3Credentials",
    "CloudBackend",
    "CloudConfig",
    "EarthdataCredentials",
    "ObstoreBackend",
    "PlanetaryComputerCredentials",
    "StorageBackend",
    "create_backend",
]


def __getattr__(name: str) -> Any:
    home = _LATER.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(home), name)
    except ModuleNotFoundError as error:
        raise MissingDependencyError(f"{name} needs {error.name}; install rasteret-torch[cloud]") from error
