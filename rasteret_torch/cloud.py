"""Backends, their settings and their credentials, under the names that users import."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rasteret_torch.store import CloudBackend, CloudConfig, ObstoreBackend, StorageBackend, create_backend
from rasteret_torch.store.recipes_by_name import RECIPES, recipe

if TYPE_CHECKING:
    from rasteret_torch.store.recipes import EarthdataCredentials, PlanetaryComputerCredentials
    from rasteret_torch.store.recipes_boto3 import Boto3Credentials

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
    if name not in RECIPES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return recipe(name)
