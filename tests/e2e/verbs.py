"""Verbs of the command line in a test's own process, as the README writes them."""

import shlex
from dataclasses import dataclass

from typer.testing import CliRunner

from headrace.streams.cli import app
from headrace.streams.settings import Settings
from tests.readme import command_lines


@dataclass
class Told:
    """What a command said."""

    code: int
    text: str


def command(settings: Settings, *arguments: str, answer: str | None = None) -> Told:
    """Run headrace in this process, with the settings of a run in its environment."""
    values = settings.model_dump(exclude_defaults=True)
    environment = {f"HEADRACE_{name.upper()}": str(value) for name, value in values.items()} | {"COLUMNS": "200"}
    result = CliRunner().invoke(app, list(arguments), env=environment, input=answer)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return Told(result.exit_code, " ".join(result.output.replace("│", " ").split()))


def readme(verb: str, **options: str) -> list[str]:
    """Return the first line of the README with a verb, with some of its options given other values."""
    line = next(line for line in command_lines() if line.startswith(f"headrace {verb} "))
    words = shlex.split(line)[1:]
    for name, value in options.items():
        words[words.index(f"--{name}") + 1] = value
    return words
