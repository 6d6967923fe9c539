"""Pages whose blocks are run: what stands on them, in its order."""

import re
from dataclasses import dataclass

STEP = re.compile(r"^```(\w+)\n(.*?)^```$|^    ((?:headrace|python) \S[^\n]*)$", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"# (\w+\.py)\n")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Step:
    """A block or a command line: ``kind`` is a language, "command", or the name of a file to be written."""

    kind: str
    text: str


def steps(page: str) -> list[Step]:
    """Return the fenced blocks and the indented command lines of a page.

    >>> [step.kind for step in steps("```python\\n# shop.py\\n```\\n\\n    headrace check\\n\\n```text\\nok\\n```\\n")]
    ['shop.py', 'command', 'text']
    """
    found = []
    for language, block, command in STEP.findall(page):
        name = FILE.match(block) if language == "python" else None
        kind = "command" if command else name[1] if name else language
        found.append(Step(kind, command or block))
    return found


def sections(page: str) -> dict[str, str]:
    """Return what stands below every heading of the second level, by its title; above the first it is ""."""
    head, *rest = page.split("\n## ")
    return {"": head} | dict(each.split("\n", 1) for each in rest)


def same_output(shown: str, printed: str, tolerance: float = 0.03) -> bool:
    """Whether two outputs have the same words, and numbers that differ by no more than so much (of 1, or relatively).

    >>> same_output("AUC 0.75", "AUC 0.76"), same_output("AUC 0.75", "AUC 0.85"), same_output("AUC 1", "auc 1")
    (True, False, False)
    """
    if NUMBER.sub("#", shown.strip()) != NUMBER.sub("#", printed.strip()):
        return False
    pairs = zip(NUMBER.findall(shown), NUMBER.findall(printed), strict=True)
    return all(abs(float(one) - float(other)) <= tolerance * max(1.0, abs(float(one))) for one, other in pairs)
