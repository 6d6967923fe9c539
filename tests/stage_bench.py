"""A pipeline with two roles, a filter and two sources, its shard's log as plain tuples, and the naive stage.

Payments name an account twice: the sender (role 0 or 1, by field name: receiver first) and the receiver. Refunds name
one. ``NaiveStage`` goes through records in canonical order one by one, with the kernel's own oracle per view.
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from headrace.features import Count, Entity, FeatureView, Last, Mean, Source, Sum, field
from headrace.features.kernel.canonical_oracle import Record, sorted_records
from headrace.features.kernel.folded import QUERY, UPDATE
from headrace.features.kernel.limits import MAX_CLOCK
from headrace.features.kernel.oracle import OracleView
from headrace.features.stage import LogSlice, SourceRecords, StageCore, Ticks
from headrace.models import ModelSpec, Pipeline, compile_pipeline, number
from headrace.models.lock import Lock

REFUNDS, PAYMENTS = 0, 1     # ranks: the scored source comes last
RECEIVER, SENDER = 0, 1      # roles of a payment
PARTITIONS = {REFUNDS: 1, PAYMENTS: 2}
FIRST_INSTANT, LAST_INSTANT = 0, 60  # of the tests' time: before all events, and after all windows
PLACES = [(REFUNDS, 0), (PAYMENTS, 0), (PAYMENTS, 1)]


def schema(name, **fields):
    return {"type": "record", "name": name, "fields": [{"name": n, "type": t} for n, t in fields.items()]}


def pipeline(*without):
    """The pipeline, with some views (uids) no more declared."""
    payments = Source(
        "payments", schema=schema("P", id="string", sender="string", receiver="string", at="long", amount="double",
                                  note=["null", "string"]),
        key="id", event_time="at", allowed_lateness="3ms")
    refunds = Source(
        "refunds", schema=schema("R", id="string", account="string", at="long", amount=["null", "double"]),
        key="id", event_time="at")
    account = Entity("account", {"account": str})
    sent = FeatureView("sent", source=payments, entity=account, on={"account": "sender"},
                       features=[Sum("amount", "5ms"), Count("5ms"), Count("note", "5ms")], sweep="2ms")
    got = FeatureView("got", version=2, source=payments, entity=account, on={"account": "receiver"},
                      where=field("amount") > 2, features=[Mean("amount", "5ms"), Last("amount")], sweep="1ms")
    refunded = FeatureView("refunded", source=refunds, entity=account, on={"account": "account"},
                           features=[Count("4ms"), Mean("amount", "4ms")], sweep="3ms")
    asked = [sent.at({"account": "sender"}, as_="sender"), refunded.at({"account": "sender"}, as_="s"),
             got.at({"account": "receiver"}, as_="receiver"), sent.at({"account": "receiver"}, as_="r")]
    fraud = ModelSpec("fraud", scores=payments, inputs=[
        number("amount"), *(one for one in asked if one.view.uid not in without)])
    return Pipeline("fraud", models=[fraud], lock=Lock(Path("fraud.lock.json")))


TOPOLOGY = compile_pipeline(pipeline())
STAGE = TOPOLOGY.stages[0]
UIDS = [plan.uid for plan in STAGE.views]


class Event(NamedTuple):
    """One stage record with what it carries."""

    record: Record
    account: str
    event_time: int
    amount: float | None
    note: str | None = None


class Tick(NamedTuple):
    source: int
    partition: int
    offset: int
    clock: int


def ends(events):
    """The last tick of a log: every partition has ended."""
    return [Tick(*at, 1 + max((e.record.offset for e in events if e.record[:2] == at), default=-1), MAX_CLOCK)
            for at in PLACES]


def key_of(account):
    return b'["%s"]' % account.encode()


def slice_of(log, first=0):
    """A LogSlice of entries: an Event, or a list of Ticks; ``first`` is the log offset of the first."""
    records = []
    for source in STAGE.sources:
        mine = [(i, e) for i, e in enumerate(log) if isinstance(e, Event) and e.record.source == source]
        of = {name: np.array([getattr(e.record, name) for _, e in mine], np.int64)
              for name in ("partition", "offset", "stamp", "role")}
        carried = {"amount": pa.array([e.amount for _, e in mine], pa.float64()),
                   "note": pa.array([e.note for _, e in mine], pa.string())}
        names = list(STAGE.carried(source))
        records.append(SourceRecords(
            source=source, position=np.array([i for i, _ in mine], np.int32), **of,
            event_time=np.array([e.event_time for _, e in mine], np.int64),
            source_key=pa.array([e.record.source_key for _, e in mine], pa.string()),
            entity_key=[key_of(e.account) for _, e in mine],
            fields=pa.RecordBatch.from_arrays([carried[name] for name in names], names=names)))
    ticks = [(i, *tick) for i, e in enumerate(log) if not isinstance(e, Event) for tick in e]
    return LogSlice(np.arange(first, first + len(log)), records, Ticks(*np.array(ticks, np.int64).reshape(-1, 5).T))


def core():
    return StageCore(0, TOPOLOGY, PARTITIONS)


def plain(values):
    """A row of features as a list, null as None."""
    return [None if math.isnan(value) else value for value in np.asarray(values).tolist()]


def said(output, uids=UIDS):
    """An output as plain lists: rows of events and of sweeps by uid, answers, late, each in order."""
    rows = {uids[view]: list(zip(
        r.entity_key, zip(r.source.tolist(), r.partition.tolist(), r.offset.tolist(), r.role.tolist(), strict=True),
        r.event_time.tolist(), r.as_of.tolist(), r.seq.tolist(), map(plain, r.values), r.sweep.tolist(), strict=True))
        for view, r in output.rows.items()}
    for each in rows.values():
        newest = {}
        for key, _, _, _, seq, _, instant in each:  # whatever the order of keys, of a key the version rises
            assert newest.get(key, (0, 0)) < (seq, instant)
            newest[key] = seq, instant
    sweeps = {uid: [(key, instant, time, as_of, seq, values) for key, _, time, as_of, seq, values, instant in each
                    if instant] for uid, each in rows.items()}
    rows = {uid: [row[:-1] for row in each if not row[-1]] for uid, each in rows.items()}
    answers = [
        ((a.source, int(a.partition[i]), int(a.offset[i]), int(a.role[i])), int(a.stamp[i]), {
            uids[v]: (int(s.status[i]), int(s.as_of[i]), int(s.seq[i]), plain(s.values[i]))
            for v, s in a.views.items()})
        for a in output.answers for i in range(len(a.offset))]
    lates = output.late
    late = list(zip([uids[v] for v in lates.view.tolist()], lates.entity_key, zip(
        lates.source.tolist(), lates.partition.tolist(), lates.offset.tolist(), lates.role.tolist(), strict=True),
        lates.event_time.tolist(), lates.stream_time.tolist(), strict=True))
    found = ({uid: each for uid, each in by_uid.items() if each} for by_uid in (rows, sweeps))
    return dict(zip(("rows", "sweeps"), found, strict=True)) | {"answers": answers, "late": sorted(late)}


def merged(outputs):
    """Several ``said`` as one."""
    whole = {"rows": {}, "sweeps": {}, "answers": [], "late": []}
    for output in outputs:
        for kind in ("rows", "sweeps"):
            for uid, rows in output[kind].items():
                whole[kind].setdefault(uid, []).extend(rows)
        whole["answers"] += output["answers"]
        whole["late"] = sorted(whole["late"] + output["late"])
    return whole


class NaiveStage:
    """What a stage is: one record after the other, one view after the other."""

    def __init__(self):
        self.views = [OracleView(plan) for plan in STAGE.views]
        self.slot = {}

    def run(self, events):
        by_record = {event.record: event for event in events}
        whole = {"rows": {}, "sweeps": {}, "answers": [], "late": []}
        now = FIRST_INSTANT
        for record in sorted_records(by_record):
            clock = max(r.stamp for r in by_record if r[:2] == record[:2] and r.offset <= record.offset)
            self._sweeps(now, clock, whole)
            now = clock
            self._record(by_record[record], whole)
        self._sweeps(now, LAST_INSTANT, whole)
        whole["late"].sort()
        return whole

    def _sweeps(self, after, until, whole):
        keys = list(self.slot)
        for instant in range(after + 1, until + 1):
            for plan, state in zip(STAGE.views, self.views, strict=True):
                swept = state.sweep(instant) if instant % plan.sweep_ms == 0 else []
                whole["sweeps"].setdefault(plan.uid, []).extend(sorted(
                    (keys[slot], instant, stream_time, max(stream_time, instant), seq, plain(row))
                    for slot, stream_time, seq, row in swept))
        whole["sweeps"] = {uid: each for uid, each in whole["sweeps"].items() if each}

    def _record(self, event, whole):
        record, key = event.record, key_of(event.account)
        slot = self.slot.setdefault(key, len(self.slot))
        binding = STAGE.bindings_of(record.source)[record.role]
        origin, views = (record.source, record.partition, record.offset, record.role), {}
        for view, (plan, state) in enumerate(zip(STAGE.views, self.views, strict=True)):
            if view in binding.updates and not (plan.where is not None and not event.amount > 2):
                self._update(plan, state, slot, event, origin, whole)
            if view in binding.queries:
                views[plan.uid] = self._answer(plan, state, slot, event.event_time)
        if views:
            width = {UIDS[v]: len(STAGE.views[v].features) for b in STAGE.bindings_of(record.source) for v in b.queries}
            none = {uid: (2, 0, 0, [None] * n) for uid, n in width.items()}
            whole["answers"].append((origin, record.stamp, none | views))

    @staticmethod
    def _values(plan, event):
        known = {"amount": event.amount, "(1.0 when ~(note is null))": None if event.note is None else 1.0}
        return np.array([[math.nan if known[c.text] is None else known[c.text] for c in plan.columns]])

    def _update(self, plan, state, slot, event, origin, whole):
        folded = state.fold([slot], [event.event_time], [UPDATE], self._values(plan, event))
        key, stream_time = key_of(event.account), int(folded.stream_time[0])
        if folded.applied[0]:
            whole["rows"].setdefault(plan.uid, []).append(
                (key, origin, event.event_time, stream_time, int(folded.seq[0]), plain(folded.rows[0])))
        else:
            whole["late"].append((plan.uid, key, origin, event.event_time, stream_time))

    @staticmethod
    def _answer(plan, state, slot, event_time):
        folded = state.fold([slot], [event_time], [QUERY], np.full((1, len(plan.columns)), math.nan))
        return (0 if folded.answered[0] else 1, event_time, int(folded.seq[0]), plain(folded.answers[0]))
