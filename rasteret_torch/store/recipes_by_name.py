"""Credential recipes by name: they load an HTTP client, or boto3, so only when one is asked for."""

from __future__ import annotations

import importlib
from typing import Any

from rasteret_torch.errors import MissingDependencyError

RECIPES = {
    "Boto3Credentials": "rasteret_torch.store.recipes_boto3",
    "EarthdataCredentials": "rasteret_torch.store.recipes",
    "PlanetaryComputerCredentials": "rasteret_torch.store.recipes",
}


def recipe(name: str) -> Any:
    """The class of that name.

    Raises:
        MissingDependencyError: what it needs is not installed.
    """
    try:
        return getattr(importlib.import_module(RECIPES[name]), name)
    except ModuleNotFoundError as error:
        raise MissingDependencyError(f"{name} needs {error.name}; install rasteret-torch[cloud]") from error
