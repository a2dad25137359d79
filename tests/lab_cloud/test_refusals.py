"""What the cloud refuses, with the class, the status and the words that a real OpenStack was seen to answer with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from openstack import exceptions
from openstack.block_storage.v3.volume import Volume

from lab.cloud.server import CloudServer
from tests.lab_cloud.conftest import Member, ServerMaker, VolumeMaker, boot_from

# The SDK warns of itself: of its own internals, and of find_*'s future default.
pytestmark = pytest.mark.filterwarnings("ignore::openstack.warnings._RemovedInSDKWarning")

NOWHERE = "11111111-1111-1111-1111-111111111111"
CONNECTOR = {"host": "worker1"}


@dataclass(frozen=True)
class Scene:
    """What a refused call has at hand."""

    cloud: CloudServer
    member: Member
    make_volume: VolumeMaker
    make_server: ServerMaker

    def network(self, name: str = "internal-net") -> str:
        return str(next(each for each in self.member.network.networks() if each.name == name).id)

    def port(self, network: str = "internal-net", **attributes: object) -> None:
        self.member.network.create_port(network_id=self.network(network), **attributes)

    def boot(self, *volumes: Volume, **attributes: object) -> None:
        self.make_server(*volumes, wait=False, **attributes)

    def boot_with(self, **image_metadata: str) -> None:
        self.boot(self.make_volume(bootable=True, image_metadata=image_metadata))


@pytest.fixture
def scene(cloud: CloudServer, member: Member, make_volume: VolumeMaker, make_server: ServerMaker) -> Scene:
    return Scene(cloud, member, make_volume, make_server)


def exceed_gigabytes(scene: Scene) -> None:
    scene.cloud.set_quota("infra", gigabytes=10)
    scene.make_volume(11)


def exceed_volumes(scene: Scene) -> None:
    scene.cloud.set_quota("infra", volumes=1)
    scene.make_volume()
    scene.make_volume()


def exceed_ports(scene: Scene) -> None:
    scene.cloud.set_quota("infra", ports=0)
    scene.port()


def exceed_cores(scene: Scene) -> None:
    scene.cloud.set_quota("infra", cores=0)
    scene.boot_with()


def take_a_mac_twice(scene: Scene) -> None:
    scene.port(mac_address="52:54:00:aa:bb:01")
    scene.port(mac_address="52:54:00:AA:BB:01")


def take_an_address_twice(scene: Scene) -> None:
    scene.port(fixed_ips=[{"ip_address": "10.20.0.20"}])
    scene.port(fixed_ips=[{"ip_address": "10.20.0.20"}])


def attach_twice(scene: Scene) -> None:
    volume = scene.make_volume()
    scene.member.block_storage.create_attachment(volume, connector=CONNECTOR)
    scene.member.block_storage.create_attachment(volume, connector=CONNECTOR)


def boot_while_attached(scene: Scene) -> None:
    volume = scene.make_volume(bootable=True)
    scene.member.block_storage.create_attachment(volume, connector=CONNECTOR)
    scene.boot(volume)


def delete_in_use(scene: Scene) -> None:
    volume = scene.make_volume()
    attachment = scene.member.block_storage.create_attachment(volume, connector=CONNECTOR)
    scene.member.block_storage.complete_attachment(attachment.id)
    scene.member.block_storage.delete_volume(volume, ignore_missing=False)


def extend_in_use(scene: Scene) -> None:
    volume = scene.make_volume()
    scene.member.block_storage.create_attachment(volume, connector=CONNECTOR)
    scene.member.block_storage.extend_volume(volume, 2)


def boot_on_a_port_in_use(scene: Scene) -> None:
    port = scene.member.network.create_port(network_id=scene.network())
    scene.make_server(scene.make_volume(bootable=True), networks=[{"port": port.id}])
    scene.boot(scene.make_volume(bootable=True), networks=[{"port": port.id}])


def delete_novas_attachment(scene: Scene) -> None:
    volume = scene.make_volume(bootable=True)
    scene.make_server(volume)
    attachment = next(scene.member.block_storage.attachments(volume_id=volume.id))
    scene.member.block_storage.delete_attachment(attachment.id, ignore_missing=False)


def attach_twice_by_nova(scene: Scene) -> None:
    volume = scene.make_volume(bootable=True)
    server = scene.make_server(volume)
    scene.member.compute.create_volume_attachment(server, volume=volume)


def attach_what_a_worker_has_by_nova(scene: Scene) -> None:
    server = scene.make_server(scene.make_volume(bootable=True))
    volume = scene.make_volume()
    scene.member.block_storage.create_attachment(volume, connector=CONNECTOR)
    scene.member.compute.create_volume_attachment(server, volume=volume)


def detach_the_root(scene: Scene) -> None:
    volume = scene.make_volume(bootable=True)
    server = scene.make_server(volume)
    scene.member.compute.delete_volume_attachment(server, volume, ignore_missing=False)


def attach_nothing_by_nova(scene: Scene) -> None:
    server = scene.make_server(scene.make_volume(bootable=True))
    scene.member.compute.create_volume_attachment(server, volume=NOWHERE)


Call = Callable[[Scene], object]
BAD, MISSING = exceptions.BadRequestException, exceptions.NotFoundException
CONFLICT, FORBIDDEN = exceptions.ConflictException, exceptions.ForbiddenException
HTTP = exceptions.HttpException

REFUSALS: dict[str, tuple[Call, type[exceptions.HttpException], int, str]] = {
    "volume type missing": (
        lambda s: s.make_volume(volume_type="gold"),
        MISSING,
        404,
        "Volume type with name gold could not be found.",
    ),
    "volume zone missing": (
        lambda s: s.make_volume(availability_zone="az9"),
        BAD,
        400,
        "Availability zone 'az9' is invalid.",
    ),
    "volume of size 0": (
        lambda s: s.make_volume(0),
        BAD,
        400,
        "Invalid input for field/attribute size. Value: 0. 0 is less than the minimum of 1",
    ),
    "gigabytes quota": (
        exceed_gigabytes,
        HTTP,
        413,
        (
            "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota. "
            "Requested 11G, quota is 10G and 0G has been consumed."
        ),
    ),
    "volumes quota": (
        exceed_volumes,
        HTTP,
        413,
        "VolumeLimitExceeded: Maximum number of volumes allowed (1) exceeded for quota 'volumes'.",
    ),
    "image metadata that is no text": (
        lambda s: s.make_volume(image_metadata={"hw_disk_bus": 5}),
        BAD,
        400,
        "Invalid input for field/attribute hw_disk_bus. Value: 5. 5 is not of type 'string'",
    ),
    "image metadata of 300 characters": (
        lambda s: s.make_volume(image_metadata={"hw_disk_bus": "x" * 300}),
        BAD,
        400,
        "Invalid input for field/attribute hw_disk_bus. Value: xxx",
    ),
    "attach twice": (
        attach_twice,
        BAD,
        400,
        "status must be available or downloading to reserve, but the current status is attaching.",
    ),
    "delete in use": (
        delete_in_use,
        BAD,
        400,
        (
            "Invalid volume: Volume status must be available or error or error_restoring or error_extending or "
            "error_managing and must not be migrating, attached, belong to a group, have "
        ),
    ),
    "delete nova's attachment": (
        delete_novas_attachment,
        CONFLICT,
        409,
        "ConflictNovaUsingAttachment: Detach volume from instance ",
    ),
    "delete missing volume": (
        lambda s: s.member.block_storage.delete_volume(NOWHERE, ignore_missing=False),
        MISSING,
        404,
        f"Volume {NOWHERE} could not be found.",
    ),
    "extend in use": (extend_in_use, BAD, 400, "status must be available to extend, currently attaching."),
    "port without network": (
        lambda s: s.member.network.create_port(network_id=NOWHERE),
        MISSING,
        404,
        f"Network {NOWHERE} could not be found.",
    ),
    "MAC in use": (take_a_mac_twice, CONFLICT, 409, "The mac address 52:54:00:AA:BB:01 is in use."),
    "address in use": (take_an_address_twice, CONFLICT, 409, "IP address 10.20.0.20 already allocated in subnet "),
    "address outside of the subnet": (
        lambda s: s.port(fixed_ips=[{"ip_address": "10.99.0.20"}]),
        BAD,
        400,
        "IP address 10.99.0.20 is not a valid IP for any of the subnets on the specified network.",
    ),
    "bad MAC": (
        lambda s: s.port(mac_address="52:54:00:zz"),
        BAD,
        400,
        "Invalid input for mac_address. Reason: '52:54:00:zz' is not a valid MAC address.",
    ),
    "MAC on another's network": (
        lambda s: s.port("provider-net", mac_address="52:54:00:aa:bb:02"),
        FORBIDDEN,
        403,
        "(rule:create_port and rule:create_port:mac_address) is disallowed by policy",
    ),
    "address on another's network": (
        lambda s: s.port("provider-net", fixed_ips=[{"ip_address": "10.78.0.50"}]),
        FORBIDDEN,
        403,
        (
            "(rule:create_port and (rule:create_port:fixed_ips and (rule:create_port:fixed_ips:ip_address))) "
            "is disallowed by policy"
        ),
    ),
    "ports quota": (exceed_ports, CONFLICT, 409, "Quota exceeded for resources: ['port']."),
    "boot from a volume that is not bootable": (
        lambda s: s.boot(s.make_volume()),
        BAD,
        400,
        " is not bootable.",
    ),
    "boot without volumes": (lambda s: s.boot(), BAD, 400, "Invalid imageRef provided."),
    "boot, flavor missing": (
        lambda s: s.boot(s.make_volume(bootable=True), flavor_id="nope"),
        BAD,
        400,
        "Flavor nope could not be found.",
    ),
    "boot, zone missing": (
        lambda s: s.boot(s.make_volume(bootable=True), availability_zone="az9"),
        BAD,
        400,
        "The requested availability zone is not available",
    ),
    "boot, port missing": (
        lambda s: s.boot(s.make_volume(bootable=True), networks=[{"port": NOWHERE}]),
        BAD,
        400,
        f"Port id {NOWHERE} could not be found.",
    ),
    "boot, port in use": (boot_on_a_port_in_use, CONFLICT, 409, " is still in use."),
    "boot, hw_disk_bus=foo": (
        lambda s: s.boot_with(hw_disk_bus="foo"),
        BAD,
        400,
        "Invalid image metadata. Error: Field value foo is invalid",
    ),
    "boot, hw_firmware_type=bogus": (
        lambda s: s.boot_with(hw_firmware_type="bogus"),
        BAD,
        400,
        "Invalid image metadata. Error: Field value bogus is invalid",
    ),
    "boot, hw_vif_model=bogus": (
        lambda s: s.boot_with(hw_vif_model="bogus"),
        BAD,
        400,
        "Invalid image metadata. Error: Field value bogus is invalid",
    ),
    "boot while a worker has the volume": (
        boot_while_attached,
        BAD,
        400,
        "Invalid volume: Invalid input received: Invalid volume: Volume ",
    ),
    "cores quota": (
        exceed_cores,
        FORBIDDEN,
        403,
        "Quota exceeded for cores: Requested 1, but already used 0 of 0 cores",
    ),
    "server missing": (
        lambda s: s.member.compute.get_server(NOWHERE),
        MISSING,
        404,
        f"Instance {NOWHERE} could not be found.",
    ),
    "nova attaches a missing volume": (attach_nothing_by_nova, MISSING, 404, f"Volume {NOWHERE} could not be found."),
    "nova attaches twice": (attach_twice_by_nova, BAD, 400, " is already attached to instances: "),
    "nova attaches what a worker has": (
        attach_what_a_worker_has_by_nova,
        BAD,
        400,
        "Invalid input received: Invalid volume: Volume ",
    ),
    "nova detaches the root": (detach_the_root, BAD, 400, "Cannot detach a root device volume"),
    "admin's call as a member": (
        lambda s: s.member.compute.create_flavor(name="mine", ram=1, vcpus=1, disk=0),
        FORBIDDEN,
        403,
        "Policy doesn't allow os_compute_api:os-flavor-manage:create to be performed.",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_has_the_class_status_and_words_of_a_real_openstack(scene: Scene, case: str) -> None:
    call, kind, status, text = REFUSALS[case]

    with pytest.raises(exceptions.HttpException) as refused:
        call(scene)

    assert type(refused.value) is kind
    assert refused.value.status_code == status
    assert text in str(refused.value)


def test_what_a_real_openstack_takes_is_taken(scene: Scene) -> None:
    scene.make_volume(image_metadata={"no_such_property": "anything"})
    scene.port(mac_address="01:54:00:aa:bb:02")
    subnet = next(each for each in scene.member.network.subnets() if each.name == "provider-subnet")
    scene.port("provider-net", fixed_ips=[{"subnet_id": subnet.id}])

    assert len(list(scene.member.network.ports())) == 2


def test_a_refused_boot_leaves_no_volume_reserved(scene: Scene) -> None:
    free, held = scene.make_volume(bootable=True), scene.make_volume()
    scene.member.block_storage.create_attachment(held, connector=CONNECTOR)

    with pytest.raises(BAD):
        scene.boot(free, held)

    assert scene.member.block_storage.get_volume(free).status == "available"
    assert list(scene.member.compute.servers()) == []


def test_a_refused_boot_without_a_network_wish_says_so(scene: Scene) -> None:
    flavor = next(scene.member.compute.flavors())
    volume = scene.make_volume(bootable=True)

    with pytest.raises(BAD, match="'networks' is a required property"):
        scene.member.compute.create_server(
            name="x", flavor_id=flavor.id, block_device_mapping=boot_from(volume), networks=None
        )
