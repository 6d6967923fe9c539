"""One look at a running pipeline: what its roles wrote down, and what Kafka knows of them.

Status files say more, Kafka says it of every container. Nothing is judged here; `status_report` makes sense of it.
"""

import json
import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from headrace.features.topology import Topology
from headrace.models import Pipeline
from headrace.schemas.topics import TopicNames
from headrace.streams.clocks import clocks_of
from headrace.streams.group_offsets import member_of
from headrace.streams.offsets import Partition
from headrace.streams.settings import Settings
from headrace.streams.sink_topics import sink_topics
from headrace.streams.stage_logs import log_topics
from headrace.streams.status import now_ms

REQUEST_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Reads:
    """What one group of a pipeline reads.

    Attributes
    ----------
    role : str
        ``route``, ``stage``, ``score.<source>``, ``write``, ``drift``, ``sink``.
    group : str
    topics : mapping of topic to str
        To the name that status files use in place of the topic: a source's own name, but for stages that read it.
    """

    role: str
    group: str
    topics: Mapping[str, str]


def reads_of(topology: Topology, pipeline: Pipeline, prefix: str) -> list[Reads]:
    """Return what every group of a pipeline reads, in the order of the flow; that of the sink even if there is none."""
    names = TopicNames(topology.pipeline, prefix)
    sources = {names.source(source.topic): source.name for source in topology.sources}
    stages = log_topics(topology, names)
    views = [names.features(v.name, v.version) for stage in topology.stages for v in stage.view_specs]
    found = [Reads("route", names.group("route"), sources), Reads("stage", names.group("stage"), _own(stages))]
    for number in topology.scored:
        source = topology.sources[number]
        events, rows = names.source(source.topic), names.rows(source.name)
        found.append(Reads(f"score.{source.name}", names.group(f"score.{source.name}"),
                           {events: source.name, rows: rows}))
    found.append(Reads("write", names.group("write"), _own(views)))
    counts = [names.drift_counts(model.name) for model in pipeline.models]
    found.append(Reads("drift", names.group("drift"), _own(counts)))
    return [*found, Reads("sink", names.group("sink"), _own(sink_topics(topology, pipeline, names)))]


def _own(topics: Sequence[str]) -> dict[str, str]:
    return {topic: topic for topic in topics}


@dataclass(frozen=True)
class Place:
    """What Kafka knows of one partition that a group reads.

    Attributes
    ----------
    end : int
        High watermark.
    newest_ms : int or None
        Largest Kafka time in the log; None when it is empty.
    committed : int or None
    clock : int or None
        What route has committed beside the offset, None for the other roles.
    counts : dict
        Likewise.
    owner : str or None
        Worker id of the member that has it now.
    """

    end: int
    newest_ms: int | None
    committed: int | None
    clock: int | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    owner: str | None = None


@dataclass(frozen=True)
class Look:
    """What was seen at one moment.

    Attributes
    ----------
    at_ms : int
        Wall clock.
    files : mapping of name to dict
        Status files, as the roles wrote them; ``process.gone`` says that its process ran here and does not any more.
    up : dict or None
        What a supervisor that runs now says of itself.
    places : mapping of role to {(topic, partition): Place}
        Empty when Kafka did not answer.
    ends : mapping of topic to int
        Records ever written to the side topics: dead letters, late events.
    members : mapping of role to list of str
        Worker ids in the group.
    silent_kafka : str or None
        Why Kafka's part is missing.
    """

    at_ms: int
    files: Mapping[str, dict[str, Any]]
    up: Mapping[str, Any] | None = None
    places: Mapping[str, Mapping[Partition, Place]] = field(default_factory=dict)
    ends: Mapping[str, int] = field(default_factory=dict)
    members: Mapping[str, list[str]] = field(default_factory=dict)
    silent_kafka: str | None = None


