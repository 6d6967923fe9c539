"""The README as tests read it."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()


def blocks(language: str = "python") -> list[str]:
    """Return the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


def example(name: str) -> str:
    """Return the Python block whose first line is ``# <name>``."""
    (found,) = [block for block in blocks() if block.startswith(f"# {name}\n")]
    return found


def command_lines() -> list[str]:
    """Return the indented lines that begin with ``headrace`` or ``make``."""
    return re.findall(r"^    ((?:headrace|make) [^#\n]+?)(?: +#.*)?$", TEXT, re.MULTILINE)


def section(title: str) -> str:
    """Return the text below a heading of the second level."""
    return TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]
