"""What is in the stand-in cloud when it starts."""

from __future__ import annotations

import uuid
from pathlib import Path

from lab.cloud.state import ApplicationCredential, Cloud, Flavor, Network, Project, Subnet, User, VolumeType, new_id

USER = "demo"
PASSWORD = "demo-of-the-lab"  # noqa: S105 - it opens nothing but the stand-in
PROJECTS = ("infra", "sales")
APPLICATION_CREDENTIAL = "migrations"
PROVIDER = "provider"
FLAVORS = (("m1.nano", 1, 256), ("m1.small", 1, 1024), ("m1.medium", 2, 2048), ("m1.xlarge", 4, 8192))
VOLUME_TYPES = ("ssd", "hdd")
BACK_END_GIBIBYTES = 4096
OWN_NETWORKS = (("internal-net", "internal-subnet", "10.20.0.0/24"), ("backup-net", "backup-subnet", "10.30.0.0/24"))
SHARED_NETWORK = ("provider-net", "provider-subnet", "10.78.0.0/24")


def new_cloud(directory: Path, accelerator: str) -> Cloud:
    """A cloud with two projects of one member, each with its own networks, and a shared one that the provider owns."""
    cloud = Cloud(directory, accelerator)
    for name in (*PROJECTS, PROVIDER):
        project = Project(id=uuid.uuid4().hex, name=name)
        cloud.projects[project.id] = project
    provider = cloud.project_named(PROVIDER)
    members = frozenset(cloud.project_named(name).id for name in PROJECTS)
    user = User(id=uuid.uuid4().hex, name=USER, password=PASSWORD, projects=members)
    cloud.users[user.id] = user
    credential = ApplicationCredential(
        uuid.uuid4().hex, APPLICATION_CREDENTIAL, uuid.uuid4().hex, user, cloud.project_named(PROJECTS[0])
    )
    cloud.application_credentials[credential.id] = credential
    for name, vcpus, ram in FLAVORS:
        flavor = Flavor(id=new_id(), name=name, vcpus=vcpus, ram=ram)
        cloud.flavors[flavor.id] = flavor
    for name in VOLUME_TYPES:
        volume_type = VolumeType(id=new_id(), name=name, capacity=BACK_END_GIBIBYTES)
        cloud.volume_types[volume_type.id] = volume_type
    for project_id in sorted(members):
        cloud.security_groups[project_id] = new_id()
        for network_name, subnet_name, cidr in OWN_NETWORKS:
            _add_network(cloud, Network(new_id(), network_name, project_id), subnet_name, cidr)
    name, subnet_name, cidr = SHARED_NETWORK
    _add_network(cloud, Network(new_id(), name, provider.id, shared=True), subnet_name, cidr)
    return cloud


def _add_network(cloud: Cloud, network: Network, subnet_name: str, cidr: str) -> None:
    cloud.networks[network.id] = network
    subnet = Subnet(new_id(), subnet_name, network.id, network.project_id, cidr)
    cloud.subnets[subnet.id] = subnet
