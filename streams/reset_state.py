"""What a cluster says about a pipeline that is to be reset: groups, members, offsets, logs, snapshots. Reads only."""

from collections.abc import Iterable, Mapping, Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from headrace.features.topology import Topology
from headrace.models import Pipeline
from headrace.schemas.topics import TopicNames
from headrace.streams.collect import read_records
from headrace.streams.commit_texts import committed_texts
from headrace.streams.errors import ServiceError
from headrace.streams.history import warm_up_ms
from headrace.streams.incarnations import FIRST_INCARNATION, history_of, incarnation_of
from headrace.streams.lanes import LETTERS
from headrace.streams.offsets import Offsets, Partition
from headrace.streams.registry import open_registry
from headrace.streams.reset_plan import (
    Emptied,
    Move,
    ResetPlan,
    SourceLog,
    gap_of,
    loaded_gap,
    score_moves,
    source_moves,
)
from headrace.streams.served import served_text
from headrace.streams.settings import Settings
from headrace.streams.snapshots import snapshot_files
from headrace.streams.stage_logs import log_topic, routed_logs, routed_stages
from headrace.streams.starts import read_starts

ANSWER_S = 10.0
PEEK_S = 10.0         # for one record that is there, or the position behind control records
RESET_ROLE = "reset"  # a group that nobody joins: it remembers the incarnation while a reset is under way


