"""What a preflight looks at on the source: the VMs that are meant, their hosts and their datastores."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from xms.errors import SourceFault, SourceForbidden
from xms.orders.preflight import DatastoreFacts, HostFacts, PreflightOrder, Subject
from xms.orders.source import VmDetails
from xms.vsphere.inventory import described
from xms.vsphere.places import Inventory, name_of
from xms.vsphere.privileges import privileges_lacking
from xms.vsphere.properties import Properties
from xms.vsphere.session import VsphereSession

logger = logging.getLogger(__name__)

MOST_NAMED: Final = 3
"""Of very many VMs with one MAC so many are named: the report has to stay small."""


def subjects(session: VsphereSession, order: PreflightOrder) -> list[Subject]:
    """The subjects of a preflight, by path: a few reads, however many VMs they are. Nothing is changed.

    Raises:
        VmNotFound: nothing has one of the names or matches one of the patterns; the text lists what there is.
    """
    inventory = Inventory(session)
    chosen = inventory.select(order.vms, patterns=order.patterns, every_vm=order.every_vm)
    found = sorted(described(session, inventory, chosen), key=lambda pair: pair[0].path)
    owners = _owners([vm for vm, _ in found])
    lacking = _lacking(session, [session.virtual_machine(vm.moref) for vm, _ in found])
    return [
        Subject(
            source=session.name,
            vm=vm,
            host=_host(inventory.properties(properties.get("runtime.host"))),
            datastores=tuple(_datastores(inventory, properties)),
            same_mac=tuple(_same_mac(vm, owners)),
            missing_privileges=lacking.get(vm.moref),
        )
        for vm, properties in found
    ]


def _lacking(session: VsphereSession, vms: Sequence[Any]) -> Mapping[str, tuple[str, ...]]:
    try:
        return privileges_lacking(session, vms)
    except (SourceFault, SourceForbidden) as error:
        # The rule says that it is not known; nothing else of the preflight depends on it.
        logger.info("%s", error)
        return {}


def _host(properties: Properties) -> HostFacts | None:
    if "runtime.connectionState" not in properties:
        return None
    return HostFacts(
        name=name_of(properties),
        connection=str(properties["runtime.connectionState"]),
        in_maintenance=properties.get("runtime.inMaintenanceMode", False),
    )


def _datastores(inventory: Inventory, vm: Properties) -> Iterator[DatastoreFacts]:
    """By reference: in another datacenter another datastore may have the same name."""
    for reference in vm.get("datastore", ()):
        properties = inventory.properties(reference)
        if "summary.name" in properties:
            yield DatastoreFacts(
                name=properties["summary.name"],
                capacity=properties.get("summary.capacity"),
                free=properties.get("summary.freeSpace"),
                accessible=properties.get("summary.accessible", True),
                in_maintenance=properties.get("summary.maintenanceMode", "normal") != "normal",
            )


def _owners(vms: Sequence[VmDetails]) -> dict[str, list[VmDetails]]:
    """Which VMs have a MAC."""
    found: dict[str, list[VmDetails]] = defaultdict(list)
    for vm in vms:
        for mac in {nic.mac for nic in vm.nics if nic.mac}:
            found[mac].append(vm)
    return found


def _same_mac(vm: VmDetails, owners: Mapping[str, list[VmDetails]]) -> Iterator[str]:
    """Each of its MACs that others have too, with those."""
    for mac in sorted({nic.mac for nic in vm.nics}):
        others = [other.path for other in owners.get(mac, ()) if other.moref != vm.moref]
        if others:
            shown = ", ".join(others[:MOST_NAMED])
            yield f"{mac}: {shown}" + (f" and {len(others) - MOST_NAMED} more" if others[MOST_NAMED:] else "")
