"""User data of instances: files on the workers. It may hold secrets, so it never passes through Temporal."""

from __future__ import annotations

import base64
import os
import re
import stat
from pathlib import Path
from typing import Final

from xms.errors import BadInput, ConfigurationError

FILE_NAME: Final = re.compile(r"\w[\w.-]*", re.ASCII)
ENCODED_LIMIT: Final = 65_535
"""Characters of base64 that Nova takes."""


def encoded(directory: Path | None, name: str) -> str:
    """The user data of that name, as Nova wants it: base64.

    Args:
        directory: target.user_data_dir of this worker's configuration.
        name: of a file in it; nothing outside of the directory can be named, not by a symbolic link either.

    Raises:
        ConfigurationError: this worker has no such directory, or cannot read it.
        BadInput: there is no such file, others may read it, or it is too long; the text tells nothing of its content.
    """
    what = f"user data '{name}' cannot be used"
    if directory is None:
        raise ConfigurationError(
            what,
            because="this worker's configuration names no directory of user data",
            do="set target.user_data_dir on every worker, and put the file there",
        )
    if not FILE_NAME.fullmatch(name):
        raise BadInput(what, because="it is the name of a file, without a directory: letters, digits, '.', '-', '_'")
    path = directory / name
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise BadInput(what, because=f"{path} is no file")
            if mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise BadInput(
                    what,
                    because=f"{path} can be read by others: its mode is {stat.S_IMODE(mode):04o}",
                    do=f"chmod 600 {path}",
                )
            content = base64.b64encode(file.read(ENCODED_LIMIT + 1)).decode()
    except OSError as error:
        raise BadInput(what, because=f"{path}: {error.strerror}", do="put it there, on every worker") from None
    if len(content) > ENCODED_LIMIT:
        raise BadInput(
            what, because=f"{path} has more than {ENCODED_LIMIT // 4 * 3} bytes, Nova's limit", do="make it shorter"
        )
    return content
