"""Passphrases of encrypted disks: files on the workers. They pass neither through Temporal nor on a command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from xms.config import read_secret
from xms.conversion.options import KEY
from xms.conversion.partitions import luks_devices
from xms.errors import ConfigurationError


def check(keys_dir: Path | None, names: Sequence[str]) -> None:
    """See that this worker has all of them, and that nobody else can read them.

    Raises:
        ConfigurationError: it has not; the text tells nothing of their content.
    """
    for name in names:
        read_secret(_path(keys_dir, name)[1])


def arguments(keys_dir: Path | None, names: Sequence[str], disks: Sequence[str]) -> list[str]:
    """What virt-v2v is told of the keys: each file for the device that is named with it, else for each LUKS device.

    virt-v2v 2.2 knows no key for all devices, so they are looked for: one inside of LVM has to be named.

    Args:
        keys_dir: conversion.keys_dir of this worker's configuration.
        names: as `ConversionOptions.luks_keys` has them.
        disks: paths of the guest's disks.

    Raises:
        ConfigurationError: this worker lacks one of the files, or others can read it.
        OSError: a disk cannot be read.
    """
    check(keys_dir, names)
    devices = list(dict.fromkeys(device for disk in disks for device in luks_devices(disk))) if names else []
    told = []
    for name in names:
        named, path = _path(keys_dir, name)
        for device in [named] if named else devices:
            told += ["--key", f"{device}:file:{path}"]
    return told


def _path(keys_dir: Path | None, name: str) -> tuple[str, Path]:
    """The device that is named with a key, and the key's file."""
    what = f"the LUKS key '{name}' cannot be used"
    match = KEY.fullmatch(name)
    if match is None:
        raise ConfigurationError(what, because="it is no plain name of a file")
    if keys_dir is None:
        raise ConfigurationError(
            what,
            because="this worker's configuration names no directory of keys",
            do="set conversion.keys_dir on every worker, and put the file there",
        )
    if ":" in str(keys_dir):
        raise ConfigurationError(
            what, because=f"virt-v2v takes no key from a path with a colon: {keys_dir}", do="name another directory"
        )
    return match["device"] or "", keys_dir / match["file"]
