"""Was anything lost, twice or wrong? What lies in topics, files and the store, held against the truth.

Each check returns what it has counted and names what breaks it; one that has nothing to count has not been made.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from feast import FeatureStore

from headrace.features.plan import FoldPlan
from headrace.features.stage_columns import NO_SWEEP
from headrace.features.texts import numbers_of
from headrace.features.topology import Topology
from headrace.models import ModelSpec, compile_pipeline
from headrace.models.vector import VectorLayout
from headrace.schemas.registry import Registry
from headrace.schemas.topics import TopicNames
from headrace.streams.collect import read_batches, read_records, read_table, read_topic
from headrace.streams.dead_letters import read_letters
from headrace.streams.evaluation import same_bits, streamed_matrix
from headrace.streams.offsets import Offsets
from headrace.streams.settings import Settings
from headrace.streams.sink_files import files_of
from headrace.streams.sink_topics import LOG_OFFSET, LOG_PARTITION
from headrace.streams.torture_truth import Truth, Update, row_bytes, truth_of
from headrace.streams.torture_watch import Watcher
from headrace.streams.training import Trained
from headrace.streams.trial_report import feast_parity

NAMED_COUNT = 5    # of what is broken: as many as a person looks at


@dataclass
class Verdict:
    """What was checked and what does not hold.

    Attributes
    ----------
    counted : Counter
        How much was compared, by kind.
    broken : dict of invariant to list of str
        The places, all of them.
    """

    counted: Counter[str] = field(default_factory=Counter)
    broken: dict[str, list[str]] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether nothing is broken, and something was compared."""
        return not self.broken and self.counted["predictions"] > 0

    def breaks(self, invariant: str, places: Iterable[object]) -> None:
        """Note what breaks an invariant."""
        found = [str(place) for place in places]
        if found:
            self.broken.setdefault(invariant, []).extend(found)

    def told(self) -> str:
        """Return it in one line."""
        if self.holds:
            return "0 lost, 0 twice, 0 wrong: " + ", ".join(f"{n:,} {what}" for what, n in self.counted.items())
        parts = [f"{name}: {len(p)} ({', '.join(p[:NAMED_COUNT])})" for name, p in self.broken.items()]
        return "BROKEN: " + ("; ".join(parts) or "nothing was predicted")


