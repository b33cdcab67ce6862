"""The Hugging Face hub as a filesystem: `hf://datasets/owner/name@revision/path`, with its own tokens and endpoint."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from huggingface_hub import HfFileSystem, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.hf_file_system import HfFileSystemResolvedRepositoryPath
from pyarrow.fs import FSSpecHandler

from rasteret_torch.errors import AccessDeniedError, DatasetNotFoundError, FetchError, InputError, RasteretTorchError
from rasteret_torch.store import redact

# The hub's errors are those of its HTTP client and OSError at once; a connection that fails is of the first kind only.
_CLIENT_ERRORS: tuple[type[Exception], ...] = (OSError, *(base for base in HfHubHTTPError.__bases__))
_DENIED, _MISSING = (401, 403), 404


def opened(uri: str) -> tuple[FSSpecHandler, str, str]:
    """(filesystem, path in it, https URL under which the files of the path are read).

    Raises:
        DatasetNotFoundError, AccessDeniedError, FetchError: the hub does not have it, refuses, or does not answer.
        InputError: no `hf://datasets/owner/name/…`.
    """
    with translated(uri):
        files = HfFileSystem(endpoint=os.environ.get("HF_ENDPOINT"))
        place = files.resolve_path(uri)
        path = place.unresolve()
        if not isinstance(place, HfFileSystemResolvedRepositoryPath):
            raise InputError(f"{redact(uri)} is no repository; write hf://datasets/owner/name/path")
        base = hf_hub_url(
            place.repo_id,
            place.path_in_repo or ".",
            repo_type=place.repo_type,
            revision=place.revision,
            endpoint=files.endpoint,
        )
        return FSSpecHandler(files), path, base.removesuffix("/.")


@contextlib.contextmanager
def translated(uri: str) -> Iterator[None]:
    """Errors of the hub's client as ours, without the URLs and headers that its sentences hold."""
    missing = DatasetNotFoundError(
        f"the hub has nothing at {redact(uri)} that you may see; check owner, name, revision and path, and for a "
        "private one HF_TOKEN"
    )
    try:
        yield
    except RasteretTorchError:
        raise
    except FileNotFoundError as error:
        raise missing from error
    except (NotImplementedError, ValueError) as error:
        raise InputError(f"{redact(uri)} names no dataset; write hf://datasets/owner/name/path") from error
    except _CLIENT_ERRORS as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status == _MISSING:
            raise missing from error
        if status in _DENIED:
            raise AccessDeniedError(f"the hub refuses {redact(uri)}; set HF_TOKEN, or ask for access") from error
        said = f"answered with status {status}" if status else f"could not be reached ({type(error).__name__})"
        raise FetchError(f"the hub {said} for {redact(uri)}; try again later") from error
