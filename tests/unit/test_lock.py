"""The lock: what it writes down, what it lets pass, and how a silent change is told."""

from dataclasses import replace

import pytest
from typer.testing import CliRunner

from headrace.features import Count, Entity, FeatureView, Last, Source, Sum, field
from headrace.features.topology import GONE
from headrace.models import Label, ModelSpec, Pipeline, check_lock, compile_pipeline, number
from headrace.models.flights import PIPELINE as FLIGHTS
from headrace.models.lock import Lock, read_lock
from headrace.models.locking import Difference, judge, next_lock
from headrace.schemas.errors import DeclarationError
from headrace.streams.cli import app


def record(name, **fields):
    return {"type": "record", "name": name, "fields": [{"name": n, "type": t} for n, t in fields.items()]}


SALES = Source("sales", key="id", event_time="at", event_id="id", schema=record(
    "Sale", id="string", shop="string", to="string", at="long", amount="double"))
REFUNDS = Source("refunds", key="shop", event_time="at", schema=record(
    "Refund", shop="string", at="long", refund="double"))
SHOP = Entity("shop", {"shop": str})
SOLD = FeatureView("sold", source=SALES, entity=SHOP, features=[Count("1h"), Sum("amount", ["1h", "1d"])])
REFUNDED = FeatureView("refunded", source=REFUNDS, entity=SHOP, features=[Sum("refund", "1d")])
RISK = ModelSpec("risk", scores=SALES, inputs=[number("amount"), SOLD, REFUNDED])


def pipeline(*views, models=(RISK,), lock=None):
    return Pipeline("till", models=models, views=views, lock=lock or Lock(path=None))


def locked(*views, models=(RISK,), lock=None):
    return next_lock(pipeline(*views, models=models, lock=lock))


def ranks(declared):
    return [source.name for source in compile_pipeline(declared).sources]


def found(changed):
    return {(each.what, each.difference): each for each in judge(changed)}


def test_the_flights_are_what_is_locked():
    check_lock(FLIGHTS)


def test_a_lock_is_read_as_it_was_written(tmp_path):
    lock = replace(locked(SOLD), path=tmp_path / "till.lock.json")
    lock.path.write_text(lock.text)
    assert read_lock(lock.path) == lock
    assert judge(pipeline(SOLD, lock=lock)) == []
    assert next_lock(pipeline(SOLD, lock=lock)).text == lock.text


def test_a_changed_meaning_names_what_changed_and_what_to_do():
    changed = replace(SOLD, features=[Count("1h"), Last("amount", "1h", name="amount_sum_1h"), Sum("amount", "1d")],
                      where=field("amount") > 0)
    after = pipeline(models=[replace(RISK, inputs=[number("amount"), changed, REFUNDED])], lock=locked())
    finding = found(after)["view sold.v1", Difference.CHANGED]
    assert finding.lines == (
        "features.amount_sum_1h: sum of amount over 3600000 ms -> last of amount over 3600000 ms",
        'where: null -> "(amount > 0.0)"',
    )
    assert finding.advice == "raise it to version=2 in sold, then run `headrace lock`"
    with pytest.raises(DeclarationError, match="sold.v1: changed"):
        next_lock(after)
    with pytest.raises(DeclarationError, match="no lock at"):
        check_lock(pipeline())


def test_a_source_that_lets_in_something_else_changes_what_reads_it():
    late = replace(REFUNDS, allowed_lateness="1h")
    changed = replace(RISK, inputs=[number("amount"), SOLD, replace(REFUNDED, source=late)])
    said = found(pipeline(models=[changed], lock=locked()))
    assert said["view refunded.v1", Difference.CHANGED].lines == ("source.lateness_ms: 0 -> 3600000",)
    assert said["source refunds", Difference.CHANGED].lines == ("lateness_ms: 0 -> 3600000",)


@pytest.mark.parametrize("change", [{"owner": "x"}, {"ttl": "2d"}, {"description": "x"}, {"sweep": "7m"}])
def test_words_and_refreshing_are_no_meaning(change):
    same = replace(RISK, inputs=[number("amount"), replace(SOLD, **change), REFUNDED])
    assert judge(pipeline(models=[same], lock=locked())) == []


