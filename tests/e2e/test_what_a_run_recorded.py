"""What a finished run left in its topics: predictions are explained by it, and the sink makes files of it."""

import json
import re
import shlex
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from headrace.features.feast_encoding import store_project
from headrace.features.plan import EVENTS, LIFETIME
from headrace.features.stage import StageOutput
from headrace.models.artifact import Artifact
from headrace.schemas.registry import Registry
from headrace.schemas.topics import TopicNames
from headrace.streams import sink_files
from headrace.streams.apply import create_topics
from headrace.streams.cli import app
from headrace.streams.collect import read_table, read_topic
from headrace.streams.dataset import replay_scored
from headrace.streams.errors import GapError
from headrace.streams.evaluation import same_bits
from headrace.streams.explaining import Explainer
from headrace.streams.feast_history import refresh_history
from headrace.streams.feast_setup import apply_feast
from headrace.streams.notebook import training_set
from headrace.streams.publish import publish_replay
from headrace.streams.recorded_set import recorded_set
from headrace.streams.settings import Settings
from headrace.streams.sink import Sink
from headrace.streams.sink_files import Range, file_name, files_of
from headrace.streams.store import store_client
from headrace.streams.wanted import REPLAYED, TopicPlan
from tests.e2e.harness import CUT_MS, END_MS, REFERENCE
from tests.readme import command_lines

PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def run(outcome):
    return outcome(2, 1)


@pytest.fixture(scope="module")
def explainer(shop, run):
    return Explainer(shop.pipeline, run.settings)


@pytest.fixture(scope="module")
def recorded(shop, run):
    """All predictions of the run."""
    names = TopicNames(shop.pipeline.name, run.settings.prefix)
    return read_table(run.settings, names.predictions("disputed"), Registry(run.settings.registry)).to_pylist()


def test_all_predictions_are_recomputed_in_one_pass_and_all_bits_agree(explainer, recorded):
    agreement, gaps = explainer.check_sample(len(recorded) + 100, seed=1)
    assert agreement.holds and not gaps
    assert agreement.predictions == len(recorded) > 100
    assert agreement.compared > 40 * len(recorded)


def test_one_prediction_is_explained_by_id_and_by_the_place_of_its_event(explainer, recorded):
    wanted = next(each for each in reversed(recorded) if each["views"]["recipient"]["status"] == 0)
    [by_id] = explainer.explain(wanted["id"])
    [by_place] = explainer.explain("{topic}[{partition}]@{offset}".format(**wanted["origin"]))
    assert by_id == by_place
    assert by_id.agreement.holds
    assert by_id.prediction["score"] == wanted["score"]
    raw = by_id.base + sum(each.contribution for each in by_id.features)
    assert 1 / (1 + np.exp(-raw)) == pytest.approx(wanted["score"], rel=1e-9)
    json.dumps(by_id.to_json(), default=str)


def test_origins_are_the_events_that_the_values_were_made_of(shop, explainer, recorded):
    wanted = next(each for each in reversed(recorded) if each["views"]["recipient"]["status"] == 0)
    [explanation] = explainer.explain(wanted["id"])
    plans = {plan.uid: plan for stage in shop.topology.stages for plan in stage.views}
    checked = 0
    for each in explanation.features:
        if each.origin is None or each.origin.status != "ok":
            continue
        name = each.name.partition("__")[2]
        feature = next(f for f in plans[each.origin.view].features if f.name == name)
        listed = each.origin.events
        assert len(listed) == min(each.origin.event_count, 10)
        assert all(event.event_time <= each.origin.window_until_ms for event in listed)
        assert (each.origin.origin is None) == (each.origin.event_count == 0)
        if feature.agg.name == "COUNT" and feature.column == EVENTS:
            assert each.value == each.origin.event_count
            checked += 1
        if feature.agg.name == "COUNT" and feature.window_ms == LIFETIME:
            assert each.value == each.origin.seq
        if feature.agg.name == "LAST" and listed:
            assert each.value == next(e.value for e in reversed(listed) if e.value is not None)
            checked += 1
        if feature.agg.name == "MAX" and each.origin.event_count <= 10:
            assert each.value == max((e.value for e in listed if e.value is not None), default=None)
    assert checked >= 5


