"""Start a pipeline from a folder of event files: look, propose, write; and say what was assumed."""

import importlib.util
import keyword
import shlex
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table
from rich.text import Text

from headrace.features.names import check_name
from headrace.schemas.errors import DeclarationError, SettingsError
from headrace.streams.event_samples import event_files, sample_file
from headrace.streams.inference import propose
from headrace.streams.proposal import LabelProposal, PipelineProposal, SourceProposal
from headrace.streams.scaffold import package_files


@dataclass(frozen=True)
class Started:
    """What was proposed, and the files it was written to."""

    name: str
    events: Path
    proposal: PipelineProposal
    written: tuple[Path, ...]


def start_pipeline(name: str, events: Path, announce: Callable[[str], None] = lambda text: None) -> Started:
    """Propose a pipeline for the files of a folder and write it into a new folder of the working directory.

    Raises
    ------
    SettingsError
        The name is taken or cannot be imported.
    EventFileError
        The files cannot be read, or nothing can be made of them.
    """
    check_package_name(name)
    samples = []
    for path in event_files(events):
        announce(f"looking at {path}")
        samples.append(sample_file(path))
    proposal = propose(samples)
    files = package_files(name, proposal, events.resolve().name)
    # Written aside and then moved, so that the folder is there whole or not at all.
    with tempfile.TemporaryDirectory(dir=".", prefix=f".{name}-") as draft:
        for inside, text in files.items():
            path = Path(draft, name, inside)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        check_package_name(name)
        shutil.move(Path(draft, name), name)
    return Started(name, events, proposal, tuple(Path(name, inside) for inside in files))


def check_package_name(name: str) -> None:
    """Raise SettingsError unless a new package of this name can be made in the working directory."""
    if not name.isidentifier() or keyword.iskeyword(name):
        raise SettingsError(f"{name!r} cannot be imported as a module; expected letters, digits and underscores")
    try:
        check_name(name, "pipeline")
    except DeclarationError as error:
        raise SettingsError(str(error)) from None
    for path in (Path(name), Path(f"{name}.py")):
        if path.exists():
            raise SettingsError(f"{path.absolute()} is there already, and stays; choose another name or move it")
    if importlib.util.find_spec(name) is not None:
        raise SettingsError(f"{name} is an installed module, which the new one would hide; choose another name")


def account(started: Started) -> list[Table]:
    """Tables of what was assumed and why."""
    proposal = started.proposal
    return [*(_source(source) for source in proposal.sources), _entities(proposal), _labels(proposal)]


def commands(started: Started) -> list[str]:
    """Return the two commands that come next."""
    reference, folder = f"{started.name}.pipeline:PIPELINE", shlex.quote(str(started.events))
    proposal = started.proposal
    return [
        f"headrace check --pipeline {reference}",
        f"headrace trial --pipeline {reference} --events {folder} "
        f"--train-until {proposal.train_until} --until {proposal.until}",
    ]


def _source(source: SourceProposal) -> Table:
    seen = "all looked at" if source.sampled_count >= source.row_count else f"{source.sampled_count:,} looked at"
    table = _table(f"{source.name}: {source.row_count:,} events, {seen}", "what", "assumed", "why")
    chosen = {
        "event time": source.event_time, "arrival": source.arrival or "order of the file", "key": source.key,
        "allowed lateness": source.allowed_lateness, "event id": source.event_id,
    }
    why = {"arrival": "no column says when an event came in", "event id": "different in every event"} | source.reasons
    for what, value in chosen.items():
        if value is not None:
            _row(table, what, value, why.get(what, ""))
    if source.nonfinite_is_missing:
        _row(table, "nonfinite", "missing", "there are NaN or infinities")
    _row(table, "fields", str(len(source.fields)), ", ".join(
        f"{column.name} {column.kind}{'?' if column.nullable else ''}" for column in source.fields
    ) + " (? = may be null)")
    for name, reason in source.left_out.items():
        _row(table, "left out", name, reason)
    return table


def _entities(proposal: PipelineProposal) -> Table:
    table = _table("features", "entity, view", "by, over", "why")
    for entity in proposal.entities:
        _row(table, entity.name, entity.key, entity.reason)
    for view in proposal.views:
        _row(table, view.name, f"last {' and '.join(view.features[0][2])}", view.description)
    for one in proposal.inputs:
        if one.doubt is not None:
            _row(table, "no input", one.code, one.doubt)
    if not proposal.views:
        _row(table, "none", "", "nothing in the scored event comes again: the model has the event's own fields alone")
    return table


def _labels(proposal: PipelineProposal) -> Table:
    table = _table(f"model {proposal.label.name}: scores {proposal.label.scores}", "label", "written as", "why")
    _row(table, "proposed", _written(proposal.label), proposal.label.reason)
    for other in proposal.alternatives:
        _row(table, "else", f"scores {other.scores}: {_written(other)}", other.reason)
    return table


def _written(label: LabelProposal) -> str:
    own = [] if label.source is None else [label.source]
    return f"Label({', '.join([*own, *(f'{word}={value}' for word, value in label.arguments)])})"


def _table(title: str, *columns: str) -> Table:
    return Table(*columns, title=title, title_justify="left")


def _row(table: Table, *cells: str) -> None:
    table.add_row(*map(Text, cells))  # as Text, because rich reads [brackets] in a str as markup
