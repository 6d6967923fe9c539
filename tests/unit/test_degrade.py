"""The ladder: what a model declares, and on which rung a prediction is made."""

import numpy as np
import pytest

from headrace.features import Count, Entity, FeatureView, Source
from headrace.features.stage_columns import AHEAD, AWAY, MISSING, NOT_ASKED, OK, STALE, TOO_LATE
from headrace.models import Degrade, ModelSpec, Pipeline
from headrace.models.degrade import Rung, rungs_of
from headrace.schemas.errors import DeclarationError
from headrace.schemas.records import prediction_schema

EVENT = {"type": "record", "name": "Paid", "fields": [
    {"name": "card", "type": "string"}, {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}
PAID = Source("paid", schema=EVENT, key="card", event_time="at")
BY_CARD = FeatureView("by_card", source=PAID, entity=Entity("card", {"card": str}), features=[Count("1h")])
STATUSES = [OK, TOO_LATE, NOT_ASKED, MISSING, AHEAD, STALE, AWAY]


def words(degrade, *statuses, stored=(True,), late_ms=0):
    columns = [np.array(column) for column in statuses]
    late = np.full(len(columns[0]), late_ms)
    return [Rung(rung).word for rung in rungs_of(degrade, columns, stored, late)]


def test_every_status_has_its_rung_and_the_worst_view_decides():
    assert words(Degrade(), STATUSES) == ["none", "too_late", "none", "missing", "missing", "stale", "store_away"]
    assert words(Degrade(), [OK, TOO_LATE, STALE], [MISSING, MISSING, MISSING], stored=(False, True)) == [
        "missing", "missing", "stale"]


def test_only_views_of_the_store_are_refused_for():
    strict = Degrade(missing="refuse")
    assert words(strict, STATUSES)[3:] == ["refused"] * 4
    assert words(strict, [TOO_LATE], [OK], stored=(False, True)) == ["too_late"]


def test_a_deadline_marks_what_comes_later_and_without_one_nothing_expires():
    asked = Degrade(deadline="2s", missing="refuse")
    assert words(asked, [OK, STALE], late_ms=2_001) == ["expired", "refused"]
    assert words(asked, [OK], late_ms=2_000) == ["none"] == words(Degrade(), [OK], late_ms=10**9)


@pytest.mark.parametrize(("written", "said"), [
    ({"missing": "drop"}, 'missing=\'drop\'; expected "score" or "refuse"'),
    ({"store_away": "score"}, 'store_away=\'score\'; expected "wait" or "score_without"'),
    ({"stale_after": "soon"}, "stale_after"),
    ({"deadline": "0s"}, "deadline"),
])
def test_a_word_nobody_knows_is_an_error_at_import(written, said):
    with pytest.raises(DeclarationError, match=said):
        Degrade(**written)


def test_who_reads_nothing_from_the_store_cannot_miss_it_and_training_asks_the_stages_anyway():
    with pytest.raises(DeclarationError, match="no view is read there"):
        ModelSpec("m", scores=PAID, inputs=[BY_CARD], degrade=Degrade(stale_after="1m"))
    stored = ModelSpec("m", scores=PAID, inputs=[BY_CARD.at(lookup="store")], degrade=Degrade(stale_after="1m"))
    assert Pipeline("p", models=[stored]).streamed().model("m").degrade == Degrade()
    assert ModelSpec("m", scores=PAID, inputs=[BY_CARD], degrade=Degrade(deadline="2s")).degrade.deadline_ms == 2_000


def test_scores_may_be_null_only_where_a_model_refuses_and_old_predictions_were_not_degraded():
    fields = {field["name"]: field for field in prediction_schema("m", ["x"], [])["fields"]}
    assert (fields["score"]["type"], fields["degraded"]["default"]) == ("double", "none")
    fields = {field["name"]: field for field in prediction_schema("m", ["x"], [], refuses=True)["fields"]}
    assert fields["score"]["type"] == ["null", "double"] and fields["decision"]["type"] == ["null", "boolean"]