def test_the_command_line_explains_and_its_exit_code_says_whether_all_bits_agree(run, recorded, monkeypatch):
    for name, value in run.settings.model_dump(exclude_defaults=True).items():
        monkeypatch.setenv(f"HEADRACE_{name.upper()}", value if isinstance(value, str) else json.dumps(value))
    command = ["explain", "--pipeline", REFERENCE]
    told = CliRunner().invoke(app, [*command, recorded[7]["id"]])
    assert told.exit_code == 0, told.output
    assert "all bits agree" in told.output and "customer_orders__count_1d" in told.output
    sampled = CliRunner().invoke(app, [*command, "--sample", "50", "--seed", "3", "--json"])
    assert sampled.exit_code == 0, sampled.output
    assert json.loads(sampled.output)["predictions"] == 50


def test_a_prediction_of_another_model_is_named_and_does_not_agree(shop, run, recorded, tmp_path):
    trained = shop.trained.artifacts["disputed"]
    Artifact(replace(trained.manifest, span_ms=(0, 1)), trained._text).save(tmp_path)   # the same trees
    other = Explainer(shop.pipeline, run.settings.model_copy(update={"models_dir": str(tmp_path)}))
    [explanation] = other.explain(recorded[0]["id"])
    assert not explanation.agreement.holds
    [first] = explanation.agreement.first
    assert first.field == "model_digest" and first.recorded == recorded[0]["model_digest"]


def test_what_is_not_there_is_said(explainer, run):
    for wanted in ("0" * 32, f"{run.settings.prefix}orders[0]@999999", "rates[0]@1"):
        with pytest.raises(GapError, match="no prediction in"):
            explainer.explain(wanted)


@dataclass(frozen=True)
class Sunk:
    """A run with the files of its sink."""

    settings: Settings
    names: TopicNames
    folder: Path
    topics: tuple[str, ...]


@pytest.fixture(scope="module")
def sunk(shop, run, tmp_path_factory) -> Sunk:
    settings = run.settings
    folder = tmp_path_factory.mktemp("sink")
    names = TopicNames(shop.pipeline.name, settings.prefix)
    create_topics(settings, [TopicPlan(names.source("complaints"), 2, REPLAYED)])
    publish_replay(shop.labels, names, settings, Registry(settings.registry))
    patch = pytest.MonkeyPatch()
    patch.setattr(sink_files, "BLOCK_COUNT", 500)
    # Events of long ago are written; of what the run wrote a moment ago only whole blocks are.
    settings = settings.model_copy(update={"sink_url": str(folder)})
    orders, complaints = (f"written.{names.source(name)}" for name in ("orders", "complaints"))
    events = sum(len(one.stamps) for one in (*shop.labels, *shop.events) if one.source.name in ("orders", "complaints"))
    first = run_sink(shop, settings, lambda sink: sink.counts[orders] + sink.counts[complaints] >= events)
    topics = tuple(sorted(first._readers))
    wanted = sum(len(batch) for topic in topics for batch in read_topic(settings, topic))
    assert 0 < first.counts["written"] < wanted
    leave_behind(folder / names.predictions("disputed"))
    short = settings.model_copy(update={"sink_wait_s": 0.1})
    run_sink(shop, short, lambda sink: sink.counts["written"] + first.counts["written"] >= wanted)
    patch.undo()
    return Sunk(settings, names, folder, topics)


def leave_behind(topic: Path) -> None:
    """Leave what a sink leaves that is killed between its files and its commit: the log was quiet elsewhere then."""
    last, path = max(files_of(topic), key=lambda found: (found[0].partition, found[0].first))
    left = Range(last.partition, last.last + 1, last.last + 3)
    pq.write_table(pq.read_table(path, partitioning=None), path.with_name(file_name(left)))


def run_sink(shop, settings, until) -> Sink:
    sink, stop = Sink(shop.topology, shop.pipeline, settings), threading.Event()
    thread = threading.Thread(target=sink.run, args=(stop,))
    thread.start()
    deadline = time.monotonic() + PATIENCE_S
    while not until(sink):
        assert thread.is_alive() and time.monotonic() < deadline, sink.counts
        time.sleep(0.05)
    stop.set()
    thread.join()
    return sink


