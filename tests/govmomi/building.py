"""Builds the two Go programs of this directory from Debian's govmomi, and keeps them until their sources change."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
CACHE: Final = Path(os.environ.get("XMS_GO_CACHE", HERE.parents[1] / ".cache" / "govmomi"))
DEBIAN: Final = Path("/usr/share/gocode")
GOVMOMI: Final = DEBIAN / "src" / "github.com" / "vmware" / "govmomi"


def sources(name: str) -> list[Path]:
    """The Go files of a program."""
    return sorted((HERE / name).glob("*.go"))


def go() -> Path:
    """The Go compiler of the distribution, which places it outside of PATH unless golang-go is installed."""
    found = sorted(Path("/usr/lib").glob("go-*/bin/go"))
    if not found or not GOVMOMI.is_dir():
        raise FileNotFoundError("golang and golang-github-vmware-govmomi-dev are missing: run scripts/setup.sh")
    return found[-1]


def program(name: str) -> Path:
    """The built program; a build takes about a minute, and is made once however many processes ask for it."""
    compiler = go()
    digest = hashlib.sha256(str(compiler).encode())
    for source in (*sources(name), GOVMOMI / "vim25" / "types" / "types.go"):
        digest.update(source.read_bytes())
    CACHE.mkdir(parents=True, exist_ok=True)
    built = CACHE / f"{name}-{digest.hexdigest()[:16]}"
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not built.exists():
            for old in CACHE.glob(f"{name}-*"):
                old.unlink()
            _build(compiler, name, built)
    return built


def _build(compiler: Path, name: str, built: Path) -> None:
    unfinished = built.with_name(f"unfinished-{built.name}")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(CACHE),
        "GO111MODULE": "off",  # Debian's packages are a GOPATH, not modules
        "GOPATH": f"{CACHE / 'path'}:{DEBIAN}",
        "GOCACHE": str(CACHE / "objects"),
        "GOFLAGS": "-p=2",
        "CGO_ENABLED": "0",
    }
    command = [str(compiler), "build", "-ldflags=-s -w", "-o", str(unfinished), "."]
    done = subprocess.run(command, cwd=HERE / name, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} cannot be built:\n{done.stderr}")
    unfinished.rename(built)
