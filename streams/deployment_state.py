"""How a running pipeline stands in its sources: what `deployment` decides by."""

from collections.abc import Mapping

from headrace.features.topology import Topology
from headrace.models import Pipeline
from headrace.schemas.topics import TopicNames
from headrace.streams.apply_plan import TopicState
from headrace.streams.clocks import clocks_of
from headrace.streams.commit_texts import committed_texts
from headrace.streams.deployment import Standing
from headrace.streams.offsets import Offsets
from headrace.streams.reset_plan import SourceLog
from headrace.streams.settings import Settings
from headrace.streams.starts import MODEL, STAGE, Starts


def standing_of(
    pipeline: Pipeline, topology: Topology, settings: Settings, starts: Starts, topics: Mapping[str, TopicState]
) -> dict[str, dict[int, Standing]]:
    """Return every source partition as the pipeline stands in it; nothing where it does not run, or adds nothing.

    Raises
    ------
    ServiceError
        Kafka does not answer.
    """
    names = TopicNames(pipeline.name, settings.prefix)
    known = {stage.name for stage in topology.stages} <= starts.names(STAGE)
    if known and {model.name for model in pipeline.models} <= starts.names(MODEL):
        return {}
    sources = {source.name: names.source(source.topic) for source in topology.sources}
    places = {
        name: [(topic, number) for number in range(topics[topic].partitions)]
        for name, topic in sources.items() if topic in topics
    }
    every = [at for some in places.values() for at in some]
    route = Offsets(settings, names.group("route"))
    if all(offset is None for offset in route.committed(every).values()):
        return {}
    first, end = route.starts(every), route.ends(every)
    begins, texts = route.first_at(dict.fromkeys(every, 0)), committed_texts(settings, names.group("route"))
    return {
        name: {
            at[1]: Standing(
                SourceLog(*at, first[at], end[at], begins[at][1] if begins[at] else None, end[at], first[at]),
                clocks_of(texts.get(at, ""))[0], scored.get(at[1]),
            )
            for at in some
        }
        for name, some in places.items()
        for scored in [_scored(settings, names, name, some, topics)]
    }


def _scored(
    settings: Settings, names: TopicNames, source: str, places: list[tuple[str, int]], topics: Mapping[str, TopicState]
) -> dict[int, tuple[int, int]]:
    """Where the scorer of a source stands, by partition; nothing if there is none."""
    group, rows = Offsets(settings, names.group(f"score.{source}")), names.rows(source)
    answers = [(rows, number) for _, number in places] if rows in topics else []
    committed = group.committed([*places, *answers])
    return {
        number: (committed[topic, number], committed.get((rows, number)) or 0)
        for topic, number in places if committed[topic, number] is not None
    }
