"""The drift merger: counts of all scorers in, one report per feature and window out.

State is rebuilt from the start of the counts topic at every start, and what was already reported is read from the
output topic, so a restart neither loses nor repeats a report. Counts are small: one record per transaction of a scorer.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from headrace.models import ModelSpec
from headrace.models.artifact import Artifact
from headrace.models.drift_windows import DriftWindows
from headrace.schemas.codec import BatchCodec
from headrace.schemas.records import drift_report_schema
from headrace.schemas.registry import value_subject
from headrace.schemas.topics import TopicNames
from headrace.schemas.wire import frame
from headrace.streams.collect import decode_messages, read_records
from headrace.streams.failpoints import reached
from headrace.streams.producer import GaplessProducer
from headrace.streams.registry import open_registry
from headrace.streams.settings import Settings
from headrace.streams.status import StatusFile

log = logging.getLogger(__name__)

CONSUME_COUNT = 1_000
STATUS_EVERY_S = 1.0
CONSUME_WAIT_S = 0.2  # reports are due once a day of event time


class DriftMerger:
    """Merges the drift counts of models.

    Parameters
    ----------
    pipeline : str
        Name of the pipeline.
    models : sequence of (ModelSpec, Artifact)
    settings : Settings
    status_path : Path, optional
    """

    def __init__(
        self, pipeline: str, models: Sequence[tuple[ModelSpec, Artifact]], settings: Settings,
        status_path: Path | None = None,
    ) -> None:
        self._settings, self._names = settings, TopicNames(pipeline, settings.prefix)
        self._registry = open_registry(settings)
        self._consumer = Consumer(settings.client(
            group__id=self._names.group("drift"), isolation__level="read_committed", enable__auto__commit=False,
            auto__offset__reset="earliest",
        ))
        self._producer = GaplessProducer(settings, f"{pipeline}.drift")
        self._codec = BatchCodec(drift_report_schema())
        self._status = StatusFile(status_path)
        self.counts: Counter[str] = Counter()
        self._windows: dict[str, DriftWindows] = {}
        self._schema_ids: dict[str, int] = {}
        self._reported: dict[str, set[tuple]] = {}
        self._shown: dict[str, int] = {}
        self._clocks: dict[str, int] = {}   # Kafka time of the last record read, by topic
        self._next_status = 0.0
        for model, artifact in models:
            topic = self._names.drift(model.name)
            source = self._names.source(model.scores.topic)
            partitions = len(self._consumer.list_topics(source, timeout=10).topics[source].partitions)
            reference = artifact.manifest.reference
            self._windows[model.name] = DriftWindows(model.name, artifact.digest, reference, partitions)
            self._schema_ids[model.name] = self._registry.register(value_subject(topic), drift_report_schema())
            self._reported[model.name] = {_identity(r) for r in read_records(settings, topic, self._registry)}

    def run(self, stop: threading.Event) -> None:
        """Merge until `stop` is set."""
        topics = [self._names.drift_counts(model) for model in self._windows]
        self._consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING) for topic in topics])
        codecs: dict[int, BatchCodec] = {}
        while not stop.is_set():
            messages = [m for m in self._consumer.consume(CONSUME_COUNT, CONSUME_WAIT_S) if m.error() is None]
            for record in decode_messages(messages, self._registry, codecs):
                outcome = self._windows[record["model"]].add(record)
                self.counts[outcome.value] += 1
            if messages:
                self._report(stop)
                self._clocks |= {m.topic(): m.timestamp()[1] for m in messages}
            self._show_position()
            if time.monotonic() >= self._next_status:
                self._write_status()
        self._write_status()
        self._producer.flush()
        self._consumer.close()

    def _show_position(self) -> None:
        """Commit where reading stands, markers included: for whoever watches; a restart reads from the start."""
        places = [p for p in self._consumer.position(self._consumer.assignment()) if p.offset >= 0]
        moved = [p for p in places if self._shown.get(p.topic) != p.offset]
        if moved:
            reached("drift.before_commit")
            self._consumer.commit(offsets=moved, asynchronous=True)
            reached("drift.after_commit")
            self._shown.update({p.topic: p.offset for p in moved})

    def _report(self, stop: threading.Event) -> None:
        for model, windows in self._windows.items():
            due = windows.due(stopped=stop.is_set)
            fresh = [report for report in due if _identity(report) not in self._reported[model]]
            if not fresh:
                continue
            batch = pa.RecordBatch.from_pylist(fresh, self._codec.arrow_schema)
            values = frame(self._schema_ids[model], self._codec.encode(batch))
            keys = [f'["{r["feature"]}",{r["window_start"]}]'.encode() for r in fresh]
            reached("drift.before_produce")
            self._producer.produce(self._names.drift(model), 0, keys, values)
            self._producer.flush()
            reached("drift.after_produce")
            self._reported[model].update(_identity(report) for report in fresh)
            self.counts["reports"] += len(fresh)

    def _write_status(self) -> None:
        self._next_status = time.monotonic() + STATUS_EVERY_S
        partitions = {
            f"{topic}[0]": {"position": offset, "clock": self._clocks.get(topic)}
            for topic, offset in self._shown.items()
        }
        self._status.write({
            "role": "drift", "worker": self._settings.worker, **self.counts, "partitions": partitions,
        })


def _identity(report: dict) -> tuple:
    """What makes a report the same report: a repetition with other counts is a new one."""
    return (
        report["model_digest"], report["feature"], report["window_start"], report["revision"], tuple(report["counts"])
    )
