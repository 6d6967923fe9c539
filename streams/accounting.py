"""Has everything been worked off? Committed positions of all groups against the ends of what they read."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from headrace.features.topology import Topology
from headrace.schemas.errors import ServiceError
from headrace.schemas.topics import TopicNames
from headrace.streams.offsets import Offsets, Partition
from headrace.streams.settings import Settings
from headrace.streams.stage_logs import log_topics

POLL_S = 0.25


@dataclass(frozen=True)
class Backlog:
    """Records a group has not committed yet, by group; 0 everywhere means settled."""

    records: dict[str, int]

    @property
    def total(self) -> int:
        """All groups together."""
        return sum(self.records.values())


class Accounting:
    """Watches the groups of one pipeline.

    Groups are asked in the order of the flow: what a later group has to read is counted after the earlier one was
    asked, so a total of 0 really means that nothing is left between them.
    """

    def __init__(self, topology: Topology, settings: Settings, partitions: int, models: Sequence[str] = ()) -> None:
        names = TopicNames(topology.pipeline, settings.prefix)
        self._settings = settings
        sources = [names.source(source.topic) for source in topology.sources]
        stages = log_topics(topology, names)
        views = [names.features(v.name, v.version) for stage in topology.stages for v in stage.view_specs]
        self._reads: list[tuple[str, list[Partition]]] = [
            (names.group("route"), _all(sources, partitions)),
            (names.group("stage"), _all(stages, partitions)),
        ]
        self._source_groups = {names.group("route")}
        for source in topology.scored:
            one = topology.sources[source]
            group = names.group(f"score.{one.name}")
            self._reads.append((group, _all([names.source(one.topic)], partitions)))
            self._source_groups.add(group)
        self._reads.append((names.group("write"), _all(views, partitions)))
        self._reads.append((names.group("drift"), _all([names.drift_counts(model) for model in models], 1)))
        self._offsets = {group: Offsets(settings, group) for group, _ in self._reads}

    def backlog(self) -> Backlog:
        """Ask the brokers once."""
        left = {}
        for group, reads in self._reads:
            ends = self._offsets[group].ends(reads)
            done = self._offsets[group].committed(reads)
            left[group] = sum(end - (done[place] or 0) for place, end in ends.items())
        return Backlog(left)

    def settle(
        self, timeout_s: float, check: Callable[[], None], progress: Callable[[Backlog], None] = lambda _: None
    ) -> None:
        """Wait until every group has committed all there is.

        Parameters
        ----------
        timeout_s : float
            Without any progress.
        check : callable
            Called every round; raises when a worker has died.

        Raises
        ------
        ServiceError
            Nothing moved for `timeout_s`; the message says which group stands still and where.
        """
        self._wait(self.backlog, timeout_s, check, progress)

    def settle_scored(self, timeout_s: float, check: Callable[[], None]) -> None:
        """Wait until what the sources hold now is routed, and scored where a model asks; raises as `settle`.

        On live topics nothing more can be waited for: ticks never end, so stages always have something left to read.
        """
        route, *_ = groups = [each for each in self._reads if each[0] in self._source_groups]
        ends = self._offsets[route[0]].ends(route[1])

        def left() -> Backlog:
            found = {}
            for group, reads in groups:
                done = self._offsets[group].committed(reads)
                found[group] = sum(max(0, ends[place] - (done[place] or 0)) for place in reads)
            return Backlog(found)

        self._wait(left, timeout_s, check)

    @staticmethod
    def _wait(
        ask: Callable[[], Backlog], timeout_s: float, check: Callable[[], None],
        progress: Callable[[Backlog], None] = lambda _: None,
    ) -> None:
        last, moved_at = None, time.monotonic()
        while True:
            check()
            backlog = ask()
            progress(backlog)
            if backlog.total == 0:
                return
            if backlog != last:
                last, moved_at = backlog, time.monotonic()
            elif time.monotonic() - moved_at > timeout_s:
                waiting = ", ".join(f"{group} {count}" for group, count in backlog.records.items() if count)
                raise ServiceError(
                    f"nothing moved for {timeout_s:.0f} s; records left by group: {waiting}. The workers' logs say why"
                )
            time.sleep(POLL_S)


def _all(topics: Sequence[str], partitions: int) -> list[Partition]:
    return [(topic, partition) for topic in topics for partition in range(partitions)]
