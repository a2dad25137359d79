"""Logging in, tokens, projects, versions, and a cloud that is down for a moment."""

from __future__ import annotations

import stat
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from keystoneauth1 import exceptions as keystone_exceptions
from openstack import exceptions
from openstack.connection import Connection

from lab.cloud.contents import PASSWORD, USER
from lab.cloud.server import CloudServer
from tests.lab_cloud.conftest import Member, connect, member_of

# The SDK warns of itself: of its own internals, and of find_*'s future default.
pytestmark = pytest.mark.filterwarnings("ignore::openstack.warnings._RemovedInSDKWarning")


def log_in(cloud: CloudServer, **changes: str) -> Connection:
    region = changes.pop("region_name", "RegionOne")
    auth = {
        "auth_url": f"{cloud.url}/identity/v3",
        "username": USER,
        "password": PASSWORD,
        "project_name": "infra",
        "user_domain_name": "Default",
        "project_domain_name": "Default",
    }
    return Connection(region_name=region, auth={**auth, **changes})


@pytest.mark.parametrize("wrong", [{"password": "guess"}, {"project_name": "nowhere"}, {"project_name": "provider"}])
def test_a_wrong_login_and_a_foreign_project_are_refused_alike(cloud: CloudServer, wrong: dict[str, str]) -> None:
    with log_in(cloud, **wrong) as stranger:
        with pytest.raises(
            exceptions.SDKException, match=r"The request you have made requires authentication\. \(HTTP 401\)"
        ):
            stranger.authorize()
        with pytest.raises(keystone_exceptions.Unauthorized):
            list(stranger.compute.servers())


def test_a_wrong_region_is_the_sdk_s_value_error(cloud: CloudServer) -> None:
    with log_in(cloud, region_name="Elsewhere") as lost, pytest.raises(ValueError, match="choosing an endpoint"):
        list(lost.block_storage.volumes())


@pytest.mark.parametrize("path", ["compute/v2.1/servers", "network/v2.0/ports", "image/v2/images"])
def test_without_a_token_every_service_answers_401_and_names_keystone(cloud: CloudServer, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{cloud.url}/{path}")  # noqa: S310 - the stand-in's own address

    with refused.value as answer:
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == f'Keystone uri="{cloud.url}/identity"'


def test_an_expired_token_is_refused_and_the_client_logs_in_again(cloud: CloudServer, member: Member) -> None:
    first = member.connection.auth_token
    cloud.cloud.tokens.clear()

    assert list(member.compute.servers()) == []
    assert member.connection.auth_token != first


def test_the_user_is_a_member_of_both_projects(member: Member, sales: Member) -> None:
    volume = sales.block_storage.create_volume(size=1)

    assert sales.connection.current_project.name == "sales"
    assert [each.id for each in sales.block_storage.volumes()] == [volume.id]
    assert list(member.block_storage.volumes()) == []
    with pytest.raises(exceptions.NotFoundException):
        member.block_storage.get_volume(volume.id)
    with member.connection.connect_as_project("sales") as again:
        assert member_of(again).block_storage.get_volume(volume.id).id == volume.id


def test_another_project_s_ports_are_not_seen(member: Member, sales: Member) -> None:
    network = next(each for each in sales.network.networks() if each.name == "internal-net")
    port = sales.network.create_port(network_id=network.id)

    with pytest.raises(exceptions.NotFoundException):
        member.network.get_port(port.id)
    with pytest.raises(exceptions.NotFoundException):
        member.network.get_network(network.id)


def test_versions_are_discovered_and_too_new_ones_refused(member: Member) -> None:
    for service, version in ((member.compute, (2, 93)), (member.block_storage, (3, 70))):
        endpoint = service.get_endpoint_data()
        assert endpoint is not None
        assert endpoint.max_microversion == version
    assert member.compute.get("/servers", microversion="2.94").status_code == 406
    assert member.block_storage.get("/attachments", microversion="3.26").status_code == 404


def test_a_service_that_is_down_answers_503_as_often_as_ordered(cloud: CloudServer, member: Member) -> None:
    list(member.block_storage.volumes())
    cloud.faults.refuse("volume", times=1, status=503)

    with pytest.raises(exceptions.HttpException) as down:
        list(member.block_storage.volumes())

    assert down.value.status_code == 503
    assert list(member.block_storage.volumes()) == []


def test_clouds_yaml_is_for_its_owner_alone(cloud: CloudServer, tmp_path: Path) -> None:
    path = tmp_path / "written.yaml"
    path.touch(mode=0o644)

    cloud.write_clouds_yaml(path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with connect(path) as member:
        assert member.current_project.name == "infra"
