"""Structured logs: one line per happening, `time level logger event key=value …`, on standard error.

`log.info(event("checkpoint", topic="departed", offset=17))`. Values are JSON where they hold spaces or quotes, so that
a line can be cut by any tool. Nothing that may hold a secret is logged: settings are written by `Settings.described`.
"""

import json
import logging
import sys
import time
from typing import Any

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:/@+[]{},*")


def event(name: str, /, **values: Any) -> str:
    """Return one happening as text.

    Examples
    --------
    >>> event("committed", topic="departed", offset=17, note="two words")
    'committed topic=departed offset=17 note="two words"'
    """
    return " ".join([name, *(f"{key}={_text(value)}" for key, value in values.items())])


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else str(value)
    return text if text and _PLAIN.issuperset(text) else json.dumps(text)


class LineFormatter(logging.Formatter):
    """One line per record, exceptions folded into it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = f"{stamp}.{int(record.msecs):03d}Z {record.levelname.lower()} {record.name} {record.getMessage()}"
        if record.exc_info:
            line += " exception=" + json.dumps(self.formatException(record.exc_info))
        return line.replace("\n", "\\n")


def start_logging(level: str = "INFO") -> None:
    """Send the logs of this process to standard error; called once, by whoever owns the process."""
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(LineFormatter())
    root = logging.getLogger()
    root.handlers[:] = [stream]
    root.setLevel(level)
    for noisy in ("faust", "mode", "aiokafka", "kafka", "asyncio", "httpx2", "feast"):
        logging.getLogger(noisy).setLevel("WARNING")
