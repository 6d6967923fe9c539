"""What the README names exists: commands, options, reason codes, settings, declarations."""

import json
import re
import shlex

import pytest
import typer
from typer.testing import CliRunner

from headrace.features.admission import Reason
from headrace.streams.cli import app
from headrace.streams.decoding import MAX_EVENT_BYTES, Unread
from headrace.streams.pytest_plugin import SEED_OPTION, SEEDS_OPTION
from headrace.streams.settings import Settings
from tests.readme import ROOT, TEXT, blocks, command_lines, example, section
from tests.verbs import verbs_of

TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
VERBS = verbs_of(typer.main.get_command(app))


def avsc(name: str, **fields) -> str:
    time = {"type": "long", "logicalType": "timestamp-millis"}
    listed = [{"name": field, "type": time if kind == "time" else kind} for field, kind in fields.items()]
    return json.dumps({"type": "record", "name": name, "fields": listed})


def test_every_make_target_named_exists():
    named = set(re.findall(r"(?:^    |`)make ([a-z]+)", TEXT, re.MULTILINE))
    assert {"demo", "test"} <= named <= TARGETS


@pytest.mark.parametrize("line", [line for line in command_lines() if line.startswith("headrace")])
def test_every_headrace_command_line_can_be_parsed(line):
    words = shlex.split(line)[1:]
    (verb,) = [each for each in VERBS if words[:len(each.split())] == each.split()]
    arguments = words[len(verb.split()):]
    VERBS[verb].make_context(verb, arguments)   # raises on an unknown option or a missing one


def test_every_option_named_exists():
    commands = [typer.main.get_command(app), *VERBS.values()]   # --install-completion is of no verb
    known = {option for command in commands for parameter in command.params for option in parameter.opts} | {"--help"}
    known |= {SEED_OPTION, SEEDS_OPTION}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", TEXT))
    assert "--keep" in named and named <= known


def test_the_declared_view_is_the_one_of_the_flights():
    view = blocks()[0]
    assert view.startswith("origin_departures = FeatureView(")
    assert view in (ROOT / "features" / "flights.py").read_text()


def test_every_reason_code_is_explained_and_no_other():
    explained = re.findall(r"^\| `([a-z_]+)` \|", section("What is guaranteed"), re.MULTILINE)
    codes = [str(code) for code in Unread] + [
        reason.name.lower() for reason in Reason if reason not in (Reason.OK, Reason.DUPLICATE_ID)   # only counted
    ]
    assert sorted(explained) == sorted(codes)
    assert f"{MAX_EVENT_BYTES // 1024} KiB" in TEXT


def test_settings_and_their_defaults_are_those_of_the_settings_object():
    rows = re.findall(r"^\| `HEADRACE_([A-Z_]+)` \| [^|]+ \| ([^|]+) \|$", section("Running the roles"), re.MULTILINE)
    assert len(rows) > 8
    for name, default in rows:
        found = Settings.model_fields[name.lower()].get_default(call_default_factory=True)
        assert default.strip("`") == (str(found) if found != "" else "none")


def test_the_declarations_shown_are_accepted(tmp_path, monkeypatch):
    (shown,) = [block for block in blocks() if "complaints = Source(" in block]
    (tmp_path / "readme_shop.py").write_text(shown)
    (tmp_path / "orders.avsc").write_text(avsc(
        "Order", order_id="string", customer="string", gift_to=["null", "string"], amount="double", price="double",
        quantity="int", limit="double", currency="string", placed_at="time",
    ))
    (tmp_path / "payments.avsc").write_text(avsc(
        "Payment", customer="string", paid="double", refunded="boolean", paid_at="time",
    ))
    (tmp_path / "complaints.avsc").write_text(avsc("Complaint", order_id="string", severe="boolean", filed_at="time"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    outcome = CliRunner().invoke(app, ["check", "--pipeline", "readme_shop:PIPELINE"])
    assert outcome.exit_code == 0, outcome.output
    assert "disputed" in outcome.output


def test_every_folder_and_file_linked_exists():
    for link in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (ROOT / link).exists(), link


@pytest.mark.parametrize("name", ["notebook", "produce", "consume", "look up", "history"])
def test_examples_are_python(name):
    compile(example(name), f"README.md ({name})", "exec")
