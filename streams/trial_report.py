"""What a trial found: read what came out as any user would, and hold it against the replay of the same files."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from feast import FeatureStore

from headrace.features.plan import FoldPlan
from headrace.features.stage import StageOutput
from headrace.features.stage_columns import NO_SWEEP, RowColumns
from headrace.features.topology import Topology
from headrace.models import ModelSpec, compile_pipeline
from headrace.models.training import auc
from headrace.models.vector import VectorLayout
from headrace.schemas.registry import Registry
from headrace.schemas.topics import TopicNames
from headrace.streams.collect import read_records, read_table
from headrace.streams.dataset import ScoredEvents, labels_of, replay_scored
from headrace.streams.dead_letters import read_letters
from headrace.streams.evaluation import Comparison, compare_rows, same_bits, streamed_matrix
from headrace.streams.event_files import Events
from headrace.streams.feast_reads import read_entities
from headrace.streams.publish import places_of
from headrace.streams.registry import open_registry
from headrace.streams.settings import Settings
from headrace.streams.trial import Trained, TrialPlan

FEAST_ENTITIES_PER_VIEW = 2_000  # any systematic difference shows; Feast's client reads 40,000 features a second


Version = tuple[int, int]  # seq and sweep instant of a row


class LastRows:
    """The newest row of every entity of every view, as the replay has it: what the online store must hold.

    Attributes
    ----------
    rows : dict of view uid to dict of entity key to float64[F], object[F] if there are texts
        Those of sweeps too.
    since : dict of view uid to dict of entity key to dict of (seq, instant) to the same
        The row of a key's last event (instant ``NO_SWEEP``) and those of the sweeps after it: on live topics time goes
        on, so the store may hold any of them.
    """

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        uids = [plan.uid for stage in topology.stages for plan in stage.views]
        self.rows: dict[str, dict[bytes, np.ndarray]] = {uid: {} for uid in uids}
        self.since: dict[str, dict[bytes, dict[Version, np.ndarray]]] = {uid: {} for uid in uids}

    def see(self, stage: int, output: StageOutput) -> None:
        """Take over the rows of one stage output; later rows of a key replace earlier ones."""
        for view, columns in output.rows.items():
            plan = self._topology.stages[stage].views[view]
            uid, cells = plan.uid, cells_of(plan, columns)
            self.rows[uid].update(zip(columns.entity_key, cells, strict=True))
            since = self.since[uid]
            versions = zip(columns.seq.tolist(), columns.sweep.tolist(), strict=True)
            for key, version, row in zip(columns.entity_key, versions, cells, strict=True):
                if version[1] == NO_SWEEP:
                    since[key] = {}
                since[key][version] = row


def cells_of(plan: FoldPlan, rows: RowColumns) -> np.ndarray:
    """Return the features of n rows, float64[n, F], or with texts in their places object[n, F]; null is NaN."""
    if not rows.texts:
        return rows.values
    cells = rows.values.astype(object)
    for feature, texts in zip(plan.texts, rows.texts, strict=True):
        cells[:, feature] = [np.nan if text is None else text for text in texts.to_pylist()]
    return cells


@dataclass(frozen=True)
class Findings:
    """One model's outcome."""

    predictions: int
    expected: int
    duplicates: int
    parity: Comparison
    auc: Mapping[str, float | None]


def judge(
    trained: Trained, events: Sequence[Events], label_events: Sequence[Events], settings: Settings, plan: TrialPlan,
    store: FeatureStore, last_clock: int | None = None,
) -> dict[str, Any]:
    """Read everything a run has written and compare it with the replay; returns the report's findings.

    `last_clock` as in `publish_replay`. Values read from the online store have no part in the parity (`not_compared`
    names the inputs): what it held when an event was scored is in no log.
    """
    registry = open_registry(settings)
    names = TopicNames(trained.pipeline.name, settings.prefix)
    streamed = compile_pipeline(trained.pipeline.streamed())
    last = LastRows(streamed)
    replayed = replay_scored(streamed, events, last.see, last_clock=last_clock)
    findings = {
        model.name: _model_findings(
            model, streamed, trained, replayed, [*events, *label_events], settings, plan, registry
        )
        for model in trained.pipeline.models
    }
    return {
        "events": sum(len(one.stamps) for one in events),
        "views": sum(len(stage.views) for stage in trained.topology.stages),
        "predictions": sum(f.predictions for f in findings.values()),
        "expected_predictions": sum(f.expected for f in findings.values()),
        "duplicates": sum(f.duplicates for f in findings.values()),
        "auc": _only({name: f.auc for name, f in findings.items()}),
        "parity": sum((f.parity for f in findings.values()), Comparison(0, 0)).to_json(),
        "feast": feast_parity(trained.topology, last, store).to_json(),
        "dead_letters": dead_letters(settings, names),
        "not_compared": {m.name: [one.prefix for one in m.views if one.is_stored] for m in trained.pipeline.models
                         if any(one.is_stored for one in m.views)},
        "late": late_counts(settings, names, trained.topology, registry),
        "drift": _only({m.name: drift_summary(settings, names, m.name, registry) for m in trained.pipeline.models}),
    }


def _only(by_model: dict[str, Any]) -> Any:
    return next(iter(by_model.values())) if len(by_model) == 1 else by_model


