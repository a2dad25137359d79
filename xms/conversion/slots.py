"""How many conversions run on this worker at a time: as many as are configured, and as its memory has room for.

A conversion's appliance is a small VM. One that takes the memory of the streams has the kernel kill one of them, or the
worker itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import psutil

from xms import quantities
from xms.config import ConversionConfig
from xms.conversion.kvm import Name
from xms.conversion.memory import Memory, memory
from xms.conversion.stages import Stages
from xms.errors import ConfigurationError, WorkerBusy

MIB: Final = 1 << 20
OVERHEAD: Final = 512 * MIB
"""What QEMU and virt-v2v take beside the appliance's memory; 200 MiB and 60 MiB were seen."""
TRANSLATED_CODE: Final = 1024 * MIB
"""Without KVM, QEMU keeps so much more of code that it translated, or an eighth of the machine's memory where that is
less (tcg/region.c of QEMU 7.2). All in all, 810 MiB beside the appliance's memory were seen in a conversion."""

LOOK_EVERY_SECONDS: Final = 0.5
LONGEST_WAIT_SECONDS: Final = 900.0
"""The source is off meanwhile: after this time another worker may have room, or the cutover is given up."""


def needed(config: ConversionConfig, accelerator: Name) -> int:
    """Bytes of memory that one conversion takes."""
    translated = min(TRANSLATED_CODE, psutil.virtual_memory().total // 8) if accelerator == "tcg" else 0
    return config.memory_mib * MIB + OVERHEAD + translated


class ConversionSlots:
    """The slots of one worker process.

    Args:
        config: memory of an appliance.
        conversions: the configuration's worker.conversions.
        look: how much memory there is.
        patience: seconds to wait for a slot.
    """

    def __init__(
        self,
        config: ConversionConfig,
        conversions: int,
        *,
        look: Callable[[], Memory] = memory,
        patience: float = LONGEST_WAIT_SECONDS,
    ) -> None:
        self._config = config
        self._conversions = conversions
        self._look = look
        self._patience = patience
        self._lock = threading.Lock()
        self._running = 0
        self._reserved = 0

    @contextmanager
    def taken(self, stages: Stages, accelerator: Name) -> Iterator[None]:
        """Hold a slot; wait for it, showing life.

        Args:
            stages: what shows life.
            accelerator: what the appliance runs on.

        Raises:
            ConfigurationError: this worker will never have so much memory.
            WorkerBusy: there was none in time.
        """
        wanted = needed(self._config, accelerator)
        end = time.monotonic() + self._patience
        while reason := self._unless_taken(wanted):
            stages.enter(f"waiting: {reason}")
            if time.monotonic() > end:
                raise WorkerBusy(
                    "the conversion could not begin on this worker",
                    because=f"for {quantities.duration(self._patience)} {reason}",
                    means="nothing was changed; another worker may have room",
                    do="free memory on the worker, or lower conversion.memory_mib or worker.conversions",
                )
            time.sleep(LOOK_EVERY_SECONDS)
            stages.show()
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                self._reserved -= wanted

    def _unless_taken(self, wanted: int) -> str:
        """Take a slot; where there is none, say why."""
        with self._lock:
            if self._running >= self._conversions:
                return f"{self._running} of {self._conversions} conversions run on this worker"
            found = self._look()
            if wanted > found.total:
                raise ConfigurationError(
                    "this worker is too small for a conversion",
                    because=f"one takes {quantities.size(wanted)}, and it has {quantities.size(found.total)}",
                    do="give it more memory, or lower conversion.memory_mib",
                )
            # What runs already has taken a part of its share, and will take the rest.
            free = found.available + found.appliances - self._reserved
            if free < wanted:
                return f"{quantities.size(max(0, free))} of {quantities.size(wanted)} of memory are free"
            self._running += 1
            self._reserved += wanted
            return ""
