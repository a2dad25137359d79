"""What is in the cloud when it is up: accounts, the catalogue, volume types, networks, flavors. Safe to run again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import openstack.config
import openstack.connection
import openstack.exceptions
from keystoneauth1.exceptions import ClientException
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from lab.openstack.configuration import password
from lab.openstack.layout import BACK_ENDS, HOST, PORTS, Layout, OpenStackError

if TYPE_CHECKING:
    from openstack.identity.v3._proxy import Proxy as Identity

STARTING_SECONDS: Final = 150
REGION: Final = "RegionOne"
PROJECT: Final = "migration"
OTHER_PROJECT: Final = "provider"

ROLES: Final = (
    ("service", "service", ("admin", "service")),
    ("migrator", PROJECT, ("member",)),
    ("admin", PROJECT, ("admin",)),
    ("admin", OTHER_PROJECT, ("admin",)),
)
"""User, project, roles. The product's account is `migrator`, a plain member."""

CATALOGUE: Final = (
    ("glance", "image", f"http://127.0.0.1:{PORTS['glance']}"),
    ("placement", "placement", f"http://127.0.0.1:{PORTS['placement']}"),
    ("cinderv3", "volumev3", f"http://127.0.0.1:{PORTS['cinder-api']}/v3/%(project_id)s"),
    ("cinder", "block-storage", f"http://127.0.0.1:{PORTS['cinder-api']}/v3/%(project_id)s"),
    ("neutron", "network", f"http://127.0.0.1:{PORTS['neutron-server']}"),
    ("nova", "compute", f"http://127.0.0.1:{PORTS['nova-api']}/v2.1"),
)

NETWORKS: Final = (
    ("provider", "physnet1", PROJECT, False, "10.77.0"),
    # Of another owner: there, Neutron's policy lets a plain member choose neither MAC nor address.
    ("shared-net", "physnet2", OTHER_PROJECT, True, "10.78.0"),
)
"""Name, physical network, owner, shared or not, the first three bytes of its addresses."""

FLAVORS: Final = (("m1.nano", 1, 192), ("m1.small", 1, 512))


class _NotYet(Exception):
    """A service is not there yet."""


_once_it_is_up = retry(
    retry=retry_if_exception_type((_NotYet, openstack.exceptions.SDKException, ClientException)),
    wait=wait_fixed(1),
    stop=stop_after_delay(STARTING_SECONDS),
    reraise=True,
)


def identity(layout: Layout) -> None:
    """Projects, accounts, roles and the catalogue."""
    with _admin(layout) as cloud:
        keystone = cast("Identity", cloud.identity)
        projects = {
            name: keystone.find_project(name) or keystone.create_project(name=name, domain_id="default")
            for name in ("service", PROJECT, OTHER_PROJECT)
        }
        roles = {
            name: keystone.find_role(name) or keystone.create_role(name=name)
            for name in ("admin", "member", "reader", "service")
        }
        for user, project, names in ROLES:
            account = keystone.find_user(user) or keystone.create_user(
                name=user, password=password(layout), domain_id="default"
            )
            for name in names:
                keystone.assign_project_role_to_user(projects[project], account, roles[name])
        for name, kind, url in CATALOGUE:
            service = keystone.find_service(name) or keystone.create_service(name=name, type=kind)
            if not list(keystone.endpoints(service_id=service.id)):
                for interface in ("public", "internal", "admin"):
                    keystone.create_endpoint(service_id=service.id, interface=interface, region_id=REGION, url=url)


def resources(layout: Layout, back_ends: Sequence[str]) -> None:
    """Volume types, networks and flavors; then wait until the workers of Cinder and Nova report.

    Raises:
        OpenStackError: they do not, or a service does not answer.
    """
    with _admin(layout) as cloud:
        try:
            _make_volume_types(cloud, back_ends)
            _make_networks(cloud)
            _make_flavors(cloud)
            _see_workers(cloud, back_ends)
        except (_NotYet, openstack.exceptions.SDKException, ClientException) as error:
            raise OpenStackError(f"the cloud was not filled within {STARTING_SECONDS} s: {error}") from error


@_once_it_is_up
def _make_volume_types(cloud: Any, back_ends: Sequence[str]) -> None:  # noqa: ANN401 - the SDK's connection is untyped
    # Without this filter even an administrator is told of public ones only.
    told = cloud.block_storage.get("/types?is_public=None").json()["volume_types"]
    there = {kind["name"]: kind["id"] for kind in told if kind["name"] in BACK_ENDS}
    for name in back_ends:
        if name not in there:
            cloud.block_storage.create_type(name=name, extra_specs={"volume_backend_name": name})
    # State that was kept may know of a back end that does not run today: what members see is what works.
    for name, type_id in there.items():
        shown = {"volume_type": {"is_public": name in back_ends}}
        openstack.exceptions.raise_from_response(cloud.block_storage.put(f"/types/{type_id}", json=shown))


@_once_it_is_up
def _make_networks(cloud: Any) -> None:  # noqa: ANN401 - the same
    for name, physical, owner, shared, prefix in NETWORKS:
        project = cloud.identity.find_project(owner)
        network = cloud.network.find_network(name) or cloud.network.create_network(
            name=name,
            project_id=project.id,
            shared=shared,
            provider_network_type="flat",
            provider_physical_network=physical,
        )
        if not list(cloud.network.subnets(network_id=network.id)):
            cloud.network.create_subnet(
                network_id=network.id,
                project_id=project.id,
                name=f"{name}-v4",
                ip_version=4,
                cidr=f"{prefix}.0/24",
                gateway_ip=f"{prefix}.1",
                enable_dhcp=False,
                allocation_pools=[{"start": f"{prefix}.100", "end": f"{prefix}.199"}],
            )


@_once_it_is_up
def _make_flavors(cloud: Any) -> None:  # noqa: ANN401 - the same
    there = {flavor.name for flavor in cloud.compute.flavors()}
    for name, cpus, memory in FLAVORS:
        if name not in there:
            cloud.compute.create_flavor(name=name, vcpus=cpus, ram=memory, disk=0)


@_once_it_is_up
def _see_workers(cloud: Any, back_ends: Sequence[str]) -> None:  # noqa: ANN401 - the same
    answer = cloud.block_storage.get("/os-services").json()["services"]
    storage = {service["host"]: service["state"] for service in answer if service["binary"] == "cinder-volume"}
    compute = {service.binary: service.state for service in cloud.compute.services()}
    if any(storage.get(f"{HOST}@{name}") != "up" for name in back_ends) or compute.get("nova-compute") != "up":
        raise _NotYet(f"workers: {storage}, {compute}")


def _admin(layout: Layout) -> openstack.connection.Connection:
    config = openstack.config.OpenStackConfig(config_files=[str(layout.clouds)], load_envvars=False)
    return openstack.connection.Connection(config=config.get_one("lab-admin"))