def _model_findings(
    model: ModelSpec, streamed: Topology, trained: Trained, replayed: Mapping[int, ScoredEvents],
    events: Sequence[Events], settings: Settings, plan: TrialPlan, registry: Registry,
) -> Findings:
    stored = VectorLayout(model, trained.topology).stored_columns
    model = trained.pipeline.streamed().model(model.name)
    layout, artifact = VectorLayout(model, streamed), trained.artifacts[model.name]
    dataset = replayed[layout.source]
    matrix = dataset.matrix(layout, artifact.manifest.categories)
    table = read_table(settings, TopicNames(trained.pipeline.name, settings.prefix).predictions(model.name), registry)
    row = rows_of(table, events[layout.source], plan.partitions, dataset)
    known = row >= 0
    vectors = streamed_matrix(table, layout)
    scores = np.full(len(matrix), np.nan)
    scores[row[known]] = table.column("score").to_numpy()[known]
    labels = labels_of(model, dataset, events, plan.until)
    labels[dataset.column("_stamp").to_numpy() < plan.train_until] = np.nan
    values = {"stream": auc(scores, labels), "replay": auc(artifact.score(matrix), labels)}
    if model.name in trained.baselines:
        base = trained.baselines[model.name]
        values["request_only"] = auc(base.score(dataset.matrix(base.layout, base.categories)), labels)
    ids = table.column("id").to_pylist()
    return Findings(
        len(ids), len(matrix), len(ids) - len(set(ids)),
        same_bits(np.delete(vectors[known], stored, 1), np.delete(matrix[row[known]], stored, 1))
        + Comparison(0, int((~known).sum())), values,
    )


def rows_of(table: pa.Table, events: Events, partitions: int, dataset: ScoredEvents) -> np.ndarray:
    """Return for every prediction the row of the replayed data set it belongs to; -1 where there is none."""
    partition, offset = places_of(events, partitions)
    row_of_file = np.full(len(partition), -1, np.int64)
    row_of_file[dataset.ready.offsets] = np.arange(len(dataset.ready.offsets))
    found = {place: row_of_file[n] for n, place in enumerate(zip(partition.tolist(), offset.tolist(), strict=True))}
    origin = table.column("origin").combine_chunks()
    places = zip(origin.field("partition").to_pylist(), origin.field("offset").to_pylist(), strict=True)
    return np.array([found.get(place, -1) for place in places], np.int64)


def feast_parity(
    topology: Topology, last: LastRows, store: FeatureStore,
    stored: Callable[[int, int, Sequence[bytes]], Sequence[Version]] | None = None,
) -> Comparison:
    """Compare the last rows of the replay with what the stock Feast client reads.

    Parameters
    ----------
    stored : callable (stage index, view index, entity keys) -> versions, optional
        Where time goes on: which version of each row was read. It must be that of the key's last event or of a sweep
        after it; without this, it must be the last.
    """
    total = Comparison(0, 0)
    for number, stage in enumerate(topology.stages):
        for view, (plan, spec) in enumerate(zip(stage.views, stage.view_specs, strict=True)):
            keys = sorted(last.rows[plan.uid])[:FEAST_ENTITIES_PER_VIEW]
            rows = [last.rows[plan.uid][key] for key in keys]
            if stored is not None:
                never = np.full(len(plan.features), np.inf)
                rows = [
                    last.since[plan.uid][key].get(version, never)
                    for key, version in zip(keys, stored(number, view, keys), strict=True)
                ]
            expected = {}
            for key, row in zip(keys, map(np.ndarray.tolist, rows), strict=True):
                expected[key] = {
                    feature.name: _as_feast(value, feature.dtype)
                    for feature, value in zip(plan.features, row, strict=True)
                }
            total += compare_rows(expected, read_entities(store, spec, keys))
    return total


def _as_feast(value: float | str, dtype: str) -> float | int | str | None:
    if value != value:
        return None
    return int(value) if dtype == "long" and np.isfinite(value) else value


def dead_letters(settings: Settings, names: TopicNames) -> dict[str, int]:
    """Count dead letters by reason code; one event counts once, however often it was written."""
    return dict(sorted(Counter(letter.reason for letter in read_letters(settings, names)).items()))


def late_counts(settings: Settings, names: TopicNames, topology: Topology, registry: Registry) -> dict[str, int]:
    """Count late events by view, each once."""
    seen = {
        (record["view"], source.name, record["partition"], record["offset"], record["role"])
        for source in topology.sources
        for record in read_records(settings, names.late(source.name), registry)
    }
    return dict(sorted(Counter(view for view, *_ in seen).items()))


def drift_summary(settings: Settings, names: TopicNames, model: str, registry: Registry) -> dict[str, Any]:
    """Summarise the final revisions of a model's drift reports."""
    final: dict[tuple, dict] = {}
    count = 0
    for report in read_records(settings, names.drift(model), registry):
        count += 1
        key = (report["window_start"], report["feature"])
        if key not in final or report["revision"] >= final[key]["revision"]:
            final[key] = report
    drifted = Counter(feature for (_, feature), report in final.items() if report["drifted"])
    return {
        "reports": count,
        "windows": len({window for window, _ in final}),
        "drifted_windows": dict(drifted.most_common()),
    }