def rows_of(sunk: Sunk, topic: str) -> Iterator[tuple[Path, pa.Table]]:
    for _, path in files_of(sunk.folder / topic):
        yield path, pq.read_table(path, partitioning=None)


def test_every_record_is_in_one_file_whatever_the_sink_was_stopped_in(shop, sunk):
    views = sum(len(stage.views) for stage in shop.topology.stages)
    assert len(sunk.topics) == views + 1 + 2 + 1   # views, answers, events scored and of labels, predictions
    for topic in sunk.topics:
        logged = {(m.partition(), m.offset()) for batch in read_topic(sunk.settings, topic) for m in batch}
        written = [
            place for _, rows in rows_of(sunk, topic)
            for place in zip(*(rows.column(n).to_pylist() for n in ("_log_partition", "_log_offset")), strict=True)
        ]
        assert len(written) == len(set(written)) > 0
        assert set(written) == logged


def test_files_are_named_by_their_offsets_and_lie_under_the_day_of_their_events(sunk):
    for topic in sunk.topics:
        ranges = {}
        for block, path in files_of(sunk.folder / topic):
            rows = pq.read_table(path, partitioning=None)
            offsets = rows.column("_log_offset").to_numpy()
            assert (rows.column("_log_partition").to_numpy() == block.partition).all()
            assert block.first <= offsets.min() and offsets.max() <= block.last
            ranges.setdefault(block.partition, set()).add((block.first, block.last))
            if topic == sunk.names.predictions("disputed"):
                days = rows.column("event_time").cast(pa.timestamp("ms")).cast(pa.date32()).to_pylist()
                assert {f"day={day}" for day in days} == {path.parent.name}
        for found in ranges.values():
            ordered = sorted(found)
            assert all(one[1] < other[0] for one, other in zip(ordered, ordered[1:], strict=False))
    assert not list(sunk.folder.rglob(".*"))   # no drafts are left


def test_a_training_set_of_recorded_rows_is_that_of_the_history_bit_for_bit(shop, sunk, tmp_path):
    for until in (CUT_MS, END_MS):
        recorded = recorded_set(shop.pipeline, sunk.folder, prefix=sunk.settings.prefix, until=until)
        history = training_set(shop.pipeline, shop.folder / "events", until=until)
        assert recorded.schema == history.schema
        stamps = recorded.column("_stamp").cast(pa.int64()).to_numpy()
        assert (np.diff(stamps) >= 0).all()
        recorded, history = (table.sort_by("_event_id") for table in (recorded, history))
        assert len(recorded) == len(history) > 100
        for name in history.column_names:
            if name == "_offset":
                continue
            left, right = recorded.column(name).combine_chunks(), history.column(name).combine_chunks()
            if pa.types.is_floating(left.type):
                compared = same_bits(*(c.to_numpy(zero_copy_only=False) for c in (left, right)))
                assert (compared.compared, compared.different) == (len(history), 0), name
            else:
                assert left.to_pylist() == right.to_pylist(), name
    to = recorded_set(shop.pipeline, sunk.folder, prefix=sunk.settings.prefix, to=tmp_path / "set.parquet")
    assert len(pq.read_table(to)) == len(recorded)


class AllRows:
    """Every row that the replay gives, by view and entity."""

    def __init__(self, topology) -> None:
        self._topology, self.rows = topology, {}

    def see(self, stage: int, output: StageOutput) -> None:
        for view, rows in output.rows.items():
            plan = self._topology.stages[stage].views[view]
            columns = [column.to_pylist() for column in rows.features(plan).values()]
            for row, key in enumerate(rows.entity_key):
                found = self.rows.setdefault(plan.uid, {}).setdefault(bytes(key), [])
                values = [column[row] for column in columns]
                found.append((*(int(each[row]) for each in (rows.as_of, rows.seq, rows.sweep)), values))


