"""What the verbs of the command line share: options, times, and how errors are told."""

import signal
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from headrace.schemas.errors import HeadraceError

PipelineOption = Annotated[str, typer.Option("--pipeline", help="The pipeline object, as MODULE:OBJECT.")]


class Terminated(KeyboardInterrupt):
    """SIGTERM: everything that is stopped by Ctrl-C is stopped by it."""


def told(work: Callable[[], None]) -> None:
    """Run a verb; errors headrace raises on purpose are told in one message, without a traceback.

    `work` does its own imports, which take seconds: Ctrl-C among them is told as well.
    """
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        work()
    except HeadraceError as error:
        Console(stderr=True, soft_wrap=True).print(f"[bold red]error[/]: {escape(str(error))}")
        raise typer.Exit(1) from error
    except KeyboardInterrupt as interrupt:
        Console(stderr=True).print("stopped; nothing is left running")
        raise typer.Exit(143 if isinstance(interrupt, Terminated) else 130) from interrupt
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(*_: object) -> None:
    raise Terminated


def instant(text: str) -> int:
    """Read an ISO date or time (UTC unless it says otherwise) as milliseconds.

    Examples
    --------
    >>> instant("1970-01-02")
    86400000
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no ISO time; expected for example 2013-10-01T12:00:00Z") from error
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
