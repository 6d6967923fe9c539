"""Every verb says in its --help what it does and shows a line that can be typed; shells complete it."""

import inspect
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from headrace.streams.cli import app
from tests.verbs import verbs_of

VERBS = verbs_of(typer.main.get_command(app))
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"


def paragraphs(verb: str) -> list[str]:
    return inspect.cleandoc(VERBS[verb].help or "").split("\n\n")


def example_of(verb: str) -> list[str]:
    """The words of the example, without settings in front of it."""
    (line,) = [each for each in paragraphs(verb) if each.startswith("Example: ")]
    words = shlex.split(line.removeprefix("Example: "))
    return words[words.index("headrace"):]


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_says_what_it_does_in_sentences_and_ends_with_one_example(verb):
    says, *_, example = paragraphs(verb)
    assert says[0].isupper() and says.endswith(".") and len(says) > 30, says
    assert example.startswith("Example: ") and "\n" not in example, "one line, to be copied"


@pytest.mark.parametrize("verb", VERBS)
def test_the_example_of_a_verb_can_be_parsed(verb):
    words, (program, *typed) = verb.split(), example_of(verb)
    assert program == "headrace" and typed[:len(words)] == words
    arguments = typed[len(words):]
    VERBS[verb].make_context(verb, arguments)   # raises on an unknown option or a missing one


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_of_a_verb_says_what_it_is_for(verb):
    for parameter in VERBS[verb].params:
        assert getattr(parameter, "help", None), parameter.name


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_the_example(verb):
    shown = " ".join(CliRunner().invoke(app, [*verb.split(), "--help"], terminal_width=200).output.split())
    assert "Example: " in shown and f"headrace {verb}" in shown


def in_bash(line: str, home: Path) -> str:
    """What a line prints in a bash of its own; bash stays the parent, since headrace asks what its shell is."""
    done = subprocess.run(
        ["bash", "--norc", "-c", f"{line}; exit $?"], capture_output=True, text=True, check=False, timeout=120,
        env={"PATH": PATH, "HOME": str(home)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_bash_completes_verbs_once_completion_is_shown_or_installed(tmp_path):
    script = in_bash("headrace --show-completion bash", tmp_path)
    assert "complete -o default -F _headrace_completion headrace" in script
    in_bash("headrace --install-completion bash", tmp_path)
    (installed,) = (tmp_path / ".bash_completions").iterdir()
    assert installed.read_text().strip() == script.strip()
    assert str(installed) in (tmp_path / ".bashrc").read_text()
    asked = 'COMP_WORDS=(headrace tr); COMP_CWORD=1; _headrace_completion headrace; echo "${COMPREPLY[*]}"'
    completed = in_bash(f". {installed}; {asked}", tmp_path)
    assert set(completed.split()) == {verb for verb in VERBS if verb.startswith("tr")} >= {"train", "trial"}
