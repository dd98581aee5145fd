"""What is known of an object: the fields of Google's resource, as they are stored and as they are answered."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from etl.testing.gcs_server.answers import invalid

# The fields of an object that its owner may set.
# Source: https://cloud.google.com/storage/docs/json_api/v1/objects#resource
SETTABLE = (
    "cacheControl",
    "contentDisposition",
    "contentEncoding",
    "contentLanguage",
    "contentType",
    "customTime",
    "storageClass",
)


def now() -> str:
    """Return the time as RFC 3339 in UTC, with microseconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(frozen=True, slots=True)
class Description:
    """What a client says of an object: the fields that it may set, and its own metadata."""

    fields: Mapping[str, str] = field(default_factory=dict)
    custom: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, resource: Mapping[str, Any]) -> Description:
        """Take the settable fields out of a resource that a client sent; anything else in it is ignored.

        Raises:
            ApiError: 400, a value is no text.
        """
        return cls().patched(resource)

    def patched(self, changes: Mapping[str, Any]) -> Description:
        """Return a copy with some fields changed; None takes a field, or a key of the metadata, away.

        Raises:
            ApiError: 400, a value is no text.
        """
        fields = merged(self.fields, {name: changes[name] for name in SETTABLE if name in changes})
        custom = dict(self.custom)
        if "metadata" in changes:
            given = changes["metadata"]
            if not isinstance(given, dict | None):
                raise invalid("The metadata of an object is a JSON object of texts.")
            custom = {} if given is None else merged(custom, given)
        return Description(fields, custom)


def merged(old: Mapping[str, str], changes: Mapping[str, Any]) -> dict[str, str]:
    """Return `old` with `changes`, where None takes a key away.

    Raises:
        ApiError: 400, a value is no text.
    """
    result = dict(old)
    for name, value in changes.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, str):
            result[name] = value
        else:
            raise invalid(f"Invalid value for {name}: {value!r} is no text.")
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """A finished object; checksums in base64, as Google writes them; `md5` is None for composed ones."""

    bucket: str
    name: str
    generation: int
    metageneration: int
    size: int
    crc32c: str
    md5: str | None
    created: str
    updated: str
    description: Description
    components: int | None = None

    @classmethod
    def load(cls, values: Mapping[str, Any]) -> StoredObject:
        """Make it from what `dataclasses.asdict` made of it."""
        return cls(**{**values, "description": Description(**values["description"])})

    @property
    def etag(self) -> str:
        """What changes with each generation and metageneration."""
        return base64.b64encode(f"{self.generation}/{self.metageneration}".encode()).decode()

    def described(self, description: Description) -> StoredObject:
        """Return the same content with another description: the next metageneration."""
        return replace(self, description=description, metageneration=self.metageneration + 1, updated=now())

    def resource(self, url: str) -> dict[str, Any]:
        """Return the resource of the JSON API; `url` is how the client reached the server."""
        path = f"storage/v1/b/{quote(self.bucket, safe='')}/o/{quote(self.name, safe='')}"
        found: dict[str, Any] = {
            "kind": "storage#object",
            "id": f"{self.bucket}/{self.name}/{self.generation}",
            "selfLink": f"{url}/{path}",
            "mediaLink": f"{url}/download/{path}?generation={self.generation}&alt=media",
            "name": self.name,
            "bucket": self.bucket,
            "generation": str(self.generation),
            "metageneration": str(self.metageneration),
            "storageClass": "STANDARD",
            "size": str(self.size),
            "crc32c": self.crc32c,
            "etag": self.etag,
            "timeCreated": self.created,
            "updated": self.updated,
            **self.description.fields,
        }
        if self.md5 is not None:
            found["md5Hash"] = self.md5
        if self.description.custom:
            found["metadata"] = dict(self.description.custom)
        if self.components is not None:
            found["componentCount"] = self.components
        return found
