"""What a bucket demands of all that goes on in it: retention, holds, and who pays.

The answers are those that Cloud Storage was seen to give (a report of 2026-09-30, with its bodies), where they differ
from the reference: a held object is refused with the reason `forbidden`, not `objectUnderActiveHold`.
Sources: https://cloud.google.com/storage/docs/bucket-lock, …/object-holds, …/requester-pays
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from etl.testing.gcs_server.answers import ApiError, invalid
from etl.testing.gcs_server.resources import StoredObject, now

# In seconds: less than 100 years.
# Source: https://cloud.google.com/storage/docs/json_api/v1/buckets#resource
LONGEST_RETENTION = 100 * 365 * 24 * 3600

# What a bucket has that this server only remembers: nothing that it deletes is listed again, with soft delete or not.
REMEMBERED = ("softDeletePolicy", "labels")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """The settings of a bucket that decide whether a request is carried out.

    Attributes:
        retention: for how many seconds each object is kept; None: for none.
        effective: since when that is so.
        locked: whether the policy can only become longer.
        holds: whether new objects are under an event-based hold.
        requester_pays: whether each request must name the project that pays.
        remembered: fields that are answered as they were set.
        metageneration: of the bucket; grows with each change.
    """

    retention: int | None = None
    effective: str = ""
    locked: bool = False
    holds: bool = False
    requester_pays: bool = False
    remembered: Mapping[str, Any] | None = None
    metageneration: int = 1

    def patched(self, bucket: str, changes: Mapping[str, Any]) -> Policies:
        """Return a copy with the fields of a bucket's resource merged in.

        Raises:
            ApiError: 400, a value makes no sense; 403, the policy is locked and would become shorter.
        """
        found = replace(self, metageneration=self.metageneration + 1)
        if "retentionPolicy" in changes:
            found = found._retaining(bucket, changes["retentionPolicy"])
        if "defaultEventBasedHold" in changes:
            found = replace(found, holds=bool(changes["defaultEventBasedHold"]))
        if "billing" in changes:
            found = replace(
                found, requester_pays=bool((changes["billing"] or {}).get("requesterPays", False))
            )
        kept = {name: changes[name] for name in REMEMBERED if name in changes}
        return replace(found, remembered={**(self.remembered or {}), **kept}) if kept else found

    def _retaining(self, bucket: str, policy: Mapping[str, Any] | None) -> Policies:
        if policy is None:
            if self.locked:
                message = f"Bucket '{bucket}' has a locked Retention Policy which cannot be removed."
                raise ApiError(403, "retentionPolicyNotMet", message)
            return replace(self, retention=None, effective="")
        try:
            seconds = int(policy["retentionPeriod"])
        except (KeyError, TypeError, ValueError) as error:
            raise invalid("A retention policy has a retentionPeriod, in seconds.") from error
        if not 0 < seconds < LONGEST_RETENTION:
            raise invalid(f"Invalid retentionPeriod: {seconds}.")
        if self.locked and self.retention is not None and seconds < self.retention:
            message = f"Cannot reduce retention duration of a locked Retention Policy for bucket '{bucket}'."
            raise ApiError(403, "retentionPolicyNotMet", message)
        return replace(self, retention=seconds, effective=now())

    def lock(self) -> Policies:
        """Return a copy whose retention policy cannot become shorter any more.

        Raises:
            ApiError: 400, there is none.
        """
        if self.retention is None:
            raise invalid("The bucket has no retention policy that could be locked.")
        return replace(self, locked=True, metageneration=self.metageneration + 1)

    def resource(self) -> dict[str, Any]:
        """Return what of it stands in the bucket's resource."""
        found: dict[str, Any] = {"metageneration": str(self.metageneration), **(self.remembered or {})}
        if self.retention is not None:
            policy = {"retentionPeriod": str(self.retention), "effectiveTime": self.effective}
            found["retentionPolicy"] = policy | ({"isLocked": True} if self.locked else {})
        if self.holds:
            found["defaultEventBasedHold"] = True
        if self.requester_pays:
            found["billing"] = {"requesterPays": True}
        return found

    def dated(self, found: StoredObject) -> StoredObject:
        """Return the object with the time until which the retention policy keeps it, as its resource shows it."""
        until = None
        if self.retention is not None and not found.description.holds.get("eventBasedHold"):
            until = _later(found.released or found.created, self.retention)
        return found if found.retained_until == until else replace(found, retained_until=until)

    def check_free(self, found: StoredObject) -> None:
        """Raise when the object must neither be deleted nor replaced now.

        Raises:
            ApiError: 403.
        """
        place = f"Object '{found.bucket}/{found.name}'"
        for hold, name in (("eventBasedHold", "Event-Based"), ("temporaryHold", "Temporary")):
            if found.description.holds.get(hold):
                raise ApiError(
                    403,
                    "forbidden",
                    f"{place} is under active {name} hold and cannot be deleted, overwritten or archived until hold is "
                    "removed.",
                )
        until = self.dated(found).retained_until
        if until is not None and now() < until:
            raise ApiError(
                403,
                "retentionPolicyNotMet",
                f"{place} is subject to bucket's retention policy or object retention and cannot be deleted or "
                f"overwritten until {until}",
            )


def _later(time: str, seconds: int) -> str:
    until = datetime.fromisoformat(time) + timedelta(seconds=seconds)
    return until.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
