"""Live runs of the shop: paced events, accidents on the way, and the proof against a replay of what was recorded."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from feast import FeatureStore

from headrace.features import FeatureView
from headrace.features.feast_encoding import store_project, store_views
from headrace.features.kernel.limits import NO_CLOCK
from headrace.features.stage import StageOutput
from headrace.models.vector import VectorLayout
from headrace.schemas.registry import Registry
from headrace.schemas.topics import TopicNames
from headrace.streams.accounting import Accounting
from headrace.streams.agreement import Agreement
from headrace.streams.collect import read_table
from headrace.streams.dataset import replay_scored
from headrace.streams.evaluation import Comparison, same_bits
from headrace.streams.event_files import Events
from headrace.streams.explaining import Explainer
from headrace.streams.explanation import Explanation
from headrace.streams.feast_reads import read_entities
from headrace.streams.publish import publish_live, steady
from headrace.streams.recorded import read_recorded
from headrace.streams.store import store_client
from headrace.streams.store_reads import Wanted, read_rows
from headrace.streams.trial import STALLED_S
from headrace.streams.trial_report import LastRows, dead_letters, feast_parity, late_counts, streamed_matrix
from tests.e2e.harness import Running

RATE_PER_S = 300.0


@dataclass(frozen=True)
class LiveFindings:
    """What a live run brought forth, held against the replay of its source topics."""

    events: int
    predictions: int
    expected: int
    duplicates: int
    unknown: int                 # predictions of places where the replay has no accepted event
    parity: Comparison
    feast: Comparison
    swept: dict[str, int]        # by view, stored rows that a sweep wrote
    late: int
    dead_letters: dict[str, int]
    explained: Agreement         # all predictions, recomputed by `headrace explain`
    releases: int                # outputs of stage cores in the replay: it has folded something


class Live:
    """A live run under way."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.names = TopicNames(running.shop.pipeline.name, running.settings.prefix)
        self.registry = Registry(running.settings.registry)
        self._feast: FeatureStore | None = None
        self.topology, self.store = running.shop.topology, store_client(running.settings.redis)
        self.layouts = store_views(self.topology, store_project(self.topology.pipeline, running.settings.prefix))
        self.accounting = Accounting(running.shop.topology, running.settings, running.plan.partitions)

    def publish(self, events: Sequence[Events], meddle: Callable[[float], None] = lambda elapsed_s: None) -> None:
        """Send events at a steady rate; `meddle` is called all the while with the seconds since the start."""
        started = time.monotonic()

        def step() -> bool:
            meddle(time.monotonic() - started)
            return False

        publish_live(events, steady(RATE_PER_S), self.names, self.running.settings, self.registry, until=step)

    def ready(self, routes: int = 1) -> None:
        """Wait until every partition has an owner and every shard a clock."""
        def clocked() -> bool:
            return all(shard["theta"] > NO_CLOCK for shard in self.running.shards().values())

        self.running.wait(lambda: self.running.assigned(routes) and clocked(), "all is assigned and has a clock")

    def settle_scored(self) -> None:
        """Wait until all that was sent is scored."""
        self.accounting.settle_scored(STALLED_S, self.running.cluster.check)

    def settle(self) -> None:
        """Wait until all that was sent is scored, folded by every shard, delivered and in the store."""
        self.settle_scored()
        sent_ms = time.time_ns() // 1_000_000
        folded: dict[str, int] = {}   # shard to its position when its clocks had passed all that was sent

        def delivered() -> bool:
            shards = self.running.shards()
            for name, shard in shards.items():
                if shard["theta"] > sent_ms:
                    folded.setdefault(name, shard["next_offset"])
            return bool(folded) and all(
                name in folded and shard["committed"] >= folded[name] for name, shard in shards.items()
            )

        self.running.wait(delivered, "every shard has delivered what the events gave")
        write = self.names.group("write")
        self.running.wait(lambda: self.accounting.backlog().records[write] == 0, "the store is written")

    def stored_versions(self, stage: int, view: int, keys: Sequence[bytes]) -> list[tuple[int, int]]:
        """Version (seq, sweep instant) of the stored row of every key."""
        wanted = Wanted(self.topology.stages[stage].entity, self.layouts[self.uid(stage, view)], keys)
        [found] = read_rows(self.store, [wanted])
        return list(zip(found.seq.tolist(), found.instant.tolist(), strict=True))

    def uid(self, stage: int, view: int) -> str:
        """Uid of a view."""
        return self.topology.stages[stage].views[view].uid

    def swept(self, last: LastRows) -> dict[str, int]:
        """Count the stored rows that a sweep wrote, by view."""
        return {
            plan.uid: sum(instant > 0 for _, instant in self.stored_versions(number, view, sorted(last.rows[plan.uid])))
            for number, stage in enumerate(self.topology.stages) for view, plan in enumerate(stage.views)
        }

    def stock_rows(self, view: FeatureView, keys: Sequence[bytes]) -> dict[bytes, dict]:
        """What Feast's own client reads."""
        if self._feast is None:
            self._feast = FeatureStore(repo_path=str(self.running.plan.folder / "feast"))
        return read_entities(self._feast, view, keys)

    def explained(self) -> Explanation:
        """The newest prediction, as `headrace explain` has it."""
        table = read_table(self.running.settings, self.names.predictions("disputed"), self.registry)
        newest = max(table.select(["event_time", "id"]).to_pylist(), key=lambda row: row["event_time"])
        return Explainer(self.running.shop.pipeline, self.running.settings).explain(newest["id"])[0]

    def await_decay(self, view: FeatureView, feature: str, keys: Sequence[bytes]) -> None:
        """Wait until the stock client reads 0 for every key, although no event comes."""
        def all_zero() -> bool:
            return {row[feature] for row in self.stock_rows(view, keys).values()} == {0}

        self.running.wait(all_zero, f"{view.uid}.{feature} is 0 for all {len(keys)} keys")

    def predictions(self) -> int:
        """Committed predictions so far."""
        table = read_table(self.running.settings, self.names.predictions("disputed"), self.registry)
        return 0 if table is None else len(table)

    def findings(self) -> LiveFindings:
        """Read everything back and compare."""
        shop, settings = self.running.shop, self.running.settings
        topology = shop.topology
        recorded = read_recorded(topology, settings, self.registry)
        last, releases = LastRows(topology), 0

        def see(stage: int, output: StageOutput) -> None:
            nonlocal releases
            releases += sum(len(rows.offset) for rows in output.rows.values())
            last.see(stage, output)

        now_ms = time.time_ns() // 1_000_000  # sweeps have gone on since the last event
        replayed = replay_scored(topology, [one.events for one in recorded], see, last_clock=now_ms)
        [model] = shop.pipeline.models
        layout, artifact = VectorLayout(model, topology), shop.trained.artifacts[model.name]
        matrix = replayed[layout.source].matrix(layout, artifact.manifest.categories)
        table = read_table(settings, self.names.predictions(model.name), self.registry)
        origin = table.column("origin").combine_chunks()
        row = recorded[layout.source].rows_of(
            origin.field("partition").to_pylist(), origin.field("offset").to_pylist()
        )
        place = {int(offset): number for number, offset in enumerate(replayed[layout.source].ready.offsets)}
        at = [place.get(int(each), -1) for each in row]
        known = [number for number, each in enumerate(at) if each >= 0]
        ids = table.column("id").to_pylist()
        store = FeatureStore(repo_path=str(self.running.plan.folder / "feast"))
        return LiveFindings(
            sum(len(one.offset) for one in recorded), len(ids), len(matrix), len(ids) - len(set(ids)),
            len(at) - len(known), same_bits(streamed_matrix(table, layout)[known], matrix[[at[n] for n in known]]),
            feast_parity(topology, last, store, self.stored_versions), self.swept(last),
            sum(late_counts(settings, self.names, topology, self.registry).values()),
            dead_letters(settings, self.names), Explainer(shop.pipeline, settings).check_sample(len(ids), 0)[0],
            releases,
        )


def assert_recorded_exactly(found: LiveFindings) -> None:
    """Assert that every value is that of the replay of what was recorded, and nothing is missing or double."""
    assert found.predictions == found.expected > 0
    assert found.duplicates == found.unknown == 0
    assert found.parity.compared > 0 and found.parity.different == 0
    assert found.explained.holds and found.explained.predictions == found.predictions
    assert found.feast.compared > 0 and found.feast.different == 0
