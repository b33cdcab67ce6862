"""Credentials as recipes: what crosses processes says where to ask; keys are asked for where they are used."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import requests
from obstore.auth.earthdata import NasaEarthdataCredentialProvider
from obstore.auth.planetary_computer import PlanetaryComputerCredentialProvider
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from rasteret_torch.store.location import Location

_TIMEOUT_S = (5.0, 20.0)  # to connect, and between two pieces of an answer
_BLOB_HOST = ".blob.core.windows.net"  # Azure Blob Storage: https://{account}.blob.core.windows.net/{container}/{key}


@dataclass(frozen=True)
class EarthdataCredentials:
    """Temporary S3 keys of NASA Earthdata, for direct reads within us-west-2.

    Who asks is known by `EARTHDATA_TOKEN`, or `EARTHDATA_USERNAME` and `EARTHDATA_PASSWORD`, or ~/.netrc, as they are
    in the process that reads.

    Attributes:
        credentials_url: of the archive, `https://data.lpdaac.earthdatacloud.nasa.gov/s3credentials`.
        buckets: the keys are used for these only.
        host: of the login, where it is not Earthdata's own.
    """

    credentials_url: str
    buckets: tuple[str, ...]
    host: str | None = None

    def __call__(self) -> Any:
        """Fresh keys, as obstore takes them."""
        return _earthdata(self.credentials_url, self.host)()


@dataclass(frozen=True)
class PlanetaryComputerCredentials:
    """Tokens of the Planetary Computer for one container each, asked for when the first of its files is read.

    `PC_SDK_SUBSCRIPTION_KEY` is used where it is set. URLs stay unsigned in the index.

    Attributes:
        sas_url: where tokens are had; None for the Planetary Computer's own.
        endpoint: of a storage emulator in place of Azure, `http://127.0.0.1:10000`.
    """

    sas_url: str | None = None
    endpoint: str | None = None

    def container_of(self, location: Location) -> tuple[str, str, str] | None:
        """(account, container, key) of a blob's https URL; None for other URLs."""
        if location.scheme != "https" or not location.host.endswith(_BLOB_HOST):
            return None
        container, _, key = location.path.partition("/")
        return (location.host.removesuffix(_BLOB_HOST), container, key) if container and key else None

    def for_container(self, account: str, container: str) -> Callable[[], Any]:
        """What obstore calls for tokens of one container."""
        return PlanetaryComputerCredentialProvider(
            account_name=account, container_name=container, sas_url=self.sas_url, session=_Session()
        )


@functools.lru_cache(16)
def _earthdata(credentials_url: str, host: str | None) -> NasaEarthdataCredentialProvider:
    return NasaEarthdataCredentialProvider(credentials_url, host=host, session=_Session())


class _Session(requests.Session):
    """Asks three times at most, and never waits without end, as sessions do by default."""

    def __init__(self) -> None:
        super().__init__()
        retry = Retry(total=2, backoff_factor=0.5, status_forcelist=[429, 500, 502, 503, 504])
        self.mount("https://", HTTPAdapter(max_retries=retry))
        self.mount("http://", HTTPAdapter(max_retries=retry))

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """As `requests.Session.send`, with a timeout where none is given."""
        if options.get("timeout") is None:
            options["timeout"] = _TIMEOUT_S
        return super().send(request, **options)
