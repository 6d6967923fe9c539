"""A pipeline begins with a history from files: from the cut on, everything is what a replay of all events gives."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from headrace.features.feast_encoding import store_project, store_views
from headrace.features.stage_columns import NO_ORIGIN
from headrace.infra.embedded.process import Children
from headrace.models import compile_pipeline
from headrace.models.vector import VectorLayout
from headrace.schemas.registry import Registry
from headrace.schemas.topics import TopicNames
from headrace.streams.accounting import Accounting
from headrace.streams.apply import create_topics, register_schemas, topic_plans
from headrace.streams.cluster import Cluster, compact_plan
from headrace.streams.collect import read_table
from headrace.streams.dataset import replay_scored
from headrace.streams.evaluation import same_bits, streamed_matrix
from headrace.streams.event_files import Events
from headrace.streams.instants import iso
from headrace.streams.publish import publish_replay
from headrace.streams.snapshots import snapshot_files
from headrace.streams.store import store_client
from headrace.streams.store_reads import Wanted, read_rows
from headrace.streams.trial import STALLED_S, TrialPlan, read_all, settings_for, train_models
from tests.e2e import till
from tests.e2e.harness import Running, Shop
from tests.e2e.shop_events import DAY_MS, START_MS
from tests.e2e.till import HOUR_MS
from tests.e2e.verbs import command, readme

pytestmark = pytest.mark.timeout(300)
REFERENCE = "tests.e2e.till:PIPELINE"
CUT_MS, END_MS = START_MS + 3 * DAY_MS + 5 * HOUR_MS, START_MS + 6 * DAY_MS
QUIET = "t7"   # closes an hour before the cut
FOREVER = 2**62


def close_a_till(path: Path, time: str) -> None:
    """Leave out what one till does from an hour before the cut on."""
    table = pq.read_table(path)
    late = pc.greater_equal(table.column(time).cast("int64"), CUT_MS - HOUR_MS)
    pq.write_table(table.filter(pc.invert(pc.and_(late, pc.equal(table.column("till"), QUIET)))), path)


class Begun:
    """The till with a topic that holds a part of the history, and a topic that holds none."""

    def __init__(self, services, folder: Path) -> None:
        topology = compile_pipeline(till.PIPELINE)
        till.write_events(folder / "events")
        close_a_till(folder / "events/sales.parquet", "sold_at")
        close_a_till(folder / "events/refunds.parquet", "paid_at")
        self.events, self.folder = read_all(topology, folder / "events"), folder
        self.plan = TrialPlan(REFERENCE, folder / "events", CUT_MS, END_MS, folder, 2)
        trained = train_models(till.PIPELINE, topology, self.events, self.plan)
        self.shop = Shop(till.PIPELINE, topology, folder, self.events, [], trained)
        self.settings = settings_for(services, self.plan, prefix="cold.", replay=True)
        self.registry = Registry(self.settings.registry)
        self.names, self.topology = TopicNames("till", self.settings.prefix), topology
        create_topics(self.settings, topic_plans(topology, till.PIPELINE, self.settings, 2))
        register_schemas(topology, till.PIPELINE, self.settings, self.registry)
        self.publish({"sales": (CUT_MS - 2 * HOUR_MS, CUT_MS)}, CUT_MS)   # duplicates are told by the last hour

    def publish(self, spans: dict[str, tuple[int, int]], last_clock: int | None) -> None:
        """Replay what arrived in a span into the topics."""
        part: list[Events] = [one.between(*spans.get(one.source.name, (0, 0))) for one in self.events]
        publish_replay(part, self.names, self.settings, self.registry, last_clock=last_clock)

    def bootstrap(self, *more: str, until: int = CUT_MS, answer: str | None = None):
        """Run the README's command."""
        line = readme("bootstrap", pipeline=REFERENCE, events=str(self.folder / "events"), until=iso(until))
        return command(self.settings, *line, *more, answer=answer)


@pytest.fixture(scope="module")
def begun(services, tmp_path_factory):
    return Begun(services, tmp_path_factory.mktemp("cold"))


def test_a_plan_is_shown_and_nothing_done_unless_it_is_agreed_to_and_complete(begun):
    said = begun.bootstrap(answer="n\n")
    assert said.code == 1 and "nothing was changed" in said.text, said.text
    for part in ("cold.till.stage.till[1]", "cold.sales[0]", "incarnation 2", "sales 1,"):
        assert part in said.text, said.text
    assert "duplicates are told" not in said.text, "the topic reaches back far enough"
    said = begun.bootstrap("--yes", until=END_MS + DAY_MS)
    assert said.code == 1 and "the history ends" in said.text and "before the cut" in said.text
    said = begun.bootstrap("--yes", until=START_MS - DAY_MS)
    assert said.code == 1 and "no event before" in said.text and "sales begins" in said.text
    assert not snapshot_files(begun.settings.state_url, begun.names.group("stage"))


def test_the_history_is_loaded_once_and_again_only_if_told_so(begun):
    said = begun.bootstrap("--yes")
    assert said.code == 0, said.text
    known = sum(int((one.stamps < CUT_MS).sum()) for one in begun.events)
    ignored = sum(len(one.stamps) for one in begun.events) - known
    assert f"from the cut on, ignored {ignored:,}" in said.text and "keys of till_sales.v1 8" in said.text, said.text
    files = snapshot_files(begun.settings.state_url, begun.names.group("stage"))
    assert len(files) == 4   # two stages, two partitions
    said = begun.bootstrap("--yes")
    assert said.code == 1 and "has already run: cold.till.route, cold.till.score.sales, cold.till.stage" in said.text
    said = begun.bootstrap("--replace", answer="y\n")
    assert said.code == 0 and "incarnation 3" in said.text, said.text
    assert [path.name for path in snapshot_files(begun.settings.state_url, begun.names.group("stage"))] == [
        path.name for path in files], "the same history leaves the same state"


