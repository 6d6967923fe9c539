"""A proposed pipeline written down: a package of one module and the schemas beside it, as one would write it by hand.

    NAME/__init__.py
    NAME/pipeline.py           sources, entities, views, the model, PIPELINE
    NAME/schemas/<source>.avsc
"""

import builtins
import json
import keyword
import re
import textwrap
from collections.abc import Iterable

import headrace.features
import headrace.models
from headrace.streams.column_roles import Column
from headrace.streams.column_words import words_in
from headrace.streams.nice_durations import iso
from headrace.streams.proposal import EntityProposal, PipelineProposal, SourceProposal, ViewProposal

WIDTH = 100
_AVRO = {"long": "long", "double": "double", "boolean": "boolean", "string": "string"}
_TOLD = ("key", "event time", "arrival", "allowed lateness")
_PYTHON = {"string": "str", "long": "int"}


class _Variables:
    """Names of the module's variables: what a thing is called, unless Python or the module has that name already."""

    def __init__(self) -> None:
        words = {*headrace.features.__all__, *headrace.models.__all__, "PIPELINE"}
        self._taken = {*keyword.kwlist, *dir(builtins), *words}
        self._names: dict[tuple[str, str], str] = {}

    def of(self, kind: str, name: str) -> str:
        if (kind, name) not in self._names:
            variable = name if name not in self._taken else f"{name}_{kind}"
            while variable in self._taken:
                variable += "_"
            self._taken.add(variable)
            self._names[kind, name] = variable
        return self._names[kind, name]


def package_files(name: str, proposal: PipelineProposal, folder: str) -> dict[str, str]:
    """Return path (inside the package) to text.

    Parameters
    ----------
    name
        Of the package and the pipeline.
    folder
        Name of the folder of the event files.
    """
    files = {"__init__.py": f'"""The pipeline {name}; see `{name}.pipeline`."""\n'}
    files["pipeline.py"] = pipeline_module(name, proposal, folder)
    for source in proposal.sources:
        files[f"schemas/{source.name}.avsc"] = avro_schema(name, source)
    return files


def avro_schema(namespace: str, source: SourceProposal) -> str:
    """Return the text of a source's schema, a field per line."""
    lines = [json.dumps(_avro_field(column), ensure_ascii=False) for column in source.fields]
    record = "".join(word.capitalize() for word in words_in(source.name))
    doc = f"An event of {source.name}, as in {source.path.name}."
    head = "".join(f"  {json.dumps(key)}: {json.dumps(value)},\n" for key, value in {
        "type": "record", "name": record, "namespace": namespace, "doc": doc,
    }.items())
    return "{\n" + head + '  "fields": [\n    ' + ",\n    ".join(lines) + "\n  ]\n}\n"


def _avro_field(column: Column) -> dict:
    kind: object = _AVRO.get(column.kind)
    if column.kind == "time":
        kind = {"type": "long", "logicalType": "timestamp-micros" if column.unit == "us" else "timestamp-millis"}
    if column.nullable:
        return {"name": column.name, "type": ["null", kind], "default": None}
    return {"name": column.name, "type": kind}


def pipeline_module(name: str, proposal: PipelineProposal, folder: str) -> str:
    """Return the text of the module."""
    variables = _Variables()
    sources = [_source(source, variables) for source in proposal.sources]
    entities = [_entity(entity, variables) for entity in proposal.entities]
    views = [_view(view, variables) for view in proposal.views]
    model = _model(proposal, variables)
    ending = f'PIPELINE = Pipeline("{name}", models=[{_model_variable(proposal, variables)}])'
    parts = ["\n".join(sources), "\n".join(entities), "\n".join(views), model, ending]
    body = "\n\n".join(part for part in parts if part)
    heading = (
        f'"""{name}: a first pipeline, proposed from the event files in {folder}.\n\n'
        + _wrapped("Comments say what was guessed and from what. It runs as it is; it gets good by what you know.", "")
        + '\n"""\n'
    )
    return "\n".join([heading, *_imports(body), "", body, ""])


def _imports(body: str) -> list[str]:
    lines = []
    for module in (headrace.features, headrace.models):
        used = [word for word in module.__all__ if re.search(rf"(?<![\w.]){word}\(", body)]
        used.sort(key=lambda word: (word[0].islower(), word))
        text = f"from {module.__name__} import {', '.join(used)}"
        if len(text) > 88:  # where ruff and others fold by default
            text = f"from {module.__name__} import (\n" + "".join(f"    {word},\n" for word in used) + ")"
        lines += [text] if used else []
    return lines


