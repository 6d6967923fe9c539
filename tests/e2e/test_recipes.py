"""The recipes, run as they stand on the page: declarations, commands, what is printed, and that the traps are traps."""

import contextlib
import importlib
import io
import runpy
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace.streams.cli import app
from tests.pages import Step, same_output, sections, steps

PAGE = Path(__file__).parents[2] / "models" / "RECIPES.md"
RECIPES = ("Fraud", "Churn", "Delays")


@dataclass
class Tried:
    """One recipe after it was run: its names, and what was shown and printed."""

    names: dict = field(default_factory=dict)
    outputs: list[tuple[str, str]] = field(default_factory=list)
    commands: list[tuple[str, str]] = field(default_factory=list)

    def take(self, step: Step) -> None:
        """Run one step; a text block is what the block before it should have printed."""
        if step.kind == "text":
            self.outputs[-1] = (step.text, self.outputs[-1][1])
        elif step.kind == "command":
            self.commands.append((step.text, run_command(step.text)))
        elif step.kind.endswith(".py"):
            Path(step.kind).write_text(step.text)
            importlib.invalidate_caches()
        else:
            assert step.kind == "python", f"a block of {step.kind} that nobody runs"
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(step.text, str(PAGE), "exec"), self.names)
            self.outputs.append(("", printed.getvalue()))


def run_command(line: str) -> str:
    """Run a command of headrace, or a Python module, in this process: a new one would import for seconds."""
    program, *arguments = shlex.split(line)
    if program == "headrace":
        outcome = CliRunner().invoke(app, arguments)
        assert outcome.exit_code == 0, outcome.output
        return outcome.output
    assert arguments[0] == "-m", line
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(sys, "argv", arguments[1:])
        patch.delitem(sys.modules, arguments[1], raising=False)   # another test may have imported it
        with pytest.raises(SystemExit) as stopped:
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        assert not stopped.value.code
    return printed.getvalue()


@pytest.fixture(scope="module")
def tried(tmp_path_factory) -> Iterator[dict[str, Tried]]:
    found = {title: Tried() for title in sections(PAGE.read_text())}
    before = set(sys.modules)
    folder = tmp_path_factory.mktemp("recipes")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        for title, text in sections(PAGE.read_text()).items():
            for step in steps(text):
                found[title].take(step)
        yield found
    for name in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


def test_the_page_has_the_recipes_and_every_one_is_declared_checked_and_judged(tried):
    assert tuple(tried) == ("", *RECIPES)
    for recipe in RECIPES:
        commands = [line for line, _ in tried[recipe].commands]
        assert any(line.startswith("headrace check ") for line in commands), recipe
        assert "PIPELINE" in tried[recipe].names and "judge" in tried[recipe].names


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_is_shown_is_what_is_printed(tried, recipe):
    for shown, printed in tried[recipe].outputs:
        assert same_output(shown, printed), f"shown:\n{shown}\nprinted:\n{printed}"


def test_stolen_payments_are_found_and_the_model_is_there_for_workers(tried):
    fraud = tried["Fraud"]
    assert fraud.names["fraud_auc"] > 0.85 and fraud.names["right"] > 10 * fraud.names["truth"].mean()
    (trained,) = [output for line, output in fraud.commands if line.startswith("headrace train ")]
    assert "stolen" in trained
    assert {path.name for path in Path("var/models/stolen").iterdir()} == {"model.txt", "manifest.json"}


def test_a_label_among_the_features_leaks_until_it_is_shifted_by_what_it_takes_to_be_known(tried):
    leaks = tried["Fraud"].names["leaks"]
    assert leaks["0s"] > 0.98, "the window holds the payment's own label"
    assert leaks["0s"] > leaks["1ms"] > leaks["14d"] + 0.1, "the labels of the last minutes are still the future"


def test_labels_within_a_time_are_unknown_for_all_while_eager_ones_are_known_for_ones_first(tried):
    (within, _), (eager, ones) = (tried["Fraud"].names["rates"][name] for name in ("within", "known_after"))
    assert within == 0 and eager > 10 and ones > 0.8 * eager


def test_who_leaves_is_told_better_than_by_counting_orders(tried):
    churn = tried["Churn"].names
    assert churn["churn_auc"] > churn["rule_auc"] + 0.02 and churn["churn_auc"] > 0.7
    leaving = 1 - churn["labels"][churn["known"]]
    assert leaving[churn["lowest"]].mean() > 2.5 * leaving.mean()


def test_churn_is_not_trained_on_before_it_can_be_known(tried):
    churn = tried["Churn"].names
    assert f"{churn['last_labelled']:%Y-%m-%d}" <= "2024-06-17"   # 28 days before the cut
    assert 0 < len(churn["labelled"]) < len(churn["rows"])


def test_dates_that_were_set_back_leak_unless_the_arrival_is_declared(tried):
    assert tried["Churn"].names["backdated_auc"] > tried["Churn"].names["churn_auc"] + 0.02


def test_delays_are_foreseen_by_what_has_arrived_and_better_by_what_has_not(tried):
    truths = tried["Delays"].names["truths"]
    honest = truths["arrived_at", "0s"]
    assert honest == tried["Delays"].names["delay_auc"] and 0.7 < honest < 0.8
    assert truths["published_at", "0s"] > 0.95, "a run sees its own delay"
    assert honest + 0.03 < truths["published_at", "1ms"] < 0.9, "and without it those still under way"
    assert truths["planned_at", "0s"] > honest


def test_only_runs_that_arrive_have_a_label(tried):
    assert 0.95 < tried["Delays"].names["known"].mean() < 0.99
