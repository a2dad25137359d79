"""A cloud that is brought up again with fewer parts keeps its state: what members see of it is what runs."""

from __future__ import annotations

import os
from pathlib import Path

import openstack.config
import pytest
from openstack.connection import Connection

from lab.openstack.layout import BACK_ENDS
from tests.cloud_contract.places import CLOUDS

pytestmark = [
    pytest.mark.openstack,
    pytest.mark.skipif(CLOUDS not in os.environ, reason=f"make test-openstack sets {CLOUDS}"),
    pytest.mark.xdist_group("real OpenStack"),
]


def connection(cloud: str) -> Connection:
    config = openstack.config.OpenStackConfig(config_files=[str(Path(os.environ[CLOUDS]))], load_envvars=False)
    return Connection(config=config.get_one(cloud))


def test_the_volume_types_are_those_whose_back_ends_run() -> None:
    with connection("lab-admin") as admin, connection("lab") as member:
        services = admin.block_storage.get("/os-services").json()["services"]
        running = {each["host"].rpartition("@")[2] for each in services if each["state"] == "up"}
        shown = {str(kind.name) for kind in member.block_storage.types()}
    assert shown & set(BACK_ENDS) == running & set(BACK_ENDS)
