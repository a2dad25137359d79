# ruff: noqa: T201 - standard output is how it speaks to its test
"""A process that copies an export to a volume under a real lease, whose record stands in a file.

`python -m tests.engine.leased_writer URI VOLUME RECORD WORKER [--elsewhere] [--stop-at-write N]` says on its standard
output how far it is, and at last how it ended.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import signal
import threading
from dataclasses import dataclass
from pathlib import Path

from tests.engine.rig import LEASE_SECONDS
from xms.change_map import ByteRanges
from xms.engine import writer
from xms.engine.copy import copy_ranges
from xms.errors import XmsError
from xms.models import DiskProgress, Model
from xms.openstack.lease import Lease
from xms.pulse import no_pulse


@dataclass(frozen=True)
class RecordInFile:
    """The place of one volume's record; a write replaces it as a whole."""

    path: Path

    def read(self) -> str:
        return self.path.read_text() if self.path.exists() else ""

    def write(self, record: str) -> None:
        following = self.path.with_suffix(f".{os.getpid()}")
        following.write_text(record)
        following.replace(self.path)


@dataclass
class Claimed:
    """The lease as the engine's guard. It may stop its own process right after it has allowed a write."""

    lease: Lease
    stop_at_write: int | None
    writes: int = 0

    def check(self) -> None:
        self.lease.check()
        self.writes += 1
        if self.writes == self.stop_at_write:
            print(f"stopping before write {self.writes}", flush=True)
            # To this very thread, which is stopped before it goes on; by way of another one it might write first.
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)

    def renew(self) -> None:
        self.lease.keep()


def tell(detail: Model | None = None) -> None:
    assert isinstance(detail, DiskProgress)
    print(f"written {detail.bytes_written}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("uri")
    parser.add_argument("volume", type=Path)
    parser.add_argument("record", type=Path)
    parser.add_argument("worker")
    parser.add_argument("--elsewhere", action="store_true", help="as on another machine: its locks are not seen")
    parser.add_argument("--stop-at-write", type=int)
    arguments = parser.parse_args()
    if arguments.elsewhere:
        fcntl.flock = lambda *_: None
    writer.LOCK_SECONDS = 0.3  # type: ignore[misc] # nobody here is going to let go of it
    size = arguments.volume.stat().st_size
    lease = Lease(RecordInFile(arguments.record), volume="v", worker=arguments.worker, seconds=LEASE_SECONDS)
    try:
        lease.claim(no_pulse)
        print("claimed", flush=True)
        with contextlib.ExitStack() as stack:
            stack.callback(lease.release)
            copy_ranges(
                uri=arguments.uri,
                path=str(arguments.volume),
                capacity=size,
                ranges=ByteRanges.whole(size),
                start_at=0,
                skip_zeroes=False,
                guard=Claimed(lease, arguments.stop_at_write),
                pulse=tell,
                report=DiskProgress(disk_key=2000, planned=0),
                give_up_at=None,
                verify=False,
            )
    except XmsError as error:
        print(f"ended: {type(error).__name__}: {error}", flush=True)
    else:
        print("ended: finished", flush=True)


if __name__ == "__main__":
    main()
