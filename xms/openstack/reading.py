"""What the cloud answers while it is looked at for one VM or for many."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from xms.errors import BadInput, TargetNotFound, XmsError
from xms.models import Nic
from xms.openstack.cloud import Cloud
from xms.orders.source import VmDetails
from xms.pulse import Pulse, no_pulse

T = TypeVar("T")


@dataclass(frozen=True)
class Candidate:
    """A VM that the target shall take.

    Attributes:
        job_id: of its migration; what that has made already needs no quota any more.
        for_cutover: the volumes exist already.
        known: its NICs as they were earlier.
    """

    vm: VmDetails
    job_id: str
    for_cutover: bool = False
    known: tuple[Nic, ...] = ()


class Reading:
    """What the cloud answers, asked once however many VMs are looked at."""

    def __init__(self, cloud: Cloud, pulse: Pulse = no_pulse) -> None:
        self.cloud = cloud
        self.pulse = pulse
        self._known: dict[tuple[str, ...], Any] = {}

    def once(self, key: tuple[str, ...], look: Callable[[], T]) -> T:
        """The answer to a look, or the refusal that it was answered with, each time the same."""
        if key not in self._known:
            self.pulse()
            try:
                self._known[key] = look()
            except (TargetNotFound, BadInput) as refusal:
                self._known[key] = refusal
        found = self._known[key]
        if isinstance(found, XmsError):
            raise found.with_traceback(None)
        answer: T = found
        return answer
