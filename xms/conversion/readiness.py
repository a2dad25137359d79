"""Whether this worker could convert a guest: what is missing is better known before the source is stopped."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from xms import quantities
from xms.config import Config
from xms.conversion import keys
from xms.conversion.memory import memory
from xms.conversion.slots import needed
from xms.errors import ConfigurationError, ProgramMissing
from xms.orders.conversion import LookBeforeConversion

UNTOUCHED: Final = "the source was not touched"

DRIVERS: Final = Path("/usr/share/virtio-win")
"""Where distributions install them, and where virt-v2v and libosinfo look."""

ROOM: Final = 2 << 30
"""Bytes for the appliance (about 1 GB, virt-v2v(1)) and for what a conversion writes."""


def look(config: Config, order: LookBeforeConversion, drivers: Path = DRIVERS) -> None:
    """See that everything is there that a conversion of this guest needs.

    Raises:
        ProgramMissing: virt-v2v or qemu-img is not installed.
        ConfigurationError: keys, drivers, memory or room are missing; the text says which.
    """
    for program in (config.conversion.program, "qemu-img"):
        if shutil.which(program) is None:
            raise ProgramMissing(
                f"{order.vm} cannot be converted by worker {config.worker.name}",
                because=f"the program {program} is not on PATH",
                means=UNTOUCHED,
                do="install it (packages virt-v2v, qemu-utils)",
            )
    keys.check(config.conversion.keys_dir, order.options.luks_keys)
    _look_for_memory(config, order.vm)
    _look_for_room(config, order.vm)
    place = config.conversion.virtio_win or drivers
    if order.windows and not place.exists():
        raise ConfigurationError(
            f"{order.vm} cannot be converted by worker {config.worker.name}",
            because=f"it is a Windows, and the worker has no virtio drivers: there is no {place}",
            means=UNTOUCHED,
            do="install virtio-win, or name a directory or an ISO of it in conversion.virtio_win",
        )


def _look_for_memory(config: Config, vm: str) -> None:
    # The least that it may take: what the worker's appliances run on, only those know who convert.
    total, wanted = memory().total, needed(config.conversion, "kvm")
    if wanted > total:
        raise ConfigurationError(
            f"{vm} cannot be converted by worker {config.worker.name}",
            because=f"a conversion takes {quantities.size(wanted)}, and the worker has {quantities.size(total)}",
            means=UNTOUCHED,
            do="give it more memory, or lower conversion.memory_mib",
        )


def _look_for_room(config: Config, vm: str) -> None:
    free = shutil.disk_usage(config.worker.data_dir).free
    if free < ROOM:
        raise ConfigurationError(
            f"{vm} cannot be converted by worker {config.worker.name}",
            because=f"{config.worker.data_dir} has {quantities.size(free)} free, and a conversion wants "
            f"{quantities.size(ROOM)}",
            means=UNTOUCHED,
            do="free space in worker.data_dir",
        )