class Judgement:
    """Makes the checks of one finished run.

    Parameters
    ----------
    trained : Trained
    settings : Settings
    registry : Registry
    feast_folder : Path
        The Feast repository.
    """

    def __init__(self, trained: Trained, settings: Settings, registry: Registry, feast_folder: Path) -> None:
        self._trained, self._settings, self._registry, self._feast = trained, settings, registry, feast_folder
        # What the store held when an event was scored is in no log: such values are left out.
        self._topology: Topology = compile_pipeline(trained.pipeline.streamed())
        self._names = TopicNames(self._topology.pipeline, settings.prefix)
        self.verdict = Verdict()

    def judge(self, watcher: Watcher, status: dict[str, dict]) -> Verdict:
        """Make all checks."""
        truth = truth_of(self._topology, self._settings, self._registry)
        self._offsets_of_sources(truth)
        for number, stage in enumerate(self._topology.stages):
            for view in range(len(stage.views)):
                self._updates(truth, number, view)
        for model in self._trained.pipeline.models:
            self._predictions(truth, model)
            self._drift(model.name)
        store = feast_parity(self._trained.topology, truth.last, FeatureStore(repo_path=str(self._feast)))
        self.verdict.counted["stored values"] = store.compared
        self.verdict.breaks("store is not the last rows", ["values"] * store.different)
        self.verdict.counted["seen by a watcher"] = len(watcher.seen)
        self.verdict.breaks("seen, then gone", watcher.vanished() + ["changed"] * watcher.moved)
        self._commits(status)
        self._files()
        return self.verdict

    def _offsets_of_sources(self, truth: Truth) -> None:
        """Every offset is accepted, a duplicate, or one dead letter; dead letters are of nothing else."""
        letters: Counter[tuple[str, int, int]] = Counter()
        for letter in read_letters(self._settings, self._names):
            letters[letter.origin] += 1
        for number, source in enumerate(self._topology.sources):
            topic = self._names.source(source.topic)
            partitions = {p for p, _ in truth.accepted[number] | truth.duplicates[number]} | {0}
            partitions |= {p for t, p, _ in letters if t == topic}
            ends = Offsets(self._settings, self._names.group("torture")).ends([(topic, p) for p in partitions])
            for (_, partition), end in ends.items():
                for offset in range(end):
                    place = partition, offset
                    ways = (place in truth.accepted[number]) + (place in truth.duplicates[number])
                    ways += letters.pop((topic, *place), 0)
                    if ways != 1:
                        self.verdict.breaks("event with no or several ends", [f"{topic}[{partition}]@{offset}: {ways}"])
                self.verdict.counted["events"] += end
            self.verdict.counted["duplicates"] += len(truth.duplicates[number])
        self.verdict.breaks("dead letter of nothing", letters)
        self.verdict.counted["dead letters"] = (
            self.verdict.counted["events"] - self.verdict.counted["duplicates"] - sum(map(len, truth.accepted)))

    def _updates(self, truth: Truth, number: int, view: int) -> None:
        """Every accepted event has one fate in a view, and the row it made is the replay's, bit for bit."""
        stage = self._topology.stages[number]
        plan, spec = stage.views[view], stage.view_specs[view]
        rows: dict[Update, bytes] = {}
        for place, made in self._rows(self._names.features(spec.name, spec.version), plan):
            if rows.setdefault(place, made) != made:
                self.verdict.breaks("row said twice, differently", [f"{plan.uid} {place}"])
        source = spec.source.name
        late = {
            (record["partition"], record["offset"], record["role"])
            for record in read_records(self._settings, self._names.late(source), self._registry)
            if record["view"] == plan.uid
        }
        roles = [each.role for each in stage.bindings if view in each.updates]
        for place in truth.accepted[self._topology.source_index(source)]:
            for role in roles:
                update = (*place, role)
                fates = sum(update in each for each in (rows, late, truth.filtered[plan.uid], truth.keyless[plan.uid]))
                if fates != 1:
                    self.verdict.breaks("update with no or several fates", [f"{plan.uid} {update}: {fates}"])
                self.verdict.counted["updates"] += 1
        expected = truth.applied[plan.uid]
        self.verdict.breaks("late otherwise than in the replay",
                            (f"{plan.uid} {place}" for place in late ^ truth.late[plan.uid]))
        self.verdict.breaks("applied otherwise than in the replay",
                            (f"{plan.uid} {place}" for place in rows.keys() ^ expected.keys()))
        self.verdict.breaks("row is not the replay's",
                            (f"{plan.uid} {p}" for p in rows.keys() & expected.keys() if rows[p] != expected[p]))

    def _rows(self, topic: str, plan: FoldPlan) -> Iterator[tuple[Update, bytes]]:
        for batch in read_batches(self._settings, topic, self._registry):
            table = pa.Table.from_batches([batch])
            at = np.flatnonzero(table["_sweep_ms"].to_numpy() == NO_SWEEP)
            values = np.stack([
                numbers_of(table[each.name]) if each.dtype == "string" else table[each.name].to_numpy().astype(float)
                for each in plan.features], axis=1)[at]
            origin = zip(*(table[n].to_numpy()[at].tolist() for n in ("_partition", "_offset", "_role")), strict=True)
            made = row_bytes(table["_seq"].to_numpy()[at], table["_as_of_ms"].to_numpy()[at], values)
            yield from zip(origin, made, strict=True)

    def _predictions(self, truth: Truth, model: ModelSpec) -> None:
        """One prediction per accepted event, with the values and the score of the replay."""
        stored = list(VectorLayout(model, self._trained.topology).stored_columns)
        model = self._trained.pipeline.streamed().model(model.name)
        layout, artifact = VectorLayout(model, self._topology), self._trained.artifacts[model.name]
        table = read_table(self._settings, self._names.predictions(model.name), self._registry)
        if table is None:
            return self.verdict.breaks("no prediction", [model.name])
        origin = table.column("origin").combine_chunks()
        places = list(zip(origin.field("partition").to_pylist(), origin.field("offset").to_pylist(), strict=True))
        self.verdict.counted["predictions"] += len(places)
        self.verdict.breaks("predicted twice", (place for place, count in Counter(places).items() if count > 1))
        self.verdict.breaks("never predicted", truth.accepted[layout.source] - set(places))
        self.verdict.breaks("predicted from nothing", set(places) - truth.accepted[layout.source])
        replayed = truth.replayed[layout.source]
        row_of = {int(offset): row for row, offset in enumerate(replayed.ready.offsets)}
        rows = truth.recorded[layout.source].rows_of(*zip(*places, strict=True)).tolist()
        at = [row_of.get(row, -1) for row in rows]
        known = [n for n, row in enumerate(at) if row >= 0]
        matrix = replayed.matrix(layout, artifact.manifest.categories)[[at[n] for n in known]]
        streamed = streamed_matrix(table, layout)[known]
        if not stored:
            scores = same_bits(table["score"].to_numpy()[known], artifact.score(matrix))
            self.verdict.breaks("score is not the replay's", [model.name] * scores.different)
        found = same_bits(*(np.delete(each, stored, 1) for each in (streamed, matrix)))
        self.verdict.counted["values"] += found.compared
        self.verdict.breaks("value is not the replay's", [model.name] * found.different)

    def _drift(self, model: str) -> None:
        """The counts that were committed beside the predictions speak of each prediction once."""
        counts = read_records(self._settings, self._names.drift_counts(model), self._registry)
        counted = sum(window["n"] for record in counts for window in record["windows"])
        predicted = sum(map(len, read_topic(self._settings, self._names.predictions(model))))
        self.verdict.breaks("drift counts", [f"{model}: {counted} of {predicted}"] if counted != predicted else [])
        final: dict[tuple, dict] = {}
        for report in read_records(self._settings, self._names.drift(model), self._registry):
            key = report["model_digest"], report["window_start"], report["feature"]
            if key not in final or report["revision"] >= final[key]["revision"]:
                final[key] = report
        reported = sum(report["n"] for report in final.values() if report["kind"] == "score")
        self.verdict.breaks("drift reports", [f"{model}: {reported} of {predicted}"] if reported != predicted else [])

    def _commits(self, status: dict[str, dict]) -> None:
        """What a shard has applied is what its group has committed, and that is not beyond its log."""
        offsets = Offsets(self._settings, self._names.group("stage"))
        shards = {}
        for name, one in status.items():
            shards |= one["shards"] if name.startswith("stage") else {}
        places = {(text[:text.rindex("[")], int(text[text.rindex("[") + 1:-1])): one for text, one in shards.items()}
        committed, ends = offsets.committed(places), offsets.ends(places)
        for place, shard in places.items():
            if not shard["next_offset"] == shard["committed"] == committed[place] <= ends[place]:
                said = f"{place}: applied {shard['next_offset']}, committed {committed[place]} of {ends[place]}"
                self.verdict.breaks("committed is not applied", [said])
        self.verdict.counted["shards"] = len(places)

    def _files(self) -> None:
        """What the sink has committed is in its files, each record once."""
        topics = [self._names.predictions(model.name) for model in self._trained.pipeline.models]
        topics += [self._names.features(v.name, v.version) for s in self._topology.stages for v in s.view_specs]
        offsets = Offsets(self._settings, self._names.group("sink"))
        for topic in topics:
            log: dict[int, set[int]] = {}
            for message in (m for batch in read_topic(self._settings, topic) for m in batch):
                log.setdefault(message.partition(), set()).add(message.offset())
            filed: Counter[tuple[int, int]] = Counter()
            for _, path in files_of(Path(self._settings.sink_url) / topic):
                table = pq.read_table(path, columns=[LOG_PARTITION, LOG_OFFSET], partitioning=None)
                filed.update(zip(table[LOG_PARTITION].to_pylist(), table[LOG_OFFSET].to_pylist(), strict=True))
            committed = offsets.committed([(topic, partition) for partition in log])
            due = {(p, o) for p, found in log.items() for o in found if o < (committed[topic, p] or 0)}
            self.verdict.breaks("twice in files", (f"{topic} {place}" for place, n in filed.items() if n > 1))
            self.verdict.breaks("not in files", (f"{topic} {place}" for place in due - filed.keys()))
            self.verdict.counted["rows in files"] += len(filed)
