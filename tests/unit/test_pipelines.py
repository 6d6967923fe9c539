"""Pipelines loaded by name: what is found, and what a user reads when it is not."""

import json
import sys

import pytest
from rich.console import Console
from typer.testing import CliRunner

from headrace.models import ModelSpec, Pipeline, number
from headrace.schemas.errors import DeclarationError
from headrace.streams.cli import app
from headrace.streams.pipelines import describe, load_pipeline

GOOD = """
from headrace.features import Count, Entity, FeatureView, Source, field
from headrace.models import Label, ModelSpec, Pipeline, category

schema = {"type": "record", "name": "O", "fields": [
    {"name": "id", "type": "string"}, {"name": "shop", "type": "string"}, {"name": "at", "type": "long"},
    {"name": "paid", "type": "boolean"}]}
orders = Source("orders", schema=schema, key="id", event_time="at")
counts = FeatureView("counts", source=orders, entity=Entity("shop", {"shop": str}), features=[
    Count(["1h", "1d"], where=field("shop").is_in(["bold", "red"])), Count("paid")])
model = ModelSpec("unpaid", scores=orders, inputs=[category("shop"), counts], label=Label(value=~field("paid")))
PIPELINE = Pipeline("shop", models=[model])
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory of a user; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def refusal(reference):
    with pytest.raises(DeclarationError) as caught:
        load_pipeline(reference)
    return str(caught.value)


def test_a_module_of_the_working_directory_comes_first(folder):
    (folder / "shop").mkdir()
    (folder / "shop" / "pipeline.py").write_text(GOOD)
    assert load_pipeline("shop.pipeline:PIPELINE").name == "shop"
    assert sys.path[0] == str(folder)
    load_pipeline("shop.pipeline:PIPELINE")
    assert sys.path.count(str(folder)) == 1


@pytest.mark.parametrize("reference", ["shop", "shop:", ":PIPELINE", "shop:a.b", "shop-1:P", ""])
def test_a_reference_has_one_form(reference):
    assert "expected MODULE:OBJECT" in refusal(reference)


def test_a_file_name_is_answered_with_the_module_name():
    assert "perhaps shop.pipeline:PIPELINE" in refusal("shop/pipeline.py:PIPELINE")


def test_a_missing_module_names_where_was_looked(folder):
    said = refusal("nowhere.pipeline:PIPELINE")
    assert "no module 'nowhere'" in said and str(folder) in said


def test_a_missing_import_inside_the_module_is_not_taken_for_a_missing_module(folder):
    (folder / "shop_a.py").write_text("x = 1\nimport not_installed_anywhere\n")
    said = refusal("shop_a:PIPELINE")
    assert "No module named 'not_installed_anywhere'" in said and "shop_a.py:2" in said


def test_a_missing_object_is_answered_with_the_nearest_pipeline(folder):
    (folder / "shop_b.py").write_text(GOOD)
    assert "has no PIPELNE; did you mean PIPELINE?" in refusal("shop_b:PIPELNE")
    (folder / "shop_c.py").write_text("x = 1\n")
    assert "it has no Pipeline at all" in refusal("shop_c:PIPELINE")


def test_another_kind_of_object_is_answered_with_what_to_do(folder):
    (folder / "shop_d.py").write_text(GOOD)
    assert "model is a ModelSpec, not a Pipeline; put it into one: Pipeline('unpaid', models=[model])" in refusal(
        "shop_d:model"
    )
    assert "schema is a dict, not a Pipeline; pipelines there: PIPELINE" in refusal("shop_d:schema")


def test_a_wrong_declaration_is_told_with_the_line_that_declares_it(folder):
    (folder / "shop_e.py").write_text(GOOD.replace('Count("paid")', 'Count("payed")'))
    assert refusal("shop_e:PIPELINE").splitlines() == [
        'pipeline shop_e:PIPELINE: counts.payed_count: no field "payed" in orders; did you mean paid?',
        "  at shop_e.py:9",
        '     counts = FeatureView("counts", source=orders, entity=Entity("shop", {"shop": str}), features=[',
    ]


def test_the_line_told_is_the_users_own_even_deep_in_a_library(folder):
    (folder / "shop_f.py").write_text("import json\n\ndef load():\n    return json.loads('{')\n\nx = load()\n")
    said = refusal("shop_f:PIPELINE").splitlines()
    assert said[0].startswith("pipeline shop_f:PIPELINE: JSONDecodeError: ")
    assert said[1:] == ["  at shop_f.py:4", "     return json.loads('{')"]


@pytest.mark.parametrize(("text", "said"), [
    ("x = (\n", "SyntaxError"), ("raise SystemExit(3)\n", "SystemExit: 3"), ("1 / 0\n", "ZeroDivisionError"),
])
def test_whatever_a_module_does_at_import_is_one_screen(folder, text, said):
    (folder / "shop_g.py").write_text(text)
    assert said in refusal("shop_g:PIPELINE") and len(refusal("shop_g:PIPELINE").splitlines()) == 3


def printed(pipeline, prefix=""):
    console = Console(width=160, record=True, file=None, quiet=False, force_terminal=False)
    with console.capture() as capture:
        for table in describe(pipeline, prefix):
            console.print(table)
    return capture.get()


def test_a_description_names_everything_a_user_declared(folder, flights):
    text = printed(flights.pipeline, "run7.")
    for expected in (
        "origin_departures.v1", "dep_delay_mean_1h: mean of dep_delay, last 1h", "flight_id",
        "run7.flights.stage.aircraft",
        "run7.predictions.late_arrival", "arrived: (arr_delay >= 15.0) on flight_id, known after 24h", "score >= 0.5",
        "run7.flights.features.aircraft_arrivals.v1", "hour_of_day",
    ):
        assert expected in text
    assert text == printed(flights.pipeline, "run7.")


def test_brackets_in_an_expression_are_no_markup(folder):
    (folder / "shop_h.py").write_text(GOOD)
    assert '(shop in ["bold", "red"])' in printed(load_pipeline("shop_h:PIPELINE"))


def test_a_model_without_label_and_views_is_described_too(flights):
    pipeline = Pipeline("p", models=[ModelSpec("m", scores=flights.scheduled, inputs=[number("distance")])])
    assert "none" in printed(pipeline)


def test_explained_it_says_how_exact_features_are_and_what_they_take(folder):
    (folder / "shop_i.py").write_text(GOOD.replace("entity=", "exact_events=1000, entity="))
    said = CliRunner().invoke(app, ["check", "--pipeline", "shop_i:PIPELINE", "--explain"], env={"COLUMNS": "160"})
    assert said.exit_code == 0, said.output
    assert "shop_i" not in said.output and "exact up to 1,000 events per key, then tail +6.25 %" in said.output
    assert "bytes per key" in said.output and "us per event" in said.output and "orders" in said.output
    alone = CliRunner().invoke(app, ["check", "--pipeline", "shop_i:PIPELINE", "--json"])
    (cost,) = json.loads(alone.stdout)
    assert (cost["view"], cost["exact_events"], cost["tail_error"]) == ("counts.v1", 1000, 0.0625)
    assert cost["features"]["paid_count"] == "exact" and set(cost["features"]) == {"paid_count", "count_1h", "count_1d"}
    assert cost["us_per_event"] > 0 and 0 < cost["bytes_per_key"] < cost["bytes_per_key_at_cap"]
