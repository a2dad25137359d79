"""Whether a guest may have run on a job's volumes since its conversion: it decides whether they have to be copied anew.

The answer has to outlive the worker, and somebody may remove an instance. So it stands on the root volume: "asked" from
before Nova is asked for an instance until it is certain that none came of it, "ran" once one may have run. Without a
record nobody asked, whatever else went wrong.
"""

from __future__ import annotations

from typing import Final, Self

from xms.errors import TargetNotFound
from xms.openstack import attachments
from xms.openstack.cloud import Cloud
from xms.openstack.faults import translated

BOOT_KEY: Final = "xms_boot"
ASKED: Final = "asked"
RAN: Final = "ran"


class BootRecord:
    """The record of one job's root volume.

    Attributes:
        may_have_run: what is known now; more than what is written, where the instance itself was looked at.
    """

    def __init__(self, cloud: Cloud, volume_id: str, written: str) -> None:
        self._cloud = cloud
        self._volume_id = volume_id
        self._written = written
        self.may_have_run = bool(written)

    @classmethod
    def of(cls, cloud: Cloud, volume_id: str, job_id: str) -> Self:
        """Read it.

        Raises:
            Refused: the volume is not the job's.
        """
        volume = attachments.volume_of_job(cloud, volume_id, job_id)
        return cls(cloud, volume_id, str((volume.metadata or {}).get(BOOT_KEY, "")))

    def asked(self) -> None:
        """Before Nova is asked."""
        if not self._written:
            self._write(ASKED)
        self.may_have_run = True

    def ran(self) -> None:
        """Before what shows that a guest may have run is removed."""
        if self._written != RAN:
            self._write(RAN)
        self.may_have_run = True

    def none_came(self) -> None:
        """Of the last question: no instance was made, or one that never was on a host."""
        if self._written == ASKED:
            self.clear()

    def never_placed(self) -> None:
        """The instance that came of the last question never was on a host; it is still there and says so."""
        self.may_have_run = self._written == RAN

    def clear(self) -> None:
        """Nobody has asked since the volumes are what they are."""
        if self._written:
            try:
                with translated(f"the record of boots was not removed from volume {self._volume_id}"):
                    self._cloud.volumes.delete_volume_metadata(self._volume_id, keys=[BOOT_KEY])
            except TargetNotFound:
                # Another attempt has removed it, or the volume is gone: the record is, too.
                pass
        self._written = ""
        self.may_have_run = False

    def _write(self, text: str) -> None:
        with translated(f"the record of boots was not written to volume {self._volume_id}"):
            self._cloud.volumes.set_volume_metadata(self._volume_id, **{BOOT_KEY: text})
        self._written = text
