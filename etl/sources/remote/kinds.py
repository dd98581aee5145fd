"""The kinds of places that fsspec reaches, and what paths and options to them may be."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from etl.errors import ConfigError


class Kind(NamedTuple):
    """A kind of place.

    Attributes:
        scheme: what it is called here, whatever else it is called in paths.
        package: what fsspec needs for it, which the extra of that scheme brings; empty: nothing.
        host: a path begins with a host, and there is one connection to it, which may break.
    """

    scheme: str
    package: str = ""
    host: bool = False


KINDS = {
    "s3": Kind("s3", "s3fs"),
    "s3a": Kind("s3", "s3fs"),
    "gs": Kind("gs", "gcsfs"),
    "gcs": Kind("gs", "gcsfs"),
    "az": Kind("az", "adlfs"),
    "abfs": Kind("az", "adlfs"),
    "abfss": Kind("az", "adlfs"),
    "sftp": Kind("sftp", "paramiko", host=True),
    "ftp": Kind("ftp", host=True),
    "memory": Kind("memory"),
}


def check(paths: Sequence[str], options: Mapping[str, Any]) -> None:
    """See that all of `paths` are at one place that can be read.

    Raises:
        ValueError: they are at different ones, at one that is not known, or hold a password.
        ConfigError: a package is missing.
    """
    roots = {root_of(path) for path in paths}
    if len(roots) > 1:
        raise ValueError(
            f"paths: {' and '.join(sorted(roots))}: one source reads from one place; make it two"
        )
    root = roots.pop()
    scheme, _, authority = root.partition("://")
    kind = KINDS.get(scheme)
    if scheme in ("http", "https"):
        raise ValueError(f'paths: {root}: files of web servers are read by the source "http"')
    if kind is None:
        raise ValueError(
            f"paths: {scheme}:// is not read; there are: {', '.join(f'{name}://' for name in KINDS)}"
        )
    for path in paths:
        beginning = path.partition("://")[2].partition("/")[0]
        if "@" in beginning and (not kind.host or ":" in beginning.rpartition("@")[0]):
            raise ValueError(
                f"paths: {scheme}://…: put the account, user and password into `storage`, where they are kept out of "
                "the checkpoint and of messages"
            )
        if not beginning:
            raise ValueError(f"paths: {path!r}: name a {'host' if kind.host else 'bucket'} after ://")
    if kind.host and any(key in options for key in ("host", "hostname")):
        raise ValueError(f"storage: the host is a part of the path: {scheme}://host/…")
    if authority.count(":") and not authority.rpartition(":")[2].isdigit():
        raise ValueError(f"paths: {root}: the port is no number")
    if kind.package and importlib.util.find_spec(kind.package) is None:
        raise ConfigError(
            f"{scheme}:// needs the package {kind.package}, which is not installed: "
            f"pip install 'etl-sinks[{kind.scheme}]'"
        )


def root_of(path: str) -> str:
    """Return a path's scheme, and its host where there is one: what one connection can reach."""
    scheme, _, rest = path.partition("://")
    kind = KINDS.get(scheme.lower())
    return f"{scheme.lower()}://{rest.partition('/')[0] if kind is not None and kind.host else ''}"


def options_of(root: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what fsspec's file system takes: `options`, the host, and defaults that it lacks."""
    scheme, _, authority = root.partition("://")
    kind = KINDS[scheme]
    made = dict(options)
    if kind.host:
        user, _, host = authority.rpartition("@")
        name, colon, port = host.rpartition(":")
        made["host"] = name if colon else host
        made["port"] = int(port) if colon else int(made.get("port", 22 if kind.scheme == "sftp" else 21))
        if user:
            made["username"] = user
        made["skip_instance_cache"] = True  # one that is broken would be handed out again
    if kind.scheme == "sftp":
        from etl.sources.remote.readers import known_hosts_only

        made.setdefault("timeout", 10)
        if "host_key_policy" not in made:
            made["host_key_policy"] = known_hosts_only()
    else:
        made["use_listings_cache"] = False  # a later run of the same process must see what is new
    if kind.scheme == "s3":
        # botocore tries again by itself otherwise, and s3fs around it
        config = dict(made.get("config_kwargs") or {})
        made["config_kwargs"] = {"retries": {"total_max_attempts": 1}, **config}
    return made


def secrets_of(options: Mapping[str, Any]) -> frozenset[str]:
    """Return the words of `options` that no message may show; rather too many than too few."""
    return frozenset(_texts({key: value for key, value in options.items() if key != "username"}))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, str) and len(value) > 3 and not value.startswith(("http://", "https://")):
        yield value
        # a connection string: name=value;name=value
        yield from (piece.partition("=")[2] for piece in value.split(";") if len(piece.partition("=")[2]) > 7)
