"""What a cloud needs to know before it hands out bytes: `CloudConfig`, and the settings of the native stores."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from rasteret_torch.errors import InputError
from rasteret_torch.store.location import BUCKET_SCHEMES, Location, parse, scheme_of
from rasteret_torch.store.rewriting import check_patterns, rewritten

DEFAULT_REGION = "us-west-2"  # of most open Earth observation buckets
Provider = Literal["aws", "gcp", "azure"]
CredentialProvider = Callable[[], Any]  # obstore's protocol: returns credentials, or an awaitable of them
_SCHEME_OF_PROVIDER = {"aws": ("s3",), "gcp": ("gs",), "azure": ("az", "abfs", "abfss")}
# Any of these means that the environment holds something to sign requests with.
_AWS_CREDENTIAL_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_GCP_CREDENTIAL_VARIABLES = ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY")
_AZURE_CREDENTIAL_VARIABLES = (
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_SAS_KEY",
    "AZURE_STORAGE_TOKEN",
    "AZURE_CLIENT_ID",
    "AZURE_STORAGE_CLIENT_ID",
    "AZURE_FEDERATED_TOKEN_FILE",
)


@runtime_checkable
class ContainerSigner(Protocol):
    """Gives tokens for the containers of Azure Blob Storage, one container each (see `recipes`)."""

    @property
    def endpoint(self) -> str | None:
        """Of a storage emulator in place of Azure."""
        ...

    def container_of(self, location: Location) -> tuple[str, str, str] | None:
        """(account, container, key) of a URL that needs a token; None for others."""
        ...

    def for_container(self, account: str, container: str) -> Callable[[], Any]:
        """What is called for fresh tokens."""
        ...


@dataclass(frozen=True)
class CloudConfig:
    """How the objects of one provider are reached. Holds no secret.

    Attributes:
        provider: "aws", "gcp" or "azure".
        requester_pays: whether requests may be charged to the caller: to the buckets that `url_patterns` and `buckets`
            name, or to every S3 bucket when they name none.
        region: of the buckets.
        url_patterns: URL prefix to replacement, e.g. an https prefix to the `s3://bucket/` behind it; of those with an
            href's origin and the beginning of its path the longest counts.
        buckets: further buckets that may charge. Where any are named, keys are used for these and those of
            `url_patterns` only, and other buckets are read as anybody reads them.
    """

    provider: Provider
    requester_pays: bool = False
    region: str = DEFAULT_REGION
    url_patterns: Mapping[str, str] = field(default_factory=dict, hash=False)
    buckets: Sequence[str] = ()  # kept as a tuple

    def __post_init__(self) -> None:
        if self.provider not in _SCHEME_OF_PROVIDER:
            known = ", ".join(_SCHEME_OF_PROVIDER)
            raise InputError(f"CloudConfig provider {self.provider!r} is not known: use one of {known}.")
        if not isinstance(self.requester_pays, bool):  # a text "false" would charge
            raise InputError(f"CloudConfig requester_pays={self.requester_pays!r} must be True or False.")
        if isinstance(self.buckets, str) or not all(isinstance(name, str) for name in self.buckets):
            raise InputError(f"CloudConfig buckets={self.buckets!r} must be names of buckets, such as ('mine',).")
        object.__setattr__(self, "buckets", tuple(self.buckets))  # a list has no hash
        check_patterns(self.url_patterns)

    def rewrite(self, href: str) -> str:
        """The href behind which the object is read."""
        return rewritten(href, self.url_patterns)

    def pays_for(self, bucket: str) -> bool:
        """Whether requests to this S3 bucket may be charged to the caller."""
        named = self._named
        return self.requester_pays and (not named or bucket in named)

    def signs_for(self, bucket: str) -> bool:
        """Whether keys may be used for this bucket."""
        container = bucket.partition("@")[0]  # abfs://container@account.dfs.core.windows.net
        return not self.buckets or bucket in self._named or container in self._named

    @property
    def _named(self) -> tuple[str, ...]:
        targets = [target for target in self.url_patterns.values() if scheme_of(target) in BUCKET_SCHEMES]
        return (*(parse(target).authority for target in targets), *self.buckets)


@dataclass(frozen=True)
class CloudSettings:
    """Everything from which the stores of a process are built: a recipe, not a handle.

    Attributes:
        cloud: the user's `CloudConfig`.
        region: of S3 buckets, before `cloud.region` and the environment.
        s3: options of obstore's `S3Store`, sorted; never shown.
        provider: called for fresh credentials; used for the buckets of `cloud.provider` (S3 when there is none).
    """

    cloud: CloudConfig | None = None
    region: str | None = None
    s3: tuple[tuple[str, str | bool], ...] = field(default=(), repr=False)
    # May be a plain dataclass, which has no hash.
    provider: CredentialProvider | ContainerSigner | None = field(default=None, repr=False, hash=False)

    def s3_options(self, bucket: str) -> dict[str, Any]:
        """Keyword arguments for the S3 store of one bucket."""
        options: dict[str, Any] = {"region": self._region(), **dict(self.s3)}
        if not self._signs_for(bucket):
            plain = {name: value for name, value in options.items() if not _is_key(name.lower())}
            return {**plain, "skip_signature": True}
        pays = self.cloud is not None and self.cloud.pays_for(bucket)
        if pays:
            options["request_payer"] = True
        if self.provides_for("s3", bucket):
            options["credential_provider"] = self.provider
        elif not (pays or "access_key_id" in options or _any_set(_AWS_CREDENTIAL_VARIABLES)):
            options.setdefault("skip_signature", True)
        return options

    def other_options(self, scheme: str, bucket: str) -> dict[str, Any]:
        """Keyword arguments for the Google or Azure store of one bucket or container."""
        if self.provides_for(scheme, bucket):
            return {"credential_provider": self.provider}
        if not self._signs_for(bucket):
            return {"skip_signature": True}
        variables = _GCP_CREDENTIAL_VARIABLES if scheme == "gs" else _AZURE_CREDENTIAL_VARIABLES
        return {} if _any_set(variables) else {"skip_signature": True}

    def provides_for(self, scheme: str, bucket: str) -> bool:
        """Whether the credential provider is meant for this bucket: of its cloud, and named where it names any."""
        schemes = _SCHEME_OF_PROVIDER[self.cloud.provider if self.cloud else "aws"]
        if self.provider is None or self.signer is not None or scheme not in schemes or not self._signs_for(bucket):
            return False
        named = getattr(self.provider, "buckets", ())
        return not named or bucket in ((named,) if isinstance(named, str) else named)  # not any part of one's name

    @property
    def signer(self) -> ContainerSigner | None:
        """The provider, where it gives tokens for Azure containers behind https URLs."""
        return self.provider if self.provider is not None and isinstance(self.provider, ContainerSigner) else None

    def rewrite(self, href: str) -> str:
        """The href behind which the object is read."""
        return self.cloud.rewrite(href) if self.cloud else href

    def _signs_for(self, bucket: str) -> bool:
        return self.cloud is None or self.cloud.signs_for(bucket)

    def _region(self) -> str:
        environment = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        return self.region or (self.cloud.region if self.cloud else None) or environment or DEFAULT_REGION


def secret_names(options: Mapping[str, Any]) -> list[str]:
    """The options of a store whose values are secret."""
    return sorted(name for name in options if _is_secret(name.lower()))


def _is_key(name: str) -> bool:
    """Whether an option is a part of credentials, secret or not."""
    return _is_secret(name) or name.endswith("access_key_id") or name in ("request_payer", "aws_request_payer")


def _is_secret(name: str) -> bool:
    if name.endswith(("_file", "_uri", "_path")):
        return False
    return any(word in name for word in ("secret", "token", "password", "sas", "customer_key")) or (
        name.endswith(("account_key", "access_key", "master_key")) and "id" not in name.split("_")
    )


def _any_set(variables: tuple[str, ...]) -> bool:
    return any(os.environ.get(name) for name in variables)