class Observer:
    """Looks at one pipeline again and again.

    Parameters
    ----------
    topology : Topology
    pipeline : Pipeline
    settings : Settings
    status_folder : Path
        Need not exist.
    """

    def __init__(self, topology: Topology, pipeline: Pipeline, settings: Settings, status_folder: Path) -> None:
        self.reads = reads_of(topology, pipeline, settings.prefix)
        names = TopicNames(topology.pipeline, settings.prefix)
        self._side = [names.dead_letters, *(names.late(source.name) for source in topology.sources)]
        self._folder, self._settings = status_folder, settings
        self._admin = AdminClient(settings.client(client__id="headrace.status", log_level=0))

    def look(self, up: Mapping[str, Any] | None) -> Look:
        """Look once; blocks while Kafka is asked, at most some seconds."""
        files = read_files(self._folder)
        try:
            places, ends, members = self._ask()
        except KafkaException as error:
            why = f"no answer from {self._settings.bootstrap}: {error.args[0].str()}"
            return Look(now_ms(), files, up, silent_kafka=why)
        return Look(now_ms(), files, up, places, ends, members)

    def _ask(self) -> tuple[dict[str, dict[Partition, Place]], dict[str, int], dict[str, list[str]]]:
        topics = self._admin.list_topics(timeout=REQUEST_TIMEOUT_S).topics
        owners = {reads.role: self._owners(reads.group) for reads in self.reads}
        committed = {
            reads.role: self._committed(reads.group, _partitions(reads.topics, topics)) for reads in self.reads
        }
        # Ends after commits: a lag is never negative.
        wanted = [at for reads in self.reads for at in _partitions(reads.topics, topics)]
        side = _partitions(self._side, topics)
        ends = self._listed([*wanted, *side], OffsetSpec.latest(), "offset")
        newest = self._listed(wanted, OffsetSpec.max_timestamp(), "timestamp")
        places = {
            role: {
                at: Place(ends[at], newest[at] if newest[at] >= 0 else None, *told, owners[role].get(at))
                for at, told in found.items()
            }
            for role, found in committed.items()
        }
        members = {role: sorted(set(found.values())) for role, found in owners.items()}
        counted: dict[str, int] = {}
        for topic, partition in side:
            counted[topic] = counted.get(topic, 0) + ends[topic, partition]
        return places, counted, members

    def _listed(self, partitions: Sequence[Partition], spec: OffsetSpec, what: str) -> dict[Partition, int]:
        request = {TopicPartition(*at): spec for at in dict.fromkeys(partitions)}
        futures = self._admin.list_offsets(request, request_timeout=REQUEST_TIMEOUT_S) if request else {}
        return {(asked.topic, asked.partition): getattr(one.result(), what) for asked, one in futures.items()}

    def _committed(
        self, group: str, partitions: Sequence[Partition]
    ) -> dict[Partition, tuple[int | None, int | None, dict[str, int]]]:
        if not partitions:
            return {}
        request = ConsumerGroupTopicPartitions(group, [TopicPartition(*at) for at in partitions])
        answers = self._admin.list_consumer_group_offsets([request], request_timeout=REQUEST_TIMEOUT_S)[group].result()
        found = {}
        for each in answers.topic_partitions:
            offset = each.offset if each.error is None and each.offset >= 0 else None
            found[each.topic, each.partition] = (offset, *_noted(each))
        return found

    def _owners(self, group: str) -> dict[Partition, str]:
        described = self._admin.describe_consumer_groups([group], request_timeout=REQUEST_TIMEOUT_S)[group].result()
        return {
            (place.topic, place.partition): _worker_of(member, group)
            for member in described.members if member.assignment is not None
            for place in member.assignment.topic_partitions
        }


def read_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Return all status files of a folder by name; none if it is not there."""
    found, host = {}, socket.gethostname()
    for path in sorted(folder.glob("*.json")):
        try:
            found[path.stem] = json.loads(path.read_text())
        except FileNotFoundError:   # a supervisor is making room
            continue
        process = found[path.stem]["process"]
        process["gone"] = process["host"] == host and not _alive(process["pid"])
    return found


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:   # somebody else's, so there
        return True
    return True


def _partitions(topics: Sequence[str] | Mapping[str, str], existing: Mapping[str, Any]) -> list[Partition]:
    return [(topic, partition) for topic in topics if topic in existing for partition in existing[topic].partitions]


def _worker_of(member: Any, group: str) -> str:
    """The worker id of a member: roles put it behind the group in their ids."""
    named = member_of(member.group_instance_id or member.client_id)
    return named.removeprefix(f"{group}.")


def _noted(place: TopicPartition) -> tuple[int | None, dict[str, int]]:
    """Clock and counts that route commits beside an offset; the client may find strange bytes behind them."""
    try:
        text = place.metadata or ""
    except UnicodeDecodeError:
        return None, {}
    if not re.match(r"clock=", text):
        return None, {}
    rest = text.partition(";")[2]
    try:
        counts = json.JSONDecoder().raw_decode(rest)[0] if rest.startswith("{") else {}
    except json.JSONDecodeError:
        counts = {}
    return clocks_of(text)[0], counts
