"""A VM with which nothing is wrong, and ways to spoil it."""

from __future__ import annotations

from typing import Any, Final

from xms.models import Nic
from xms.orders.preflight import DatastoreFacts, HostFacts, PortFacts, Subject, TargetFacts, TargetLook
from xms.orders.source import VmDetails, VmDisk, VmNic
from xms.orders.target import TargetChecked

GIB: Final = 1 << 30
TIB: Final = 1 << 40

DISK: Final = VmDisk(
    key=2000,
    label="Hard disk 1",
    capacity=100 * GIB,
    path="[ds1] web/web.vmdk",
    change_id="52 2d/1",
    controller="pvscsi",
)
NIC: Final = VmNic(key=4000, label="Network adapter 1", mac="00:50:56:9a:11:02", network="LAN", kind="vmxnet3")
PORT: Final = PortFacts(
    nic=Nic(key=4000, label="Network adapter 1", mac=NIC.mac, source_network="LAN", network="net"),
    network="net",
    mtu=1500,
)
LOOKS: Final = ("project", "flavor", "volume type", "availability zone", "network map", "networks", "ports", "quota")

FINE: Final = Subject(
    source="prod-vcenter",
    vm=VmDetails(
        moref="vm-101",
        name="web",
        path="/dc/vm/web",
        power_state="poweredOn",
        cpus=2,
        memory=4 * GIB,
        guest_id="debian12_64Guest",
        guest_name="Debian GNU/Linux 12 (64-bit)",
        tools_running=True,
        tools="running",
        hardware_version="vmx-19",
        change_tracking_supported=True,
        change_tracking_enabled=True,
        connection="connected",
        fault_tolerance="notConfigured",
        host="esxi-1",
        disks=(DISK,),
        nics=(NIC,),
    ),
    host=HostFacts(name="esxi-1", connection="connected"),
    datastores=(DatastoreFacts(name="ds1", capacity=TIB, free=TIB // 2),),
    missing_privileges=(),
    target=TargetFacts(
        looks=tuple(TargetLook(what=what) for what in LOOKS),
        ports=(PORT,),
        checked=TargetChecked(
            project_id="p",
            flavor_id="f",
            cloud="lab",
            nics=(PORT.nic,),
        ),
    ),
)


def with_vm(**changes: Any) -> Subject:  # noqa: ANN401 - any field of the model
    return FINE.model_copy(update={"vm": FINE.vm.model_copy(update=changes)})


def with_disk(**changes: Any) -> Subject:  # noqa: ANN401 - any field of the model
    return with_vm(disks=(DISK.model_copy(update=changes),))


def with_nics(*nics: VmNic) -> Subject:
    return with_vm(nics=nics)


def with_datastore(**changes: Any) -> Subject:  # noqa: ANN401 - any field of the model
    return FINE.model_copy(update={"datastores": (FINE.datastores[0].model_copy(update=changes),)})


def with_subject(**changes: Any) -> Subject:  # noqa: ANN401 - any field of the model
    return FINE.model_copy(update=changes)


def with_port(**changes: Any) -> Subject:  # noqa: ANN401 - any field of the model, or of its NIC
    nic = {name: changes.pop(name) for name in list(changes) if name in Nic.model_fields and name != "network"}
    port = PORT.model_copy(update=changes | {"nic": PORT.nic.model_copy(update=nic)})
    return FINE.model_copy(
        update={"target": TargetFacts(looks=tuple(TargetLook(what=what) for what in LOOKS), ports=(port,))}
    )
