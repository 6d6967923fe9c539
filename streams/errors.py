"""Errors of the hosts; the root of the tree is `headrace.schemas.errors`.

    ServiceError
    ├── DeliveryError    a record handed to a producer was not delivered: purge, exit, restart from what was committed
    ├── CommitError      offsets could not be committed: another member owns the partitions now, or the broker refuses
    ├── EventFileError   a file of events is missing, unreadable or does not fit the schema
    ├── GapError         a log no longer reaches back to where a host has to continue
    ├── PlacementError   an event does not lie in the partition of its entity, where the source topic is a stage's log
    └── SnapshotError    a snapshot cannot be written or does not belong to what wants to restore it
"""

from headrace.schemas.errors import ServiceError, SettingsError

__all__ = [
    "CommitError", "DeliveryError", "EventFileError", "GapError", "PlacementError", "ServiceError",
    "SettingsError", "SnapshotError",
]


class DeliveryError(ServiceError):
    """A record was not delivered; the worker must stop without committing and restart."""


class CommitError(ServiceError):
    """Offsets could not be committed."""


class EventFileError(ServiceError):
    """A file of events is missing, cannot be read or does not fit the schema."""


class GapError(ServiceError):
    """The retained log no longer reaches back to the offset a host has to continue from."""


class PlacementError(ServiceError):
    """An event does not lie in the partition of its entity, and its topic is read as the log of the entity's stage."""


class SnapshotError(ServiceError):
    """A snapshot cannot be written, read, or does not belong to this shard."""