@pytest.fixture(scope="module")
def ran(begun):
    """Workers on what came from the cut on, until all of it is worked off."""
    with Children() as children:
        cluster = Cluster(children, REFERENCE, begun.settings, begun.folder / "run")
        running = Running(begun.shop, begun.settings, begun.plan, cluster, begun.events)
        cluster.start(compact_plan(1))
        running.wait(running.assigned, "all is assigned")
        assert {shard["theta"] for shard in running.shards().values()} == {CUT_MS}
        said = begun.bootstrap("--yes", "--replace")
        assert said.code == 1 and "workers of till are alive" in said.text, said.text
        begun.publish(dict.fromkeys(("sales", "refunds"), (CUT_MS, END_MS)), None)
        Accounting(begun.topology, begun.settings, 2).settle(STALLED_S, cluster.check)
        cluster.stop()
        return running


class Replayed:
    """What the replay of all events gives: vectors of the sales from the cut on, and every row by version."""

    def __init__(self, begun: Begun) -> None:
        self.rows, self.live = defaultdict(dict), defaultdict(set)
        self._begun, self._stages = begun, begun.topology.stages
        [model] = till.PIPELINE.models
        self.layout = VectorLayout(model, begun.topology)
        found = replay_scored(begun.topology, begun.events, self._see)[self.layout.source]
        stamps = found.column("_stamp").to_numpy()
        self.at = {place: row for row, place in enumerate(zip(found.column("sale").to_pylist(), stamps, strict=True))
                   if place[1] >= CUT_MS}
        categories = begun.shop.trained.artifacts[model.name].manifest.categories
        self.matrix = found.matrix(self.layout, categories)

    def _see(self, stage: int, output) -> None:
        for view, rows in output.rows.items():
            uid = self._stages[stage].views[view].uid
            for at, key in enumerate(rows.entity_key):
                version = key, int(rows.seq[at]), int(rows.sweep[at])
                self.rows[uid][version] = int(rows.as_of[at]), (rows.values[at] + 0.0).tobytes()
                swept = rows.offset[at] == NO_ORIGIN
                if swept and rows.sweep[at] > CUT_MS or not swept and self._stamp(rows, at) >= CUT_MS:
                    self.live[uid].add(version)

    def _stamp(self, rows, at: int) -> int:
        return int(self._begun.events[rows.source[at]].stamps[rows.offset[at]])


@pytest.fixture(scope="module")
def replayed(begun):
    return Replayed(begun)


def test_every_event_from_the_cut_on_has_the_prediction_of_the_replay_and_no_other_has_one(begun, ran, replayed):
    table = read_table(begun.settings, begun.names.predictions("returned"), begun.registry)
    stamps = table.column("origin").combine_chunks().field("stamp").to_pylist()
    places = list(zip(table.column("event_id").to_pylist(), stamps, strict=True))
    assert len(places) == len(set(places)) and set(places) == replayed.at.keys() != set()
    found = same_bits(streamed_matrix(table, replayed.layout), replayed.matrix[[replayed.at[each] for each in places]])
    assert found.compared > 1_000 and found.different == 0
    assert [ran.stage_counts(name) for name in ("duplicate", "overtaken", "misaligned")] == [0, 0, 0]
    routed = ran.cluster.status()["route-0"]["sources"]
    live = {one.source.name: int((one.stamps >= CUT_MS).sum()) for one in begun.events}
    assert {name: counts["events"] for name, counts in routed.items()} == live
    assert routed["sales"]["duplicate_id"] > 20


def test_every_row_from_the_cut_on_is_that_of_the_replay(begun, ran, replayed):
    for stage in begun.topology.stages:
        for plan, view in zip(stage.views, stage.view_specs, strict=True):
            table = read_table(begun.settings, begun.names.features(view.name, view.version), begun.registry)
            found = table.filter(pc.equal(table.column("_incarnation"), 3)).to_pylist()
            versions = {}
            for row in found:
                values = [np.nan if row[name] is None else float(row[name]) for name in plan.feature_names]
                version = f'["{row["till"]}"]'.encode(), row["_seq"], row["_sweep_ms"]
                versions[version] = row["_as_of_ms"], np.array(values).tobytes()
            expected = replayed.rows[plan.uid]
            assert versions == {version: expected[version] for version in versions}
            loaded = versions.keys() - replayed.live[plan.uid]
            assert replayed.live[plan.uid] < versions.keys() and len(loaded) == 8, "a row of every key"


def test_the_store_is_right_for_keys_that_stay_quiet_after_the_cut(begun, ran, replayed):
    layouts = store_views(begun.topology, store_project("till", begun.settings.prefix))
    quiet = f'["{QUIET}"]'.encode()
    for stage in begun.topology.stages:
        for plan in stage.views:
            last = {version[0]: version for version in sorted(replayed.rows[plan.uid])}
            assert last[quiet] not in replayed.live[plan.uid] or last[quiet][2] > CUT_MS, "it sells nothing any more"
            keys = sorted(last)
            with store_client(begun.settings.redis) as client:
                [stored] = read_rows(client, [Wanted(stage.entity, layouts[plan.uid], keys)])
            assert set(stored.incarnation.tolist()) == {3}
            for at, key in enumerate(keys):
                as_of, values = replayed.rows[plan.uid][last[key]]
                assert (stored.as_of_ms[at], stored.values[at].tobytes()) == (as_of, values), key


def test_a_recomputation_names_what_no_topic_holds(begun, ran):
    said = command(begun.settings, "explain", "--sample", "5", "--pipeline", REFERENCE)
    assert f"state up to {iso(CUT_MS)} was loaded from files" in said.text, said.text
