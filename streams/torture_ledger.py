"""What has been done and found, one JSON object a line: a torture that was interrupted goes on where it was.

    {"what": "kill", "round", "seed", "worker", "how", "where", "at_s", "recovery_s"}
    {"what": "round", "round", "seed", "kills", "holds", "verdict", "passages", "seconds"}

Kills of a round that has no line are not counted: the round is done again.
"""

import json
import statistics
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from headrace.schemas.errors import SettingsError


@dataclass(frozen=True)
class Tally:
    """All that a ledger says.

    Attributes
    ----------
    rounds, kills : int
    zombies : int
        Among the kills.
    broken : list of str
        Verdicts that do not hold, with their seeds.
    places : Counter
        Kills by failpoint, or by how they came from outside.
    passages : Counter
        How often every failpoint was passed.
    recovery_s : list of float
        From a worker's death to the first commit of its next life, where that came before the next blow.
    """

    rounds: int
    kills: int
    zombies: int
    broken: list[str]
    places: Counter[str]
    passages: Counter[str]
    recovery_s: list[float]

    def told(self) -> list[str]:
        """Return it for a person, line by line."""
        lines = [f"{self.kills} kills in {self.rounds} rounds ({self.zombies} zombies): "
                 + ("0 lost, 0 twice, 0 wrong" if not self.broken else f"{len(self.broken)} rounds BROKEN")]
        if self.recovery_s:
            lines.append(f"recovery: median {statistics.median(self.recovery_s):.1f} s, longest "
                         f"{max(self.recovery_s):.1f} s, of {len(self.recovery_s)} measured")
        return lines + self.broken


class Ledger:
    """A file of lines; only ever longer."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, what: str, **said: Any) -> None:
        """Append a line; on disk when it returns."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a+b") as file:
            self._mend(file)
            file.write(json.dumps({"what": what, **said}).encode() + b"\n")

    @staticmethod
    def _mend(file: BinaryIO) -> None:
        """Take away a line that a kill has cut."""
        file.seek(0)
        whole = file.read()
        file.truncate(whole.rfind(b"\n") + 1)

    def tally(self, seed: int) -> Tally:
        """Sum up the rounds that began with a seed.

        Raises
        ------
        SettingsError
            A line that is none, but for the last one, which a kill may have cut.
        """
        rounds: dict[int, dict[str, Any]] = {}
        kills: dict[int, list[dict[str, Any]]] = {}
        for line in self._lines():
            if line.get("begun_with") != seed:
                continue
            if line["what"] == "begin":
                kills[line["round"]] = []   # what an interrupted attempt had done is not counted
            elif line["what"] == "kill":
                kills.setdefault(line["round"], []).append(line)
            else:
                rounds[line["round"]] = line
        done = [kill for number in rounds for kill in kills.get(number, [])]
        return Tally(
            len(rounds), len(done), sum(kill["how"] == "zombie" for kill in done),
            [f"seed {one['seed']}: {one['verdict']}" for one in rounds.values() if not one["holds"]],
            Counter(kill["where"] for kill in done), sum((Counter(r["passages"]) for r in rounds.values()), Counter()),
            [kill["recovery_s"] for kill in done if kill["recovery_s"] is not None],
        )

    def _lines(self) -> list[dict[str, Any]]:
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        found = []
        for number, text in enumerate(lines):
            try:
                found.append(json.loads(text))
            except json.JSONDecodeError as error:
                if number < len(lines) - 1:
                    raise SettingsError(
                        f"{self._path}, line {number + 1}: not JSON; move the file away to begin anew") from error
        return found
