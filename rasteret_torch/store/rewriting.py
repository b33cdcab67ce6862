"""URLs under which the same object is read elsewhere: compared by origin and path, never as text."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from urllib.parse import unquote

from rasteret_torch.errors import InputError, UntrustedUriError
from rasteret_torch.store.location import BUCKET_SCHEMES, HTTP_SCHEMES, Location, is_local, parse, redact, scheme_of

_DEFAULT_PORTS = {"https": ":443", "http": ":80"}


def rewritten(href: str, patterns: Mapping[str, str]) -> str:
    """The href with the longest prefix that it lies under replaced; itself where none fits.

    An href lies under a prefix when scheme and host are equal (case and default ports aside) and its path begins with
    the prefix's path, at a slash: `https://host/data` covers neither `https://host/database` nor
    `https://host.example/data`. Below a bucket, percent-encoded paths become plain keys and queries (signatures) go.

    Args:
        href: a path or URL.
        patterns: URL prefix to replacement; or folder to replacement, for paths.
    """
    if not patterns:
        return href
    if is_local(href):
        return _moved(href, patterns)
    try:
        location = parse(href, allow_http=True)
    except UntrustedUriError:
        return href  # whoever reads it says what is wrong with it
    urls = [(_prefix(url), target) for url, target in patterns.items() if not is_local(url)]
    fitting = [(prefix, target) for prefix, target in urls if _is_under(location, prefix)]
    if not fitting:
        return href
    prefix, target = max(fitting, key=lambda one: len(one[0].path))
    rest = location.path[len(prefix.path) :].lstrip("/")
    is_key = scheme_of(target) in BUCKET_SCHEMES
    if is_key and location.scheme in HTTP_SCHEMES:
        rest = unquote(rest)
    query = f"?{location.query}" if location.query and not is_key else ""
    return f"{target.rstrip('/')}/{rest}{query}"


@functools.lru_cache(maxsize=64)  # the same few for a hundred thousand hrefs
def _prefix(url: str) -> Location:
    return parse(url, allow_http=True)


def _moved(path: str, patterns: Mapping[str, str]) -> str:
    """A path below another folder, the longest that fits; `/vsis3/bucket/` and the like are folders, too."""
    folders = [(prefix.rstrip("/"), target) for prefix, target in patterns.items() if is_local(prefix)]
    fitting = [(folder, target) for folder, target in folders if f"{path}/".startswith(f"{folder}/")]
    if not fitting:
        return path
    folder, target = max(fitting, key=lambda one: len(one[0]))
    rest = path[len(folder) :].lstrip("/")
    return f"{target}{'' if not target or target.endswith('/') else '/'}{rest}"


def check_patterns(patterns: Mapping[str, str]) -> None:
    """Refuses patterns that are no URLs.

    Raises:
        InputError: naming the one, or no mapping of texts.
    """
    if not isinstance(patterns, Mapping) or not all(isinstance(one, str) for pair in patterns.items() for one in pair):
        raise InputError("url_patterns must map URL prefixes to what stands in their place: {'https://…/': 's3://…/'}")
    for one in (url for pair in patterns.items() for url in pair):
        try:
            parse(one, allow_http=True)
        except UntrustedUriError as error:
            raise InputError(f"url_patterns holds {redact(one)!r}, which is no URL prefix: {error}") from error


def _is_under(location: Location, prefix: Location) -> bool:
    if _origin(location) != _origin(prefix):
        return False
    folder = prefix.path.rstrip("/")
    return not folder or location.path == folder or location.path.startswith(folder + "/")


def _origin(location: Location) -> tuple[str, str]:
    authority = location.authority
    if location.scheme in HTTP_SCHEMES:
        authority = authority.lower().removesuffix(_DEFAULT_PORTS[location.scheme])
    return location.scheme, authority
