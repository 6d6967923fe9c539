"""The peers' own environments: made from a lock each, once."""

import hashlib
import sys
from pathlib import Path

from headrace.infra.embedded.process import Children

PEERS = Path(__file__).parent / "peers"
UV = Path(__file__).parents[2] / ".venv" / "bootstrap" / "bin" / "uv"   # what makes this project's environment, too
LIMIT_S = 600.0


def python_of(peer: str, folder: Path) -> Path:
    """Return the Python of a peer, whose environment is made if need be; without a lock it is this one.

    Raises
    ------
    ServiceError
        The environment cannot be made; the message ends with what the installer said.
    """
    lock = PEERS / f"{peer}.lock"
    if not lock.exists():
        return Path(sys.executable)
    home = folder.absolute() / f"{peer}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    python, ready = home / "bin" / "python", home / "ready"
    if not ready.exists():
        with Children() as children:
            log = folder / f"{peer}.log"
            children.run(f"uv venv ({peer})", [UV, "venv", "--quiet", "--clear", "--python", sys.executable, home], log,
                         LIMIT_S)
            children.run(f"uv pip install ({peer})", [
                UV, "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", lock], log, LIMIT_S)
        ready.touch()
    return python
