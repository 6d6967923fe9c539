"""The verbs of ``headrace dead-letters``: list, show, redrive."""

import json
from typing import Annotated

import typer
from rich.console import Console

from headrace.streams.cli_common import PipelineOption, told

dead_letters = typer.Typer(
    no_args_is_help=True, help="Events that could not be used: see them, and send them back once the reason is gone.")

ReasonOption = Annotated[list[str] | None, typer.Option("--reason", help="Only of this reason code; may be repeated.")]
SourceOption = Annotated[list[str] | None, typer.Option("--source", help="Only of this source; may be repeated.")]


@dead_letters.command("list")
def list_(
    pipeline: PipelineOption,
    reason: ReasonOption = None,
    source: SourceOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document a letter instead of a table.")] = False,
) -> None:
    """Count dead letters by source and reason: since when, until when, where one of them is.

    Example: headrace dead-letters list --pipeline shop:PIPELINE
    """
    def work() -> None:
        from headrace.streams.letter_tables import as_line, counted
        from headrace.streams.letters_asked import Asked

        letters = Asked(pipeline).letters(reason, source)
        if as_json:
            for letter in letters:
                print(json.dumps(as_line(letter)))
        else:
            Console().print(counted(letters) if letters else "no dead letters")

    told(work)


@dead_letters.command()
def show(
    pipeline: PipelineOption,
    place: Annotated[str, typer.Argument(help="Where the event was: topic[partition]@offset.")],
) -> None:
    """Show one dead letter: why it is one, its bytes, and what the declarations of now make of them.

    Example: headrace dead-letters show 'orders[0]@17' --pipeline shop:PIPELINE
    """
    def work() -> None:
        from headrace.streams.letter_tables import whole
        from headrace.streams.letters_asked import Asked

        asked = Asked(pipeline)
        letter = asked.letter(place)
        Console().print(whole(letter, asked.reads_now(letter)))

    told(work)


@dead_letters.command()
def redrive(
    pipeline: PipelineOption,
    place: Annotated[list[str] | None, typer.Argument(help="Events, as topic[partition]@offset; all, if none.")] = None,
    reason: ReasonOption = None,
    source: SourceOption = None,
    max_attempts: Annotated[
        int, typer.Option(min=2, help="One that has become a dead letter so often stays one.")] = 3,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Append dead letters to their source topics again, as they were; each once, however often this is run.

    Example: headrace dead-letters redrive --reason unknown_schema --pipeline shop:PIPELINE
    """
    declined = False

    def work() -> None:
        nonlocal declined
        from headrace.streams.dead_letters import choose
        from headrace.streams.dead_letters import redrive as send_back
        from headrace.streams.letter_tables import counted
        from headrace.streams.letters_asked import Asked

        asked = Asked(pipeline)
        chosen = choose([asked.letter(each) for each in place] if place else asked.letters(reason, source),
                        max_attempts)
        if chosen.again:
            print(f"{len(chosen.again)} have gone back already")
        if chosen.hopeless:
            print(f"{len(chosen.hopeless)} have become dead letters {max_attempts} times: they stay (--max-attempts)")
        if not chosen.back:
            print("nothing to send back")
            return
        Console().print(counted(chosen.back))
        if not yes and not typer.confirm("Send these back?"):
            declined = True
            return
        send_back(chosen.back, asked.settings, asked.names)
        print(f"{len(chosen.back)} sent back")

    told(work)
    if declined:
        print("nothing was sent")
        raise typer.Exit(1)