def test_a_new_optional_field_of_a_source_is_no_change():
    wider = record("Refund", shop="string", at="long", refund="double", tax=["null", "double"])
    same = replace(RISK, inputs=[number("amount"), SOLD, replace(REFUNDED, source=replace(REFUNDS, schema=wider))])
    assert judge(pipeline(models=[same], lock=locked())) == []


def test_a_model_may_judge_otherwise_but_not_see_otherwise():
    strict = replace(RISK, threshold=0.9, label=Label(REFUNDS, on="shop", value=field("refund") > 1))
    finding = found(pipeline(models=[strict], lock=locked()))["model risk", Difference.JUDGED]
    assert finding.lines[0].startswith("label: null -> {") and finding.lines[1] == "threshold: 0.5 -> 0.9"
    assert judge(pipeline(models=[strict], lock=locked(models=[strict], lock=locked()))) == []
    blind = replace(RISK, inputs=[SOLD, REFUNDED])
    assert "another name" in found(pipeline(models=[blind], lock=locked()))["model risk", Difference.CHANGED].advice


def test_new_and_gone_are_told_and_written_down():
    second = replace(SOLD, version=2, features=[Count("2h")])
    other = ModelSpec("other", scores=SALES, inputs=[number("amount"), second])
    after = pipeline(models=[other], lock=locked())
    assert {key for key, each in found(after).items() if not each.lines} == {
        ("view sold.v2", Difference.NEW), ("model other", Difference.NEW), ("view sold.v1", Difference.GONE),
        ("view refunded.v1", Difference.GONE), ("model risk", Difference.GONE), ("source refunds", Difference.GONE)}
    lock = next_lock(after)
    assert set(lock.retired_views) == {"sold.v1", "refunded.v1"} and lock.retired_stages == (("shop", 1),)
    assert lock.places == {"sold.v2": "shop.g2"}
    # a name that was in use comes back as what it was, in a log of its own; never as something else
    assert locked(REFUNDED, models=[other], lock=lock).places == {"sold.v2": "shop.g2", "refunded.v1": "shop.g3"}
    changed = replace(REFUNDED, features=[Sum("refund", "2d")])
    assert ("view refunded.v1", Difference.CHANGED) in found(pipeline(changed, models=[other], lock=lock))


def test_a_view_that_is_new_since_the_lock_gets_a_stage_of_its_own_and_the_others_keep_theirs():
    lock, second = locked(), replace(SOLD, version=2)
    before, (first, own) = compile_pipeline(pipeline()), compile_pipeline(pipeline(second, lock=lock)).stages
    assert (first.name, first.generation, own.name, own.generation) == ("shop", 1, "shop.g2", 2)
    assert first == replace(before.stages[0]) and first.log_digest == before.stages[0].log_digest
    assert [view.uid for view in own.views] == ["sold.v2"] and own.log_digest != first.log_digest
    assert compile_pipeline(pipeline(second, lock=next_lock(pipeline(second, lock=lock)))).stages == (first, own)
    assert len(compile_pipeline(pipeline(second)).stages) == 1   # nothing is locked: nothing runs


def test_a_source_keeps_its_rank_when_a_new_model_scores_it():
    lock = locked()
    scoring = ModelSpec("scoring", scores=REFUNDS, inputs=[number("refund")])
    assert ranks(pipeline(models=[RISK, scoring], lock=lock)) == ["refunds", "sales"]
    early = Source("audits", key="shop", event_time="at", schema=record("A", shop="string", at="long", x="double"))
    audits = FeatureView("audits", source=early, entity=SHOP, features=[Count("1h")])
    assert ranks(pipeline(audits)) == ["audits", "refunds", "sales"]
    assert ranks(pipeline(audits, lock=lock)) == ["refunds", "sales", "audits"]


