"""Backends and their settings, under the names that users import."""

from rasteret_torch.store import CloudBackend, CloudConfig, ObstoreBackend, StorageBackend, create_backend

__all__ = ["CloudBackend", "CloudConfig", "ObstoreBackend", "StorageBackend", "create_backend"]
