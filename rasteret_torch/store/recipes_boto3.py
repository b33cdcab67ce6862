"""Keys that boto3 finds, as a recipe; needs the extra `[cloud]`."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import boto3
from obstore.auth.boto3 import Boto3CredentialProvider


@dataclass(frozen=True)
class Boto3Credentials:
    """The keys that boto3 finds: profiles, single sign-on, instance roles.

    Attributes:
        profile: name in the AWS configuration; None for the default.
        buckets: the keys are used for these only; empty for all.
    """

    profile: str | None = None
    buckets: tuple[str, ...] = ()

    def __call__(self) -> Any:
        """Fresh keys, as obstore takes them."""
        return _provider(self.profile)()


@functools.lru_cache(16)
def _provider(profile: str | None) -> Boto3CredentialProvider:
    return Boto3CredentialProvider(boto3.Session(profile_name=profile))