def test_the_log_of_a_stage_is_what_it_was_when_a_view_and_its_source_are_gone():
    lock = locked()
    (before,) = compile_pipeline(pipeline(lock=lock)).stages
    less = ModelSpec("less", scores=SALES, inputs=[number("amount"), SOLD])
    topology = compile_pipeline(pipeline(models=[less], lock=lock))
    (after,) = topology.stages
    assert after.log_digest == before.log_digest and [view.uid for view in after.views] == ["sold.v1"]
    assert [(feed.name, feed.source) for feed in after.feeds] == [("refunds", GONE), ("sales", 0)]
    assert after.carried(0) == before.carried(1) == {"amount": "double"}


def test_a_model_that_asks_otherwise_asks_a_new_version():
    elsewhere = ModelSpec("elsewhere", scores=SALES, inputs=[number("amount"), SOLD.at({"shop": "to"}, as_="there")])
    finding = found(pipeline(models=[RISK, elsewhere], lock=locked()))["model elsewhere", Difference.CHANGED]
    assert finding.lines == ("asks sold.v1 by to of sales, which its stage was not made to answer",)
    second = replace(SOLD, version=2)
    asks = ModelSpec("elsewhere", scores=SALES, inputs=[number("amount"), second.at({"shop": "to"}, as_="there")])
    lock = locked(models=[RISK, asks], lock=locked())
    assert lock.places["sold.v2"] == "shop.g2"
    same = ModelSpec("challenger", scores=SALES, inputs=[number("amount"), SOLD])
    assert locked(models=[RISK, same], lock=locked()).stages.keys() == {"shop"}


@pytest.mark.parametrize(("text", "said"), [
    ("<<<<<<< ours", "not JSON"), ("{}", "format 1 is expected"), ('{"format": 1, "sources": {}}', "incomplete"),
])
def test_a_file_that_is_no_lock_is_told(tmp_path, text, said):
    (tmp_path / "x.lock.json").write_text(text)
    with pytest.raises(DeclarationError, match=said):
        read_lock(tmp_path / "x.lock.json")


MODULE = """
from headrace.features import *
from headrace.models import *
sales = Source("sales", key="id", event_time="at", schema={{"type": "record", "name": "S", "fields": [
    {{"name": "id", "type": "string"}}, {{"name": "at", "type": "long"}}, {{"name": "amount", "type": "double"}}]}})
sold = FeatureView("sold", version={version}, source=sales, entity=Entity("id", {{"id": str}}), features=[{feature}])
PIPELINE = Pipeline("kiosk", models=[ModelSpec("risk", scores=sales, inputs=[number("amount")])], views=[sold])
"""


def test_the_command_line_locks_checks_and_refuses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def told(verb, module, *rest, version=1, feature='Sum("amount", "1h")'):
        (tmp_path / f"{module}.py").write_text(MODULE.format(version=version, feature=feature))
        result = CliRunner().invoke(app, [verb, "--pipeline", f"{module}:PIPELINE", *rest], env={"COLUMNS": "200"})
        return result.exit_code, " ".join(result.output.split())

    code, text = told("check", "kiosk_a")
    assert code == 0 and "no lock: `headrace lock` writes" in text
    assert told("lock", "kiosk_b")[0] == 0 and (tmp_path / "kiosk.lock.json").exists()
    code, text = told("check", "kiosk_c", feature='Sum("amount", "2h", name="amount_sum_1h")')
    line = "features.amount_sum_1h: sum of amount over 3600000 ms -> sum of amount over 7200000 ms"
    assert code == 1 and line in text
    assert told("lock", "kiosk_d", feature='Sum("amount", "2h")')[0] == 1
    assert told("apply", "kiosk_e", feature='Sum("amount", "2h")')[0] == 1
    code, text = told("check", "kiosk_f", version=2, feature='Sum("amount", "2h")')
    assert code == 1 and "view sold.v2: new" in text and "`headrace lock` writes this down" in text
    code, text = told("lock", "kiosk_g", version=2, feature='Sum("amount", "2h")')
    assert code == 0 and "stage id.g2: new, with sold.v2" in text
    code, text = told("check", "kiosk_h", version=2, feature='Sum("amount", "2h")')
    assert code == 0 and "as locked in" in text
