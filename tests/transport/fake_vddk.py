"""An nbdkit plugin that takes VDDK's parameters, keeps what it was given, and fails as it is told.

`libdir` names a directory with the file `script.json`: the errors that the functions raise, how many reads fail, and
the text to serve. What the plugin was given, and each time that it was opened and read, is written beside it.
"""

# ruff: noqa: ARG001, FBT001 - nbdkit's signatures

import json
import os
from pathlib import Path
from typing import Any

API_VERSION = 2

given: dict[str, str] = {}


def config(key: str, value: str) -> None:
    given[key] = value


def config_complete() -> None:
    record = {
        "parameters": given,
        "environment": dict(os.environ),
        "command": Path("/proc/self/cmdline").read_text().split("\0"),
        "password": Path(given["password"].removeprefix("+")).read_text(),
        "pid": os.getpid(),
    }
    (Path(given["libdir"]) / "given.json").write_text(json.dumps(record))
    if script()["config_error"]:
        raise RuntimeError(script()["config_error"])


def script() -> dict[str, Any]:
    return dict(json.loads((Path(given["libdir"]) / "script.json").read_text()))


def note(what: str) -> None:
    with (Path(given["libdir"]) / "calls").open("a") as file:
        file.write(f"{what}\n")


def open(readonly: bool) -> int:  # noqa: A001 - nbdkit's name
    note("open")
    if script()["open_error"]:
        raise RuntimeError(script()["open_error"])
    return 1


def get_size(h: int) -> int:
    return len(script()["content"])


def pread(h: int, buf: bytearray, offset: int, flags: int) -> None:
    note(f"read {offset}+{len(buf)}")
    failures = (Path(given["libdir"]) / "calls").read_text().count("read")
    if script()["read_error"] and failures <= script()["failing_reads"]:
        raise RuntimeError(script()["read_error"])
    buf[:] = script()["content"].encode()[offset : offset + len(buf)]
