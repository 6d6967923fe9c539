"""The dead letters a user asks for."""

import re
from collections.abc import Sequence

from headrace.models import compile_pipeline
from headrace.schemas.errors import SettingsError
from headrace.schemas.topics import TopicNames
from headrace.streams.dead_letters import Letter, Origin, read_letters
from headrace.streams.decoding import SourceDecoder
from headrace.streams.pipelines import load_pipeline
from headrace.streams.registry import open_registry
from headrace.streams.settings import environment_settings


class Asked:
    """The dead letters of one pipeline, read when they are asked for.

    Parameters
    ----------
    pipeline : str
        MODULE:OBJECT.
    """

    def __init__(self, pipeline: str) -> None:
        topology = compile_pipeline(load_pipeline(pipeline))
        self.settings = environment_settings()
        self.names = TopicNames(topology.pipeline, self.settings.prefix)
        self._sources = {self.names.source(source.topic): source for source in topology.sources}

    def letters(self, reasons: Sequence[str] | None = None, sources: Sequence[str] | None = None) -> list[Letter]:
        """Return letters, oldest first; of some reasons, of some sources.

        Raises
        ------
        SettingsError
            The pipeline has no such source.
        """
        names = {source.name for source in self._sources.values()}
        if unknown := sorted(set(sources or ()) - names):
            raise SettingsError(f"no source {', '.join(unknown)}; the sources are {', '.join(sorted(names))}")
        return [
            letter for letter in read_letters(self.settings, self.names)
            if (not reasons or letter.reason in reasons)
            and (not sources or self.source_of(letter) in sources)
        ]

    def letter(self, place: str) -> Letter:
        """Return the letter of the event that was at ``topic[partition]@offset``.

        Raises
        ------
        SettingsError
            It is no place, or no letter is about it.
        """
        found = re.fullmatch(r"(.+)\[(\d+)\]@(\d+)", place)
        if found is None:
            raise SettingsError(f"{place!r} is no place of an event; expected topic[partition]@offset: orders[0]@17")
        name, partition, offset = found[1], int(found[2]), int(found[3])
        wanted = {Origin(topic, partition, offset) for topic in (name, self.names.source(name))}
        for letter in read_letters(self.settings, self.names):
            if letter.origin in wanted:
                return letter
        raise SettingsError(f"no dead letter is about {place}; `headrace dead-letters list --json` names all places")

    def source_of(self, letter: Letter) -> str:
        """Return the source a letter's event belongs to; its topic, if the pipeline reads that no more."""
        source = self._sources.get(letter.origin.topic)
        return letter.origin.topic if source is None else source.name

    def reads_now(self, letter: Letter) -> str:
        """Return what the declarations of now make of a letter's bytes: the event, or why it cannot be read."""
        source = self._sources.get(letter.origin.topic)
        if source is None:
            return "nothing: the pipeline does not read its topic"
        decoder = SourceDecoder(source, letter.origin.topic, open_registry(self.settings))
        decoded = decoder.decode([letter.value], [letter.key])
        if decoded.unread:
            (_, reason, words), = decoded.unread
            return f"{reason}: {words}"
        return str(decoded.batch.to_pylist()[0])
