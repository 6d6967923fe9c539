"""Every topic, group and transactional id of a pipeline, by name.

Internal topics carry the pipeline's name, so two pipelines share a cluster without meeting; ``predictions.<model>`` and
``drift.<model>`` are public and do not. ``prefix`` goes in front of *everything*, so two runs of one pipeline can
share a cluster too. Names are written here once by hand; nobody else puts a topic name together.

    <prefix><source topic>                                   events, filled by users or by a replay
    <prefix><pipeline>.stage.<entity>[.g<N>]                 route  -> stage worker of the entity (of its generation N)
    <prefix><pipeline>.features.<view>.v<N>                  stage  -> online writer, offline sink
    <prefix><pipeline>.rows.<source>                         stage  -> scorer
    <prefix><pipeline>.late.<source>                         stage  -> whoever watches late events
    <prefix><pipeline>.dead_letters                          route, scorer -> whoever watches bad events
    <prefix><pipeline>.marks                                 replay -> route (one partition)
    <prefix><pipeline>.starts                                apply  -> route, scorer (one partition, compacted)
    <prefix><pipeline>.drift.counts.<model>                  scorer -> drift merger
    <prefix>predictions.<model>, <prefix>drift.<model>       public
"""

import re
from dataclasses import dataclass

from headrace.schemas.errors import SchemaError

MAX_TOPIC_LENGTH = 249  # Kafka's own limit: a partition's folder is <topic>-<partition> in a 255 byte file name
_LEGAL = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class TopicNames:
    """The names one run of one pipeline uses.

    Parameters
    ----------
    pipeline
        ``Pipeline.name``.
    prefix
        Put in front of every name, as it is (a separator is yours to add).

    Examples
    --------
    >>> names = TopicNames("flights", prefix="run7.")
    >>> names.stage("origin"), names.features("origin_departures", 1), names.predictions("late_arrival")
    ('run7.flights.stage.origin', 'run7.flights.features.origin_departures.v1', 'run7.predictions.late_arrival')
    """

    pipeline: str
    prefix: str = ""

    def __post_init__(self) -> None:
        _legal(self.pipeline, "pipeline name")
        if self.prefix:
            _legal(self.prefix, "topic prefix")

    def source(self, topic: str) -> str:
        """The events of a source (``Source.topic``, which may be anyone's topic)."""
        return _topic(self.prefix + topic)

    def stage(self, stage: str) -> str:
        """The one log of everything that concerns an entity, partitioned by its key; one per generation."""
        return self._own(f"stage.{stage}")

    def features(self, view: str, version: int) -> str:
        """The changed feature rows of a view, keyed by entity."""
        return self._own(f"features.{view}.v{version}")

    def rows(self, source: str) -> str:
        """The answers for a scored source, in the partitions of its events."""
        return self._own(f"rows.{source}")

    def late(self, source: str) -> str:
        """What came too late for a view, per source."""
        return self._own(f"late.{source}")

    @property
    def dead_letters(self) -> str:
        """Events that cannot be used, byte for byte, with the reason in the headers."""
        return self._own("dead_letters")

    @property
    def marks(self) -> str:
        """The control topic of a replay (one partition)."""
        return self._own("marks")

    @property
    def starts(self) -> str:
        """Where stages and models begin that were added to a running pipeline (one partition)."""
        return self._own("starts")

    def drift_counts(self, model: str) -> str:
        """Histogram counts, published in the scorer's transactions."""
        return self._own(f"drift.counts.{model}")

    def predictions(self, model: str) -> str:
        """PUBLIC: the predictions of a model."""
        return _topic(f"{self.prefix}predictions.{model}")

    def drift(self, model: str) -> str:
        """PUBLIC: the drift reports of a model."""
        return _topic(f"{self.prefix}drift.{model}")

    def group(self, role: str) -> str:
        """The consumer group of a role (``route``, ``stage.origin``, ``score.scheduled`` …)."""
        return self._own(role)

    def transactional_id(self, role: str, member: str | int) -> str:
        """The transactional id of one replica; stable over its restarts, so that a restart fences its former self."""
        return self._own(f"{role}.{member}")

    def _own(self, rest: str) -> str:
        return _topic(f"{self.prefix}{self.pipeline}.{rest}")


def _topic(name: str) -> str:
    if len(name) > MAX_TOPIC_LENGTH:
        raise SchemaError(f"topic {name[:60]}…: {len(name)} characters; shorten its parts to fit {MAX_TOPIC_LENGTH}")
    return _legal(name, "topic")


def _legal(name: str, what: str) -> str:
    if not _LEGAL.fullmatch(name) or name in (".", ".."):
        raise SchemaError(f"{what} {name!r}: Kafka allows only letters, digits, '.', '_' and '-'; rename it")
    return name
