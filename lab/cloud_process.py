"""The stand-in cloud as a process of its own.

Usage: python -m lab.cloud_process DIRECTORY
"""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

from lab.cloud.server import CloudServer
from lab.layout import Layout


def main() -> None:
    """Serve until SIGTERM."""
    layout = Layout(Path(sys.argv[1]))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server = CloudServer(layout.cloud)
    server.start()
    try:
        server.write_clouds_yaml(layout.clouds)
        layout.write_note("cloud", url=server.url)
        stop.wait()
    finally:
        server.stop()


if __name__ == "__main__":
    main()
