"""`headrace verify` agrees with what is right and notices what is not: bugs are planted in the cores, seeds tell."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from headrace.features import (
    Change,
    Count,
    DecayedCount,
    DecayedMean,
    DecayedSum,
    Entity,
    FeatureView,
    First,
    Last,
    LastK,
    Max,
    Mean,
    MostFrequent,
    MsSinceFirst,
    MsSinceLast,
    Ratio,
    Share,
    Source,
    Sum,
    Trend,
    field,
    stage,
)
from headrace.features.kernel import align, source_clocks
from headrace.models import ModelSpec, Pipeline, compile_pipeline, number
from headrace.schemas.errors import DeclarationError
from headrace.streams import replay
from headrace.streams.cli import app
from headrace.streams.verify import Verification
from headrace.streams.verify_made import made_events

T0 = 1_704_067_200_000
MILLIS, MICROS = ({"type": "long", "logicalType": f"timestamp-{unit}"} for unit in ("millis", "micros"))
SEEDS = range(20)   # what `headrace verify` tries


def record(name, **fields):
    return {"type": "record", "name": name, "fields": [{"name": n, "type": t} for n, t in fields.items()]}


def shop():
    """Two sources, one of them scored; two roles of an entity, filters, lateness, duplicates, nested fields."""
    orders = Source(
        "orders", schema=record(
            "Order", order_id="string", customer="string", gift_to=["null", "string"], amount="double",
            note=["null", "string"], at=MILLIS, lines={"type": "array", "items": record("Line", sku="string")}),
        key="customer", event_time="at", event_id="order_id", dedupe_for="10m", allowed_lateness="5m")
    payments = Source(
        "payments", schema=record(
            "Payment", customer="string", paid=["null", "float"], at=MICROS,
            method={"type": "enum", "name": "Method", "symbols": ["card", "cash"]}),
        key="customer", event_time="at", nonfinite="missing", format="json")
    customer = Entity("customer", {"customer": str})
    spending = FeatureView(
        "spending", source=orders, entity=customer, features=[
            Count(["10m", "1h"]), Sum("amount", "1h"), Max("amount", "1h", shift="1ms"),
            Count("1h", where=field("note") == "gift", name="gifts")])
    paid = FeatureView(
        "paid", source=payments, entity=customer, where=field("method") == "card",
        features=[Last("paid", "1h"), Mean("paid", "1d")], sweep="5m")
    model = ModelSpec("m", scores=orders, inputs=[
        number("amount"), spending, paid, spending.at({"customer": "gift_to"}, as_="to")])
    return Pipeline("shop", models=[model])


@pytest.fixture(scope="module")
def trying():
    return Verification(shop(), events_per_seed=150)


def first_failure(trying):
    """The first seed that fails, with its message: the one `headrace verify` would name."""
    for seed in SEEDS:
        verdict = trying.verify([seed])
        if not verdict.holds:
            (failure,) = verdict.failures
            assert failure.seed == seed
            return failure, "\n".join(failure.lines(f"headrace verify --pipeline shop:PIPELINE --seed {seed}"))
    raise AssertionError("nothing was noticed")


def test_what_is_right_agrees_under_every_disturbance(trying):
    verdict = trying.verify(range(4))
    assert verdict.holds and not verdict.failures
    for what in ("delayed", "sent_again", "restarts", "duplicate", "late", "swept", "routed.duplicate_id", "filtered"):
        assert verdict.counts[what] > 0, what
    assert verdict.counts["values_replay"] >= verdict.counts["values_oracle"] > 10_000
    assert verdict.counts["overtaken"] == verdict.counts["misaligned"] == verdict.counts["held"] == 0


def test_every_aggregation_agrees_under_disturbances():
    customer, sources = Entity("customer", {"customer": str}), shop().sources
    views = [
        FeatureView("order", source=sources[0], entity=customer, features=[
            First("amount"), LastK("amount", 2, "1h"), Change("amount", "3 events"), Trend("amount", "1h"),
            Ratio(Count("10m"), Count("1h"), name="share"), Share(field("note") == "gift", "1h", name="gifts"),
            MostFrequent("note", "1h"), MostFrequent("note", "3 events", where=field("amount") > 1, name="large")]),
        FeatureView("age", source=sources[1], entity=customer, sweep="5m", features=[
            MsSinceLast("paid", "1h"), MsSinceFirst(), DecayedMean("paid", half_life="1h"),
            Ratio(DecayedSum("paid", half_life="1h"), DecayedCount(half_life="10m")), Sum("paid", "3 events"),
            MostFrequent("method", "1d")]),
    ]
    verdict = Verification(Pipeline("newer", views=views), events_per_seed=120).verify(range(3))
    assert verdict.holds, [line for failure in verdict.failures for line in failure.lines("")]
    assert verdict.counts["swept"] > 0 and verdict.counts["values_oracle"] > 1000


class _Shouting(stage.TextBook):
    """Texts come back in capitals."""

    def texts(self, numbers):
        return pc.utf8_upper(super().texts(numbers))


def test_a_text_that_is_another_is_noticed_and_named(monkeypatch):
    payments = shop().sources[1]
    view = FeatureView("paid", source=payments, entity=Entity("customer", {"customer": str}),
                       features=MostFrequent("method", "1d"))
    monkeypatch.setattr(stage, "TextBook", _Shouting)
    [failure] = Verification(Pipeline("loud", views=[view]), events_per_seed=60).verify([0]).failures
    assert failure.left.expected in ("'card'", "'cash'") and failure.left.found == "a text of no event"


class _Widened(stage.ViewState):
    """A window begins a millisecond too early."""

    def __init__(self, plan):
        super().__init__(replace(plan, features=tuple(
            replace(each, window_ms=each.window_ms + (each.window_ms > 0)) for each in plan.features)))


class _Patient(stage.ViewState):
    """An event that is a millisecond too late counts."""

    def __init__(self, plan):
        super().__init__(replace(plan, lateness_ms=plan.lateness_ms + 1))


def test_a_window_edge_off_by_a_millisecond_is_noticed_and_cut_down(trying, monkeypatch):
    monkeypatch.setattr(stage, "ViewState", _Widened)
    failure, said = first_failure(trying)
    assert failure.left is not None and len(failure.events) <= 2 and failure.event_count >= 150
    assert not failure.needed and "in the stream and in the replay" in said
    assert failure.value.view in said and failure.value.key in said and failure.value.expected in said
    assert f"--seed {failure.seed}" in said and "@" in failure.events[0]
    again = trying.verify([failure.seed])
    assert again.failures == [failure], "a seed is everything that was drawn"


def test_lateness_off_by_a_millisecond_is_noticed(monkeypatch):
    monkeypatch.setattr(stage, "ViewState", _Patient)
    failure, _ = first_failure(Verification(shop(), events_per_seed=600))
    assert failure.left.kind in ("late", "row")


def test_a_snapshot_that_forgets_the_reorder_buffer_is_noticed(trying, monkeypatch):
    whole = align.Aligner.snapshot
    monkeypatch.setattr(align.Aligner, "snapshot", lambda aligner: {
        name: column for name, column in whole(aligner).items() if not name.startswith("held.")})
    failure, said = first_failure(trying)
    assert "restarts" in failure.needed and "only with restarts" in said


class _Dropping(stage.ViewState):
    """A pane is dropped on the way to a snapshot."""

    def snapshot(self):
        arrays = super().snapshot()
        arrays["pane_base"][:1, 0] = 0
        return arrays


def test_keys_with_panes_are_met_and_one_that_is_dropped_is_noticed(monkeypatch):
    customer, (orders, _) = Entity("customer", {"customer": str}), shop().sources
    view = FeatureView("hot", source=orders, entity=customer, exact_events=16, features=[
        Count(["1d", "7d"]), Sum("amount", "1d"), Max("amount", "7d", shift="1h")])
    trying = Verification(Pipeline("hot", views=[view]), events_per_seed=400)
    assert trying.verify(range(3)).holds
    monkeypatch.setattr(stage, "ViewState", _Dropping)
    failure, _ = first_failure(trying)
    assert "restarts" in failure.needed and failure.value.view == "hot.v1"


def test_ties_broken_by_arrival_are_noticed(trying, monkeypatch):
    monkeypatch.setattr(align, "canonical_order", lambda columns: np.lexsort((columns["arrival"], columns["key"])))
    failure, _ = first_failure(trying)
    assert 2 <= len(failure.events) <= 4, "one event has no tie"


def test_a_duplicate_folded_twice_is_noticed(trying, monkeypatch):
    walk = source_clocks.SourceClocks.walk

    def walk_again(clocks, entries):
        outcome, key = walk(clocks, entries)
        repeated = outcome == source_clocks.DUPLICATE
        key[repeated], outcome[repeated] = 2 * entries["time"][repeated], source_clocks.PLACED
        return outcome, key

    monkeypatch.setattr(source_clocks.SourceClocks, "walk", walk_again)
    failure, _ = first_failure(trying)
    assert len(failure.events) == 1 and "repeats" in failure.needed


def test_a_replay_that_is_wrong_is_told_from_a_stream_that_is(trying, monkeypatch):
    class Deaf(replay.Judge):
        """Hears no event twice, and so counts all."""

        def __init__(self, source):
            super().__init__(source)
            self._recent = None

    monkeypatch.setattr(replay, "Judge", Deaf)
    failure, said = first_failure(trying)
    assert failure.left.where == "replay" and "in the replay" in said


def test_a_core_that_breaks_names_the_seed(trying, monkeypatch):
    def broken(self):
        raise KeyError("broken")

    monkeypatch.setattr(align.Aligner, "snapshot", broken)
    with pytest.raises(KeyError) as raised:
        trying.verify([3])
    assert any("seed 3" in note for note in raised.value.__notes__)


def test_made_up_events_are_the_same_for_a_seed_and_name_what_filters_look_for():
    topology = compile_pipeline(shop())
    one, same, other = (made_events(topology, 400, seed) for seed in (1, 1, 2))
    assert [each.rows for each in one] == [each.rows for each in same] != [each.rows for each in other]
    orders = one[topology.source_index("orders")].rows
    assert "gift" in orders["note"].to_pylist() and None in orders["gift_to"].to_pylist()


def test_a_pipeline_without_views_has_nothing_to_verify():
    plain = Source("plain", schema=record("Plain", x="double", at="long"), key="x", event_time="at")
    with pytest.raises(DeclarationError, match="nothing to verify"):
        Verification(Pipeline("plain", models=[ModelSpec("m", scores=plain, inputs=[number("x")])]))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A user's folder with a pipeline of one source, and its events."""
    (tmp_path / "verified.py").write_text(
        "from headrace.features import Count, Entity, FeatureView, Source, Sum\n"
        "from headrace.models import ModelSpec, Pipeline\n"
        f"schema = {record('Visit', page='string', seconds='double', at='long')!r}\n"
        "visits = Source('visits', schema=schema, key='page', event_time='at')\n"
        "seen = FeatureView('seen', source=visits, entity=Entity('page', {'page': str}),\n"
        "                   features=[Count('1m'), Sum('seconds', '1m')], sweep='10s')\n"
        "PIPELINE = Pipeline('verified', models=[ModelSpec('m', scores=visits, inputs=[seen])])\n")
    draw = np.random.default_rng(5)
    (tmp_path / "events").mkdir()
    pq.write_table(pa.table({
        "page": draw.choice(["a", "b", "c"], 300), "seconds": draw.random(300),
        "at": T0 + np.sort(draw.integers(0, 900_000, 300)),
    }), tmp_path / "events/visits.parquet")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_the_verb_tells_what_was_compared_and_its_exit_code_is_the_verdict(folder, monkeypatch):
    line = ["verify", "--pipeline", "verified:PIPELINE", "--events", "events", "--events-per-seed", "100"]
    told = CliRunner().invoke(app, [*line, "--seeds", "2", "--json"])
    assert told.exit_code == 0, told.output
    verdict = json.loads(told.stdout)
    assert verdict["holds"] and verdict["seeds"] == [0, 1] and verdict["failures"] == []
    monkeypatch.setattr(stage, "ViewState", _Widened)
    failing = next(seed for seed in SEEDS if CliRunner().invoke(app, [*line, "--seed", str(seed)]).exit_code)
    told = CliRunner().invoke(app, [*line, "--seed", str(failing)])
    assert told.exit_code == 1
    command = f"headrace verify --pipeline verified:PIPELINE --events events --events-per-seed 100 --seed {failing}"
    assert f"again: {command}" in told.stdout and "seen.v1" in told.stdout and "visits[" in told.stdout


def test_a_folder_that_is_not_there_is_told(folder):
    told = CliRunner().invoke(app, ["verify", "--pipeline", "verified:PIPELINE", "--events", "elsewhere"])
    assert told.exit_code == 1 and "no such folder" in " ".join(told.output.split())
