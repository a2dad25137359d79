"""Is a volume type one that a replica can be kept on, as far as a member is told?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from xms.errors import BadInput, TargetNotFound, TargetRefusedLogin
from xms.openstack import networks
from xms.openstack.faults import translated
from xms.openstack.reading import Reading
from xms.orders.preflight import TargetWanted

if TYPE_CHECKING:
    from openstack.block_storage.v3.type import Type as VolumeType

MULTIATTACH: Final = "<is> true"
ZONES: Final = "RESKEY:availability_zones"
"""Extra spec that members see: the only zones in which the type has volumes, with commas between."""


def find(reading: Reading, wanted: TargetWanted) -> VolumeType:
    """The type that is wanted.

    Raises:
        TargetNotFound: there is none.
        BadInput: its volumes can be attached several times at once, or are in other zones.
    """
    name = wanted.volume_type or ""
    with translated(f"volume type '{name}' was not looked up"):
        known = reading.once(
            ("volume types",), lambda: {str(found.name): found for found in reading.cloud.volumes.types()}
        )
    found = known.get(name)
    if found is None:
        raise TargetNotFound(
            f"no volume type is called '{name}'", because=f"the volume types are: {networks.listed(sorted(known))}"
        )
    specs = found.extra_specs or {}
    if str(specs.get("multiattach", "")).lower() == MULTIATTACH:
        raise BadInput(
            f"a replica cannot be kept on volume type '{name}'",
            because="its volumes may be attached several times at once (multiattach), so that nothing would keep a "
            "second writer away",
            do="take a type without multiattach",
        )
    zones = [zone.strip() for zone in str(specs.get(ZONES, "")).split(",") if zone.strip()]
    zone = wanted.volume_availability_zone
    if zones and zone is not None and zone not in zones:
        raise BadInput(
            f"volume type '{name}' has no volumes in zone '{zone}'",
            because=f"its zones are: {networks.listed(sorted(zones))}",
        )
    return found


def is_encrypted(reading: Reading, volume_type: VolumeType) -> bool | None:
    """Whether Cinder encrypts its volumes; None where the account may not know, as by Cinder's default policy."""

    def look() -> bool | None:
        try:
            with translated(f"the encryption of volume type '{volume_type.name}' was not looked up"):
                found = reading.cloud.volumes.get_type_encryption(volume_type.id)
        except TargetRefusedLogin:
            return None
        return bool(found.provider)

    return reading.once(("encryption", str(volume_type.id)), look)


def refuse_encrypted(reading: Reading, volume_type: VolumeType) -> None:
    """Refuse a type that is known to be encrypted.

    Raises:
        BadInput: it is.
    """
    if is_encrypted(reading, volume_type):
        raise BadInput(
            f"the volumes of type '{volume_type.name}' are encrypted",
            because="a worker that attaches by Cinder has no key for them",
            do="take a type that is not encrypted, or let workers attach by Nova (target.attach)",
        )