def test_feasts_history_is_the_last_row_as_of_the_time_asked_for(shop, sunk, tmp_path):
    refresh_history(shop.topology, sunk.settings)
    store = apply_feast(tmp_path, shop.topology, sunk.settings)
    replayed, random = AllRows(shop.topology), np.random.default_rng(3)
    replay_scored(shop.topology, [one.between(-(2**62), END_MS) for one in shop.events], replayed.see)
    ties = 0
    for stage in shop.topology.stages:
        [(join_key, _)] = stage.entity.key_types.items()
        for plan, view in zip(stage.views, stage.view_specs, strict=True):
            asked, expected = [], []
            for key, rows in replayed.rows[plan.uid].items():
                name = key.decode()[2:-2]
                as_of = [row[0] for row in rows]
                tied = [one for one, other in zip(as_of, as_of[1:], strict=False) if one == other]
                # Feast makes one of two questions about one entity and time
                for at in {*tied[-2:], *random.choice(as_of, 3), as_of[0] - 1, as_of[-1] + 1, random.choice(as_of) - 1}:
                    known = [row for row in rows if row[0] <= at]
                    asked.append((name, int(at)))
                    expected.append(max(known, key=lambda row: row[:3])[3] if known else None)
                    ties += sum(row[0] == known[-1][0] for row in known) > 1 if known else 0
            frame = pd.DataFrame({
                join_key: [name for name, _ in asked], "place": np.arange(len(asked)),
                "event_timestamp": pd.to_datetime([at for _, at in asked], unit="ms", utc=True),
            })
            features = [f"{view.feast_name}:{name}" for name in plan.feature_names]
            found = store.get_historical_features(entity_df=frame, features=features).to_df().sort_values("place")
            # Feast leaves out who has rows, but none by then
            assert found["place"].to_list() == [place for place, row in enumerate(expected) if row is not None]
            wanted = zip(*(row for row in expected if row is not None), strict=True)
            for place, (name, column) in enumerate(zip(plan.feature_names, wanted, strict=True)):
                if place in plan.texts:
                    assert [None if pd.isna(text) else text for text in found[name]] == list(column), (plan.uid, name)
                    continue
                got = found[name].to_numpy(dtype=np.float64, na_value=np.nan)
                compared = same_bits(np.ascontiguousarray(got), np.array(column, np.float64))
                assert compared.different == 0 < compared.compared, (plan.uid, name, compared)
    assert ties > 20


def stored(client, project):
    """All rows of a project, by key and hash field."""
    return {key: client.hgetall(key) for key in client.scan_iter(count=1_000) if key.endswith(project.encode())}


def test_a_store_that_lost_everything_is_made_whole_from_the_state_of_the_shards(shop, run, monkeypatch):
    for name, value in run.settings.model_dump(exclude_defaults=True).items():
        monkeypatch.setenv(f"HEADRACE_{name.upper()}", value if isinstance(value, str) else json.dumps(value))
    client, project = store_client(run.settings.redis), store_project(shop.pipeline.name, run.settings.prefix)
    before = stored(client, project)
    kept = next(iter(before))
    client.delete(*[key for key in before if key != kept])
    line = next(line for line in command_lines() if line.startswith("headrace online rebuild"))
    words = [REFERENCE if word.endswith(":PIPELINE") else word for word in shlex.split(line)[1:]]
    told = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
    assert told.exit_code == 0, told.output
    after = stored(client, project)
    assert after.keys() == before.keys() and len(before) > 20
    for key, fields in before.items():
        names = {name for name in fields if not name.startswith((b"_v:", b"_ts:"))}
        assert {name: after[key][name] for name in names} == {name: fields[name] for name in names}
        for name in fields.keys() - names:   # a sweep that found nothing changed may have looked since
            assert name.startswith(b"_ts:") or after[key][name] >= fields[name]
    again = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
    assert again.exit_code == 0 and stored(client, project) == after
    assert re.search(r"written +│ 0 ", again.output), again.output
    asked = CliRunner().invoke(app, words[:-1], env={"COLUMNS": "200"}, input="n\n")
    assert asked.exit_code == 1 and "nothing was changed" in asked.output
