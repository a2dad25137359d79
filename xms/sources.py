"""The registered sources: `[sources.NAME]` of the configuration file, and a file each in `sources.d` beside it.

Whoever asks gets them as the files are now, so that a running worker takes up sources that are created, changed and
removed.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from xms.config import Config, Registered, SourceConfig, load_config, read_toml, signature
from xms.errors import BadInput, ConfigurationError

logger = logging.getLogger(__name__)

DIRECTORY: Final = "sources.d"
SUFFIX: Final = ".toml"

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
"""It is part of file names and of workflow ids."""


def load_followed_config(path: Path) -> Config:
    """The configuration, whose sources follow the files from now on.

    Raises:
        ConfigurationError: one of the files cannot be used, or a name is registered twice.
    """
    config = load_config(path)
    files = SourceFiles(path)
    for found in files.look().values():
        if isinstance(found, ConfigurationError):
            raise found
    return config.followed(files.look)


def sources_directory(config: Path) -> Path:
    """Where the sources of a configuration file have files of their own."""
    return config.absolute().parent / DIRECTORY


def registration_file(config: Path, name: str) -> Path:
    """The file of a source that is registered by one.

    Raises:
        BadInput: no source can have this name.
    """
    if not NAME.fullmatch(name):
        raise BadInput(
            f"'{name}' cannot be a source's name",
            because="letters, digits, '.', '_' and '-' are allowed, 63 at most, and a letter or digit comes first",
        )
    return sources_directory(config) / f"{name}{SUFFIX}"


class SourceFiles:
    """The sources of a configuration file and its `sources.d`, read again when one of the files is another.

    Thread-safe. A file that cannot be used any more, because somebody is editing it or made a mistake, counts as it was
    before: the jobs of its source go on. A name that two files claim belongs to none of them.
    """

    def __init__(self, config: Path) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._seen: dict[Path, tuple[int, ...]] = {}
        self._table: Mapping[str, SourceConfig] | None = None
        self._of_files: dict[str, Registered] = {}
        self._all: Mapping[str, Registered] = {}

    def look(self) -> Mapping[str, Registered]:
        """Every source by its name.

        Raises:
            ConfigurationError: the configuration file could not be used from the beginning.
        """
        with self._lock:
            files = self._files()
            # What is written while it is read looks different the next time.
            seen = {path: signature(path) for path in (self._config, *files)}
            if seen != self._seen:
                self._all = self._read(files)
                self._seen = seen
            return self._all

    def _files(self) -> list[Path]:
        directory = sources_directory(self._config)
        try:
            files = sorted(directory.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ConfigurationError(
                f"{directory} cannot be read", because=error.strerror or "", do="give it to the user of the worker"
            ) from None
        return [file for file in files if file.suffix == SUFFIX and not file.name.startswith(".")]

    def _read(self, files: list[Path]) -> Mapping[str, Registered]:
        self._read_table()
        self._of_files = {path.stem: self._read_file(path) for path in files}
        table: Mapping[str, Registered] = self._table or {}
        twice = {name: self._claimed_twice(name) for name in table.keys() & self._of_files.keys()}
        return {**table, **self._of_files, **twice}

    def _read_table(self) -> None:
        try:
            self._table = load_config(self._config).sources
        except ConfigurationError as error:
            if self._table is None:
                raise
            logger.warning("%s: the sources that it had before count", error)

    def _read_file(self, path: Path) -> Registered:
        try:
            registration_file(self._config, path.stem)
            return read_toml(path, SourceConfig)
        except (BadInput, ConfigurationError) as error:
            before = self._of_files.get(path.stem)
            if isinstance(before, SourceConfig):
                logger.warning("%s: what it had before counts", error)
                return before
            return ConfigurationError(f"source {path.stem} cannot be used", because=str(error), do=f"correct {path}")

    def _claimed_twice(self, name: str) -> ConfigurationError:
        path = registration_file(self._config, name)
        return ConfigurationError(
            f"source {name} is registered twice",
            because=f"by [sources.{name}] in {self._config}, and by {path}",
            means="neither is used: they may name different servers",
            do="remove one of them",
        )
