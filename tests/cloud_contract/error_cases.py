"""What a real OpenStack answers when something is wrong, and what the operator is told about it.

The rows drive `test_errors.py`, on the stand-in and on a real OpenStack. They are the table of docs/openstack-errors.md
too: see `tests/cloud_contract/error_page.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from openstack.exceptions import (
    BadRequestException,
    ConflictException,
    ForbiddenException,
    HttpException,
    NotFoundException,
    ResourceFailure,
    ResourceTimeout,
    SDKException,
)

from tests.cloud_contract.places import connection
from tests.cloud_contract.scene import NOBODY, WORKER, Scene
from xms.errors import (
    ConfigurationError,
    QuotaExceeded,
    TargetFault,
    TargetNotFound,
    TargetRefusedLogin,
    TargetRejected,
    TargetUnreachable,
    XmsError,
)

if TYPE_CHECKING:
    from openstack.compute.v2.server import Server
    from openstack.network.v2.subnet import Subnet

HUGE_GIB: Final = 1 << 24
"""16 PiB: no back end holds it."""


@dataclass(frozen=True)
class Case:
    """A call that is refused.

    Attributes:
        name: when it happens.
        call: the SDK's call, as the page names it.
        make: makes the call.
        raises: what the SDK raises, exactly that class.
        status: HTTP's; None where the SDK knows none.
        words: a regular expression of what the service says.
        becomes: the product's error.
        do: what the operator is told to do; "" is nothing.
    """

    name: str
    call: str
    make: Callable[[Scene], object]
    raises: type[Exception]
    status: int | None
    words: str
    becomes: type[XmsError]
    do: str = ""


@dataclass(frozen=True)
class Accepted:
    """A call that one would expect to be refused, and is not: the product has to look itself.

    Attributes:
        name, call, make: as in `Case`.
        instead: what the product does about it.
        seen: whether the answer is the one that a real OpenStack gave.
    """

    name: str
    call: str
    make: Callable[[Scene], Any]
    instead: str
    seen: Callable[[Any], bool]


LOGIN: Final = "correct the credentials or the project in clouds.yaml"
REGION: Final = "correct the region in the target's configuration, or region_name and interface in clouds.yaml"
RIGHT: Final = "give the account the right to do this in the target project"
RAISE: Final = "have the project's quota of {} raised, then retry the job"
VALUE: Final = "correct what the cloud does not accept, then retry the job"
THERE: Final = "see that it is there, and that the project may use it, then retry the job"
ADDRESS: Final = "free the address in the target network, then retry the job"


# --- the calls --------------------------------------------------------------------------------------------------------


def volume(**wishes: Any) -> Callable[[Scene], object]:  # noqa: ANN401 - the SDK's
    def make(scene: Scene) -> object:
        wanted = {"size": 1, "volume_type": scene.place.volume_types[0], **wishes}
        return scene.cloud.volumes.create_volume(name=scene.name(), **wanted)

    return make


def over_the_gigabytes(scene: Scene) -> object:
    # Cinder lets no limit be set below what is used.
    with scene.place.quota(gigabytes=scene.cloud.volumes.get_limits().absolute.total_gigabytes_used + 10):
        return volume(size=11)(scene)


def over_the_volume_count(scene: Scene) -> object:
    with scene.place.quota(volumes=scene.cloud.volumes.get_limits().absolute.total_volumes_used):
        return volume()(scene)


def more_than_the_back_end(scene: Scene) -> object:
    made = scene.cloud.volumes.create_volume(name=scene.name(), size=HUGE_GIB, volume_type=scene.place.volume_types[0])
    try:
        return scene.settled(made, "available")
    finally:
        # Its size would count in the quota of the cases that follow.
        scene.cloud.volumes.delete_volume(made)
        scene.cloud.volumes.wait_for_delete(made, interval=scene.place.config.poll_seconds, wait=60)


def image_metadata(**values: Any) -> Callable[[Scene], object]:  # noqa: ANN401 - also what is no text
    def make(scene: Scene) -> None:
        scene.cloud.volumes.set_volume_image_metadata(scene.volume.id, **values)

    return make


def port(**wishes: object) -> Callable[[Scene], object]:
    def make(scene: Scene) -> object:
        return scene.cloud.network.create_port(network_id=scene.network.id, name=scene.name(), **wishes)

    return make


def port_at(address: str) -> Callable[[Scene], object]:
    def make(scene: Scene) -> object:
        fixed = {"subnet_id": scene.subnet.id, "ip_address": address.format(prefix=scene.place.prefix)}
        assert scene.port.id
        return port(fixed_ips=[fixed])(scene)

    return make


def port_with_the_mac_of_another(scene: Scene) -> object:
    return port(mac_address=scene.port.mac_address)(scene)


def foreign_port(scene: Scene, **wishes: object) -> object:
    return scene.cloud.network.create_port(network_id=scene.foreign_network.id, name=scene.name(), **wishes)


def foreign_port_at_an_address(scene: Scene) -> object:
    return foreign_port(scene, fixed_ips=[{"ip_address": _address_in(scene.foreign_subnet)}])


def foreign_port_at_an_address_in_a_subnet(scene: Scene) -> object:
    subnet = scene.foreign_subnet
    return foreign_port(scene, fixed_ips=[{"subnet_id": subnet.id, "ip_address": _address_in(subnet)}])


def _address_in(subnet: Subnet) -> str:
    return str(subnet.cidr).rpartition(".")[0] + ".150"


def no_more_ports(scene: Scene) -> object:
    used = len([scene.port, *scene.cloud.network.ports(project_id=scene.cloud.project_id)]) - 1
    with scene.place.quota(ports=used):
        return port()(scene)


def boot(**wishes: Any) -> Callable[[Scene], object]:  # noqa: ANN401 - the SDK's
    def make(scene: Scene) -> object:
        return scene.new_server(scene.bootable, **wishes)

    return make


def boot_without_cores(scene: Scene) -> object:
    used = scene.cloud.compute.get_limits().absolute.total_cores_used
    with scene.place.quota(cores=used):
        return boot()(scene)


def boot_with(key: str, value: str) -> Callable[[Scene], Server]:
    def make(scene: Scene) -> Server:
        scene.cloud.volumes.set_volume_image_metadata(scene.bootable.id, **{key: value})
        try:
            return scene.new_server(scene.bootable)
        finally:
            scene.cloud.volumes.delete_volume_image_metadata(scene.bootable.id, keys=[key])

    return make


def boot_where_no_host_is(scene: Scene) -> object:
    made = scene.new_server(scene.bootable, flavor=scene.place.huge_flavor)
    with scene.removed_afterwards(made):
        return scene.active(made)


def attach_again(scene: Scene) -> object:
    return scene.cloud.volumes.create_attachment(scene.attached_to_worker.id, connector=WORKER, mode="rw")


def boot_what_a_worker_has(scene: Scene) -> object:
    scene.cloud.volumes.set_volume_bootable_status(scene.attached_to_worker, bootable=True)
    return scene.new_server(scene.attached_to_worker)


def delete_what_is_used(scene: Scene) -> None:
    scene.cloud.volumes.delete_volume(scene.root_of_server, force=False)


def boot_on_a_used_port(scene: Scene) -> object:
    assert scene.server.id
    return scene.new_server(scene.bootable, networks=[{"port": scene.server_port.id}])


def detach_behind_novas_back(scene: Scene) -> None:
    found = next(iter(scene.cloud.volumes.attachments(volume_id=scene.root_of_server)))
    scene.cloud.volumes.delete_attachment(found.id, ignore_missing=False)


def nova_attach(volume_of: Callable[[Scene], str]) -> Callable[[Scene], object]:
    def make(scene: Scene) -> object:
        return scene.cloud.compute.create_volume_attachment(scene.server, volume_id=volume_of(scene))

    return make


def wait_in_vain(scene: Scene) -> object:
    return scene.cloud.volumes.wait_for_status(scene.volume, "in-use", failures=["error"], interval=1, wait=1)


def log_in(**wrong: str) -> Callable[[Scene], object]:
    def make(scene: Scene) -> object:
        with connection(scene.place, **wrong) as cloud:
            return cloud.authorize()

    return make


def look_in_another_region(scene: Scene) -> object:
    with connection(scene.place, region_name="Nowhere") as cloud:
        return list(cloud.block_storage.volumes())


def boot_and_remove(key: str, value: str) -> Callable[[Scene], object]:
    def make(scene: Scene) -> object:
        with scene.removed_afterwards(boot_with(key, value)(scene)) as made:
            return made

    return make


CASES: Final = (
    # Cinder
    Case(
        "no such volume type",
        "create_volume",
        volume(volume_type="gold"),
        NotFoundException,
        404,
        r"Volume type with name gold could not be found\.",
        TargetNotFound,
        THERE,
    ),
    Case(
        "no such zone for volumes",
        "create_volume",
        volume(availability_zone="az9"),
        BadRequestException,
        400,
        r"Availability zone 'az9' is invalid\.",
        TargetRejected,
        VALUE,
    ),
    Case(
        "a volume of no size",
        "create_volume",
        volume(size=0),
        BadRequestException,
        400,
        r"Invalid input for field/attribute size\. Value: 0\. 0 is less than the minimum of 1",
        TargetRejected,
        VALUE,
    ),
    Case(
        "the quota of gigabytes is used up",
        "create_volume",
        over_the_gigabytes,
        HttpException,
        413,
        r"VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota\. "
        r"Requested 11G, quota is \d+G and \d+G has been consumed\.",
        QuotaExceeded,
        RAISE.format("gigabytes"),
    ),
    Case(
        "the quota of volumes is used up",
        "create_volume",
        over_the_volume_count,
        HttpException,
        413,
        r"VolumeLimitExceeded: Maximum number of volumes allowed \(\d+\) exceeded for quota 'volumes'\.",
        QuotaExceeded,
        RAISE.format("volumes"),
    ),
    Case(
        "no back end has the room",
        "create_volume, then wait_for_status",
        more_than_the_back_end,
        ResourceFailure,
        None,
        r"transitioned to failure state error",
        TargetFault,
    ),
    Case(
        "image metadata that is no text",
        "set_volume_image_metadata",
        image_metadata(hw_disk_bus=5),
        BadRequestException,
        400,
        r"Invalid input for field/attribute hw_disk_bus\. Value: 5\. 5 is not of type 'string'",
        TargetRejected,
        VALUE,
    ),
    Case(
        "image metadata of more than 255 characters",
        "set_volume_image_metadata",
        image_metadata(hw_disk_bus="x" * 300),
        BadRequestException,
        400,
        r"Invalid input for field/attribute hw_disk_bus\. Value: x{300}\. 'x{300}' is too long",
        TargetRejected,
        VALUE,
    ),
    Case(
        "a second attachment",
        "create_attachment",
        attach_again,
        BadRequestException,
        400,
        r"Invalid volume: Volume \S+ status must be available or downloading to reserve, "
        r"but the current status is attaching\.",
        TargetFault,
    ),
    Case(
        "a volume that is in use is deleted",
        "delete_volume",
        delete_what_is_used,
        BadRequestException,
        400,
        r"Invalid volume: Volume status must be available or error or error_restoring or error_extending or "
        r"error_managing and must not be migrating, attached, belong to a group",
        TargetFault,
    ),
    Case(
        "an attachment that Nova has is deleted",
        "delete_attachment",
        detach_behind_novas_back,
        ConflictException,
        409,
        r"ConflictNovaUsingAttachment: Detach volume from instance \S+ using the Compute API",
        TargetFault,
    ),
    Case(
        "a volume is gone",
        "delete_volume",
        lambda scene: scene.cloud.volumes.delete_volume(NOBODY, ignore_missing=False),
        NotFoundException,
        404,
        rf"Volume {NOBODY} could not be found\.",
        TargetNotFound,
        THERE,
    ),
    Case(
        "a volume does not become what is waited for",
        "wait_for_status",
        wait_in_vain,
        ResourceTimeout,
        None,
        r"Timeout waiting for Volume:\S+ to transition to in-use",
        TargetFault,
    ),
    # Neutron
    Case(
        "the MAC is in use",
        "create_port",
        port_with_the_mac_of_another,
        ConflictException,
        409,
        r"Unable to complete operation for network \S+\. The mac address \S+ is in use\.",
        TargetRejected,
        ADDRESS,
    ),
    Case(
        "the address is in use",
        "create_port",
        port_at("{prefix}.20"),
        ConflictException,
        409,
        r"IP address \S+ already allocated in subnet \S+",
        TargetRejected,
        ADDRESS,
    ),
    Case(
        "the address is not the subnet's",
        "create_port",
        port_at("10.99.0.20"),
        BadRequestException,
        400,
        r"IP address 10\.99\.0\.20 is not a valid IP for the specified subnet\.",
        TargetRejected,
        VALUE,
    ),
    Case(
        "the MAC is none",
        "create_port",
        port(mac_address="52:54:00:zz"),
        BadRequestException,
        400,
        r"Invalid input for mac_address\. Reason: '52:54:00:zz' is not a valid MAC address\.",
        TargetRejected,
        VALUE,
    ),
    Case(
        "a MAC on another project's network",
        "create_port",
        lambda scene: foreign_port(scene, mac_address=scene.mac()),
        ForbiddenException,
        403,
        r"\(rule:create_port and rule:create_port:mac_address\) is disallowed by policy",
        TargetRefusedLogin,
        RIGHT,
    ),
    Case(
        "an address on another project's network",
        "create_port",
        foreign_port_at_an_address,
        ForbiddenException,
        403,
        r"\(rule:create_port and \(rule:create_port:fixed_ips and \(rule:create_port:fixed_ips:ip_address\)\)\) "
        r"is disallowed by policy",
        TargetRefusedLogin,
        RIGHT,
    ),
    Case(
        "an address in a subnet of another project's network",
        "create_port",
        foreign_port_at_an_address_in_a_subnet,
        ForbiddenException,
        403,
        r"\(rule:create_port and \(rule:create_port:fixed_ips and \(rule:create_port:fixed_ips:subnet_id and "
        r"rule:create_port:fixed_ips:ip_address\)\)\) is disallowed by policy",
        TargetRefusedLogin,
        RIGHT,
    ),
    Case(
        "no such security group",
        "create_port",
        port(security_groups=[NOBODY]),
        NotFoundException,
        404,
        rf"Security group {NOBODY} does not exist",
        TargetNotFound,
        THERE,
    ),
    Case(
        "no such security group, and a MAC on another project's network",
        "create_port",
        lambda scene: foreign_port(scene, mac_address=scene.mac(), security_groups=[NOBODY]),
        ForbiddenException,
        403,
        r"\(rule:create_port and rule:create_port:mac_address\) is disallowed by policy",
        TargetRefusedLogin,
        RIGHT,
    ),
    Case(
        "the quota of ports is used up",
        "create_port",
        no_more_ports,
        ConflictException,
        409,
        r"Quota exceeded for resources: \['port'\]\.",
        QuotaExceeded,
        RAISE.format("port"),
    ),
    # Nova
    Case(
        "the root volume is not bootable",
        "create_server",
        lambda scene: scene.new_server(scene.volume),
        BadRequestException,
        400,
        r"Block Device \S+ is not bootable\.",
        TargetRejected,
        VALUE,
    ),
    Case(
        "no such flavor",
        "create_server",
        boot(flavor_id="nope"),
        BadRequestException,
        400,
        r"Flavor nope could not be found\.",
        TargetRejected,
        VALUE,
    ),
    Case(
        "no such zone for servers",
        "create_server",
        boot(availability_zone="az9"),
        BadRequestException,
        400,
        r"The requested availability zone is not available",
        TargetRejected,
        VALUE,
    ),
    Case(
        "no such port",
        "create_server",
        boot(networks=[{"port": NOBODY}]),
        BadRequestException,
        400,
        rf"Port id {NOBODY} could not be found\.",
        TargetRejected,
        VALUE,
    ),
    Case(
        "no such disk bus",
        "create_server",
        boot_with("hw_disk_bus", "foo"),
        BadRequestException,
        400,
        r"Invalid image metadata\. Error: Field value foo is invalid",
        TargetRejected,
        VALUE,
    ),
    Case(
        "no such firmware",
        "create_server",
        boot_with("hw_firmware_type", "bogus"),
        BadRequestException,
        400,
        r"Invalid image metadata\. Error: Field value bogus is invalid",
        TargetRejected,
        VALUE,
    ),
    Case(
        "no such network adapter",
        "create_server",
        boot_with("hw_vif_model", "bogus"),
        BadRequestException,
        400,
        r"Invalid image metadata\. Error: Field value bogus is invalid",
        TargetRejected,
        VALUE,
    ),
    Case(
        "no host has the room",
        "create_server, then wait_for_server",
        boot_where_no_host_is,
        ResourceFailure,
        None,
        r"transitioned to failure state ERROR",
        TargetFault,
    ),
    Case(
        "the quota of cores is used up",
        "create_server",
        boot_without_cores,
        ForbiddenException,
        403,
        r"Quota exceeded for cores: Requested 1, but already used \d+ of \d+ cores",
        QuotaExceeded,
        RAISE.format("cores"),
    ),
    Case(
        "a worker has the volume",
        "create_server",
        boot_what_a_worker_has,
        BadRequestException,
        400,
        r"Invalid volume: Invalid input received: Invalid volume: Volume \S+ status must be available or downloading "
        r"to reserve, but the current status is attaching\.",
        TargetFault,
    ),
    Case(
        "another server has the port",
        "create_server",
        boot_on_a_used_port,
        ConflictException,
        409,
        r"Port \S+ is still in use\.",
        TargetFault,
    ),
    Case(
        "a volume that is to be attached is gone",
        "create_volume_attachment",
        nova_attach(lambda _: NOBODY),
        NotFoundException,
        404,
        rf"Volume {NOBODY} could not be found\.",
        TargetNotFound,
        THERE,
    ),
    Case(
        "the server has the volume already",
        "create_volume_attachment",
        nova_attach(lambda scene: scene.root_of_server),
        BadRequestException,
        400,
        r"Invalid volume: volume \S+ is already attached to instances: \S+",
        TargetFault,
    ),
    Case(
        "what only an administrator may do",
        "create_flavor",
        lambda scene: scene.cloud.compute.create_flavor(name=scene.name(), vcpus=1, ram=64, disk=0),
        ForbiddenException,
        403,
        r"Policy doesn't allow os_compute_api:os-flavor-manage:create to be performed\.",
        TargetRefusedLogin,
        RIGHT,
    ),
    # Keystone
    Case(
        "a wrong password",
        "authorize",
        log_in(password="wrong"),
        SDKException,
        None,
        r"The request you have made requires authentication\. \(HTTP 401\) \(Request-ID: req-\S+\)",
        TargetRefusedLogin,
        LOGIN,
    ),
    Case(
        "a project where the user has no role",
        "authorize",
        log_in(project_name="nowhere"),
        SDKException,
        None,
        r"The request you have made requires authentication\. \(HTTP 401\) \(Request-ID: req-\S+\)",
        TargetRefusedLogin,
        LOGIN,
    ),
    Case(
        "a region that the cloud does not have",
        "volumes",
        look_in_another_region,
        ValueError,
        None,
        r"Programming error choosing an endpoint\.",
        ConfigurationError,
        REGION,
    ),
    Case(
        "Keystone does not answer",
        "authorize",
        log_in(auth_url="http://127.0.0.1:9/v3"),
        SDKException,
        None,
        r"Unable to establish connection to http://127\.0\.0\.1:9/v3/auth/tokens",
        TargetUnreachable,
    ),
)

ACCEPTED: Final = (
    Accepted(
        "what the volumes' quota is, and what is used of it",
        "get_quota_set",
        lambda scene: scene.cloud.volumes.get_quota_set(scene.cloud.project_id, usage=True),
        "a member may read it; XMS reads the limits instead",
        lambda quota: quota.usage["volumes"] >= 0 and quota.gigabytes > 0,
    ),
    Accepted(
        "what the servers' quota is, and what is used of it",
        "get_quota_set",
        lambda scene: scene.cloud.compute.get_quota_set(scene.cloud.project_id, usage=True),
        "a member may read it; XMS reads the limits instead",
        lambda quota: quota.usage["cores"] >= 0 and quota.cores > 0,
    ),
    Accepted(
        "what the ports' quota is, and what is used of it",
        "get_quota",
        lambda scene: scene.cloud.network.get_quota(scene.cloud.project_id, details=True),
        "a member may read it, and XMS does so before it makes anything",
        lambda quota: set(quota.ports) == {"limit", "used", "reserved"} and quota.ports["limit"] == 500,
    ),
    Accepted(
        "image metadata that nobody knows",
        "set_volume_image_metadata",
        image_metadata(xms_no_such_key="1"),
        "XMS writes only keys that Nova knows",
        lambda answer: answer is None,
    ),
    Accepted(
        "UEFI as the firmware",
        "create_server",
        boot_and_remove("hw_firmware_type", "uefi"),
        "a host without UEFI's firmware is told only by the server's fault",
        lambda made: bool(made.id),
    ),
    Accepted(
        "SCSI as the disk bus",
        "create_server",
        boot_and_remove("hw_disk_bus", "scsi"),
        "the model is given besides: virtio-scsi",
        lambda made: bool(made.id),
    ),
    Accepted(
        "a multicast MAC",
        "create_port",
        port(mac_address="01:54:00:aa:bb:02"),
        "none: no VM of vSphere has one",
        lambda made: made.mac_address == "01:54:00:aa:bb:02",
    ),
    Accepted(
        "a subnet of another project's network",
        "create_port",
        lambda scene: foreign_port(scene, fixed_ips=[{"subnet_id": scene.foreign_subnet.id}]),
        "a port there is possible, without a choice of its addresses",
        lambda made: bool(made.fixed_ips[0]["ip_address"]),
    ),
)