def _source(source: SourceProposal, variables: _Variables) -> str:
    first, last = (iso(at_ms // 60_000 * 60_000) for at_ms in source.span_ms)
    count = f"{source.row_count:,} events, {first} to {last}"
    seen = "" if source.sampled_count >= source.row_count else f" (told from {source.sampled_count:,} of them)"
    said = [f"{count}{seen}."]
    said += [f"{what.capitalize()}: {source.reasons[what]}." for what in _TOLD if what in source.reasons]
    arguments = [
        f'"{source.name}"', f'schema="schemas/{source.name}.avsc"', f'key="{source.key}"',
        f'event_time="{source.event_time}"',
    ]
    optional = {
        "event_id": source.event_id, "arrival": source.arrival, "allowed_lateness": source.allowed_lateness,
        "nonfinite": "missing" if source.nonfinite_is_missing else None,
    }
    arguments += [f'{word}="{value}"' for word, value in optional.items() if value is not None]
    opening = f"{variables.of('events', source.name)} = "
    return _comment(" ".join(said)) + opening + _call("Source", arguments, 0, len(opening))


def _entity(entity: EntityProposal, variables: _Variables) -> str:
    declared = f'Entity("{entity.name}", {{"{entity.key}": {_PYTHON[entity.kind]}}})'
    return f"{variables.of('entity', entity.name)} = {declared}  # {entity.reason}"


def _view(view: ViewProposal, variables: _Variables) -> str:
    features = []
    for word, column, windows in view.features:
        written = f'"{windows[0]}"' if len(windows) == 1 else "[" + ", ".join(f'"{window}"' for window in windows) + "]"
        features.append(f"{word}({written})" if column is None else f'{word}("{column}", {written})')
    key = view.entity.key
    head = [
        f'"{view.name}"', "version=1", f"source={variables.of('events', view.source)}",
        f"entity={variables.of('entity', view.entity.name)}", f'on={{"{key}": "{key}"}}',
    ]
    line = f"    features=[{', '.join(features)}],\n"
    if len(line) > WIDTH:
        line = f"    features=[\n{_filled(features, 8)}\n    ],\n"
    return (
        f"{variables.of('view', view.name)} = FeatureView(\n{_filled(head, 4)}\n{line}"
        f'    description="{view.description}",\n)'
    )


def _model_variable(proposal: PipelineProposal, variables: _Variables) -> str:
    return variables.of("model", proposal.label.name)


def _model(proposal: PipelineProposal, variables: _Variables) -> str:
    label = proposal.label
    arguments = [f"{word}={value}" for word, value in label.arguments]
    if label.source is not None:
        arguments.insert(0, variables.of("events", label.source))
    views = [variables.of("view", view.name) for view in proposal.views]
    plain = [one.code for one in proposal.inputs if one.doubt is None]
    hours = [] if not any("hour_of_day" in code for code in plain) else [
        '        # hours and days are UTC; where people make the events: tz="Europe/Berlin"\n'
    ]
    doubts = [one for one in proposal.inputs if one.doubt is not None]
    doubtful = "".join([*hours, *(f"        # {one.code}: {one.doubt}\n" for one in doubts)])
    head = [f'"{label.name}"', f"scores={variables.of('events', label.scores)}", "threshold=0.5"]
    return (
        _comment(f"Label: {label.reason}. {label.comment}")
        + f"{_model_variable(proposal, variables)} = ModelSpec(\n{_filled(head, 4)}\n"
        + f"    inputs=[\n{_filled([*plain, *views], 8)}\n{doubtful}    ],\n"
        + f"    label={_call('Label', arguments, 4, len('label=,'))},\n)"
    )


def _call(word: str, arguments: list[str], indent: int, before: int) -> str:
    line = f"{word}({', '.join(arguments)})"
    if indent + before + len(line) < WIDTH:
        return line
    return f"{word}(\n{_filled(arguments, indent + 4)}\n{' ' * indent})"


def _filled(items: Iterable[str], indent: int) -> str:
    """Items as lines of a call or list, each followed by a comma; none is broken."""
    lines, line = [], ""
    for item in items:
        if line and indent + len(line) + len(item) + 2 > WIDTH:
            lines.append(line)
            line = ""
        line += f" {item}," if line else f"{item},"
    return "\n".join(" " * indent + each for each in [*lines, line])


def _comment(text: str) -> str:
    return _wrapped(text, "# ") + "\n"


def _wrapped(text: str, mark: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent=mark, subsequent_indent=mark, break_on_hyphens=False)
