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


# The fields that keep an object from being deleted or replaced while they are true.
# Source: https://cloud.google.com/storage/docs/object-holds
HOLDS = ("temporaryHold", "eventBasedHold")

# What custom metadata may take, in bytes: a name, a value, and all of them.
# Sources: https://cloud.google.com/storage/quotas#objects, and the constants of
# https://cloud.google.com/storage/docs/reference/rpc/google.storage.v1
LONGEST_KEY, LONGEST_VALUE, MOST_METADATA = 1024, 4 * 1024, 8 * 1024


def now() -> str:
    """Return the time as RFC 3339 in UTC, with microseconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(frozen=True, slots=True)
class Description:
    """What a client says of an object: the fields that it may set, its own metadata, and the holds on it."""

    fields: Mapping[str, str] = field(default_factory=dict)
    custom: Mapping[str, str] = field(default_factory=dict)
    holds: Mapping[str, bool] = field(default_factory=dict)

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
            ApiError: 400, a value is no text, a hold is not true or false, or there is more metadata than may be.
        """
        fields = merged(self.fields, {name: changes[name] for name in SETTABLE if name in changes})
        custom = dict(self.custom)
        if "metadata" in changes:
            given = changes["metadata"]
            if not isinstance(given, dict | None):
                raise invalid("The metadata of an object is a JSON object of texts.")
            custom = {} if given is None else merged(custom, given)
            check_size(custom)
        holds = dict(self.holds)
        for name in HOLDS:
            if name in changes:
                if not isinstance(changes[name], bool | None):
                    raise invalid(f"Invalid value for {name}: {changes[name]!r} is neither true nor false.")
                holds[name] = bool(changes[name])
        return Description(fields, custom, holds)


def check_size(custom: Mapping[str, str]) -> None:
    """Raise when custom metadata is larger than may be.

    Raises:
        ApiError: 400.
    """
    sizes = [(len(name.encode()), len(value.encode())) for name, value in custom.items()]
    if any(name > LONGEST_KEY or value > LONGEST_VALUE for name, value in sizes):
        raise invalid(
            f"Custom metadata has keys of {LONGEST_KEY} and values of {LONGEST_VALUE} bytes at most."
        )
    if sum(map(sum, sizes)) > MOST_METADATA:
        raise invalid(f"The custom metadata of an object has {MOST_METADATA} bytes at most.")


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
    released: str | None = None  # when its event-based hold ended
    retained_until: str | None = None  # see `Policies.dated`

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
        held, holds = (each.holds.get("eventBasedHold") for each in (self.description, description))
        return replace(
            self,
            description=description,
            metageneration=self.metageneration + 1,
            updated=now(),
            released=now() if held and not holds else self.released,
        )

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
            **self.description.holds,
        }
        if self.md5 is not None:
            found["md5Hash"] = self.md5
        if self.description.custom:
            found["metadata"] = dict(self.description.custom)
        if self.components is not None:
            found["componentCount"] = self.components
        if self.retained_until is not None:
            found["retentionExpirationTime"] = self.retained_until
        return found
