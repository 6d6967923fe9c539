"""Start the embedded services in the folder given, say where they are, and wait to be ended."""

import dataclasses
import json
import signal
import sys
from pathlib import Path

from headrace.infra.embedded.services import embedded_services

if __name__ == "__main__":
    with embedded_services(Path(sys.argv[1])) as services:
        print(json.dumps(dataclasses.asdict(services)), flush=True)
        signal.pause()