class Cluster:
    """One pipeline on one cluster, as a reset sees it.

    Parameters
    ----------
    pipeline, topology
    settings : Settings
    """

    def __init__(self, pipeline: Pipeline, topology: Topology, settings: Settings) -> None:
        self.pipeline, self.topology, self.settings = pipeline, topology, settings
        self.names = names = TopicNames(pipeline.name, settings.prefix)
        self.stage_topics = routed_logs(topology, names)
        self.read_by_stages = [topology.sources[stage.sources[0]].name for stage in topology.stages if stage.identity]
        self.scored = {
            names.group(f"score.{topology.sources[number].name}"): topology.sources[number]
            for number in topology.scored
        }
        self.rows_topics = [names.rows(source.name) for source in self.scored.values()]
        self.groups = [names.group("route"), names.group("stage"), *self.scored, names.group("write")]
        self._admin = AdminClient(settings.client())
        self._offsets = {group: Offsets(settings, group) for group in self.groups}
        self._any = next(iter(self._offsets.values()))

    def plan(self, at_ms: int) -> ResetPlan:
        """Return what a reset to a time does; nothing is changed.

        Raises
        ------
        ServiceError
            Kafka or the registry does not answer, or a topic is missing.
        """
        sources = {source.name: self.names.source(source.topic) for source in self.topology.sources}
        counts = [self.names.drift_counts(model.name) for model in self.pipeline.models]
        self._any.require([*sources.values(), *self.stage_topics, *self.rows_topics, *counts])
        places = self.places([*sources.values(), *self.stage_topics, *self.rows_topics])
        back = warm_up_ms(self.topology)
        needed_ms = None if back is None else at_ms - back
        logs = {name: self.logs(places[topic], at_ms, needed_ms) for name, topic in sources.items()}
        every = [log for some in logs.values() for log in some]
        moves = source_moves(self.groups[0], every, self.committed(self.groups[0], sources.values(), places))
        lagging: list[str] = []
        scored_from: dict[str, dict[int, int]] = {}
        for group, source in self.scored.items():
            topic, rows = sources[source.name], self.names.rows(source.name)
            committed = self.committed(group, [topic, rows], places)
            own = score_moves(group, logs[source.name], committed)
            behind = [self._lag(move, log) for move, log in zip(own, logs[source.name], strict=True)]
            lagging += [text for text in behind if text is not None]
            scored_from[source.name] = {move.partition: move.after for move in own}
            # answers of before are passed over, not deleted: the sink names its files by their offsets
            ends = self._any.ends(places[rows])
            moves += own + [Move(group, *at, committed[at], ends[at]) for at in places[rows]]
        stage = self.committed(self.groups[1], [sources[name] for name in self.read_by_stages], places)
        own = [log for name in self.read_by_stages for log in logs[name]]
        moves += [move._replace(begins=True) for move in source_moves(self.groups[1], own, stage)]
        stage = self.committed(self.groups[1], self.stage_topics, places)
        moves += [Move(self.groups[1], *at, before, 0) for at, before in stage.items()]
        incarnation, history_ms = self.next_incarnation()
        sizes = self._sizes([at for topic in self.stage_topics for at in places[topic]])
        return ResetPlan(
            self.pipeline.name, at_ms, moves, [Emptied(topic, count) for topic, count in sizes.items()],
            [self._drift(model, scored_from[model.scores.name]) for model in self.pipeline.models],
            snapshot_files(self.settings.state_url, self.groups[1]), incarnation,
            [*loaded_gap(history_ms, needed_ms), *(text for log in every if (text := gap_of(log, needed_ms, back)))],
            lagging, self.members(),
        )

    def beside(self, move: Move) -> str:
        """What is committed beside a moved offset: everything that is served goes on there, whenever it was added."""
        names: list[str] = []
        for number, source in enumerate(self.topology.sources):
            if move.topic != self.names.source(source.topic):
                continue
            if move.group == self.groups[0]:
                names = [LETTERS, *(stage.name for stage in routed_stages(self.topology) if number in stage.sources)]
            elif move.group in self.scored:
                names = [model.name for model in self.pipeline.models if model.scores.name == source.name]
        return served_text({name: (move.after,) for name in names}, move.after) if names else ""

    def places(self, topics: Iterable[str]) -> dict[str, list[Partition]]:
        """Return the partitions of topics that are there."""
        counts = self.partition_counts()
        return {topic: [(topic, number) for number in range(counts[topic])] for topic in topics}

    def partition_counts(self) -> dict[str, int]:
        """Return how many partitions every topic has that is there."""
        try:
            known = self._admin.list_topics(timeout=ANSWER_S).topics
        except KafkaException as error:
            where = f"no Kafka broker answers at {self.settings.bootstrap}"
            raise ServiceError(f"{where}: {error.args[0].str()}; is it running?") from error
        return {name: len(topic.partitions) for name, topic in known.items()}

    def logs(self, places: Sequence[Partition], at_ms: int, needed_ms: int | None) -> list[SourceLog]:
        """Return what source partitions hold, seen from a time; `needed_ms` None: all is needed."""
        starts, ends = self._any.starts(places), self._any.ends(places)
        firsts, at = (self._any.first_at(dict.fromkeys(places, ms)) for ms in (0, at_ms))
        needed = firsts if needed_ms is None else self._any.first_at(dict.fromkeys(places, needed_ms))
        return [
            SourceLog(
                *one, starts[one], ends[one], firsts[one][1] if firsts[one] else None,
                at[one][0] if at[one] else ends[one],
                starts[one] if needed_ms is None else needed[one][0] if needed[one] else ends[one],
            )
            for one in places
        ]

    def committed(
        self, group: str, topics: Iterable[str], places: Mapping[str, Sequence[Partition]]
    ) -> dict[Partition, int | None]:
        """Return a group's next offsets in all partitions of some topics; None where it has none."""
        return self._offsets[group].committed([at for topic in topics for at in places[topic]])

    def _lag(self, move: Move, log: SourceLog) -> str | None:
        """Say that events before T were never scored; control records alone are none."""
        if move.after >= log.at or not self._has_record(log.topic, log.partition, move.after, log.at):
            return None
        return (
            f"{log.topic}[{log.partition}]: scored up to offset {move.after}, {log.at - move.after} before the time to "
            "go back to"
        )

    def _has_record(self, topic: str, partition: int, begin: int, end: int) -> bool:
        consumer = Consumer(self.settings.client(
            group__id=self.names.group(RESET_ROLE), isolation__level="read_committed", enable__auto__commit=False,
            auto__offset__reset="error", enable__partition__eof=True,
        ))
        try:
            consumer.assign([TopicPartition(topic, partition, begin)])
            message = consumer.poll(PEEK_S)
            return message is not None and message.error() is None and message.offset() < end
        finally:
            consumer.close()

    def _sizes(self, places: Sequence[Partition]) -> dict[str, int]:
        starts, ends = self._any.starts(places), self._any.ends(places)
        found: dict[str, int] = {}
        for at in places:
            found[at[0]] = found.get(at[0], 0) + ends[at] - starts[at]
        return found

    def _drift(self, model, scored_from: Mapping[int, int]) -> Emptied:
        topic, registry = self.names.drift_counts(model.name), open_registry(self.settings)
        kept = [stays(record, scored_from) for record in read_records(self.settings, topic, registry)]
        return Emptied(topic, len(kept), sum(kept))

    def members(self) -> dict[str, list[str]]:
        """Return who is alive, by group."""
        found = {}
        for group, answer in self._admin.describe_consumer_groups(self.groups, request_timeout=ANSWER_S).items():
            try:
                members = answer.result().members
            except KafkaException as error:
                if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:   # nobody ever joined
                    continue
                raise ServiceError(f"group {group}: {error.args[0].str()}") from error
            if members:
                found[group] = sorted(f"{one.group_instance_id or one.client_id} at {one.host}" for one in members)
        return found

    def next_incarnation(self) -> tuple[int, int | None]:
        """Return the incarnation that wins over all so far, and up to when (ms) state was loaded from files, if any."""
        beside = committed_texts(self.settings, self.groups[1])
        said = [*beside.values(), *commit_metadata(self.settings, [self.names.group(RESET_ROLE)])]
        loaded = [history_ms for text in said if (history_ms := history_of(text)) is not None]
        starts, begun = read_starts(self.settings, self.names), {topic for topic, _ in beside}
        waiting = [stage for stage in self.topology.stages if log_topic(self.topology, stage, self.names) not in begun]
        loaded += [start.clock for stage in waiting if (start := starts.loaded(stage.name)) is not None]
        return 1 + max(map(incarnation_of, said), default=FIRST_INCARNATION), max(loaded, default=None)


def stays(record: Mapping, scored_from: Mapping[int, int]) -> bool:
    """Whether drift counts speak of nothing that is scored again."""
    return record["to_offset"] <= scored_from.get(record["partition"], 0)


def commit_metadata(settings: Settings, groups: Iterable[str]) -> list[str]:
    """Return what stands beside the offsets that some groups have committed; blocks, raises as `committed_texts`."""
    return [text for group in groups for text in committed_texts(settings, group).values()]
