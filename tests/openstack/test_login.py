"""How one logs in to a target: clouds.yaml, projects, regions, certificates, and how long a log-in lives."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lab.cloud.contents import PASSWORD, USER
from lab.cloud.server import CloudServer
from lab.cloud.trouble import CallTrouble
from lab.vcenter import certificate
from xms.config import TargetConfig
from xms.errors import ConfigurationError, TargetNotTrusted, TargetRefusedLogin, TargetUnreachable, XmsError
from xms.openstack import login
from xms.openstack.cloud import Cloud, connect

Entries = dict[str, dict[str, Any]]


@pytest.fixture(autouse=True)
def nobody_logged_in() -> None:
    login.forget_every_log_in()


@pytest.fixture
def entries(target_config: TargetConfig) -> Entries:
    """What the stand-in's clouds.yaml has."""
    assert target_config.clouds_file is not None
    clouds: Entries = json.loads(target_config.clouds_file.read_text())["clouds"]
    return clouds


def written(directory: Path, entries: Entries, *, mode: int = 0o600, name: str = "clouds.yaml") -> Path:
    file = directory / name
    file.touch(mode=0o600)
    file.write_text(json.dumps({"clouds": entries}))
    file.chmod(mode)
    return file


def refusal(config: TargetConfig, project: str | None = None) -> XmsError:
    with pytest.raises(XmsError) as error:
        connect(config, project)
    return error.value


# --- the entry --------------------------------------------------------------------------------------------------------


def test_an_unknown_cloud_is_told_with_those_that_are(target_config: TargetConfig) -> None:
    error = refusal(target_config.model_copy(update={"cloud": "nope"}))
    assert isinstance(error, ConfigurationError)
    assert "no log-in to cloud 'nope'" in error.what
    assert "lab, lab-application-credential, lab-sales" in error.because


def test_a_missing_clouds_file_is_told(tmp_path: Path) -> None:
    error = refusal(TargetConfig(cloud="lab", clouds_file=tmp_path / "none.yaml"))
    assert isinstance(error, ConfigurationError)
    assert str(tmp_path / "none.yaml") in error.because


def test_the_named_file_goes_before_the_environments(
    target_config: TargetConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(written(tmp_path, {})))
    connect(target_config).close()


def test_without_a_named_file_the_standard_places_count(
    entries: Entries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(written(tmp_path, entries)))
    connect(TargetConfig(cloud="lab")).close()


def test_the_environment_is_a_cloud_of_its_own(
    entries: Entries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cloud_server: CloudServer
) -> None:
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "none.yaml"))
    for key, value in entries["lab"]["auth"].items():
        monkeypatch.setenv(f"OS_{key.upper()}", value)
    with connect(TargetConfig(cloud="envvars")) as cloud:
        assert cloud.project_id == cloud_server.cloud.project_named("infra").id


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_clouds_file_with_a_secret_that_others_can_read_is_refused(
    entries: Entries, tmp_path: Path, mode: int
) -> None:
    file = written(tmp_path, entries, mode=mode)
    error = refusal(TargetConfig(cloud="lab", clouds_file=file))
    assert isinstance(error, ConfigurationError)
    assert f"{mode:04o}" in error.because
    assert error.do.startswith(f"chmod 600 {file}")


def test_a_clouds_file_without_secrets_may_be_read_by_all_when_the_secret_file_is_private(
    entries: Entries, tmp_path: Path
) -> None:
    password = entries["lab"]["auth"].pop("password")
    file = written(tmp_path, {"lab": entries["lab"]}, mode=0o644)
    secret = written(tmp_path, {"lab": {"auth": {"password": password}}}, name="secure.yaml")
    connect(TargetConfig(cloud="lab", clouds_file=file)).close()
    secret.chmod(0o644)
    assert str(secret) in refusal(TargetConfig(cloud="lab", clouds_file=file)).because


def test_a_wrong_password_is_told_and_not_shown(entries: Entries, tmp_path: Path) -> None:
    entries["lab"]["auth"]["password"] = "wrong-and-secret"
    error = refusal(TargetConfig(cloud="lab", clouds_file=written(tmp_path, entries)))
    assert isinstance(error, TargetRefusedLogin)
    assert "wrong-and-secret" not in str(error)
    assert error.because.count("req-") == error.because.count("HTTP 401") == 1


def test_a_cloud_that_is_down_is_unreachable(entries: Entries, tmp_path: Path) -> None:
    entries["lab"]["auth"]["auth_url"] = "http://127.0.0.1:9/identity/v3"
    error = refusal(TargetConfig(cloud="lab", clouds_file=written(tmp_path, entries), retry_seconds=0.2))
    assert isinstance(error, TargetUnreachable)


def test_a_wrong_address_of_keystone_is_the_entrys_fault(entries: Entries, tmp_path: Path) -> None:
    entries["lab"]["auth"]["auth_url"] += "/wrong"
    error = refusal(TargetConfig(cloud="lab", clouds_file=written(tmp_path, entries)))
    assert isinstance(error, ConfigurationError), error
    assert "auth_url" in error.do


def test_the_configured_time_limit_goes_before_the_entrys(entries: Entries, tmp_path: Path) -> None:
    entries["lab"]["api_timeout"] = 999
    with connect(TargetConfig(cloud="lab", clouds_file=written(tmp_path, entries), api_timeout_seconds=7)) as cloud:
        assert cloud.volumes.session.timeout == 7


# --- the project ------------------------------------------------------------------------------------------------------


def test_the_project_may_be_another_than_the_entrys(target_config: TargetConfig, cloud_server: CloudServer) -> None:
    with connect(target_config, "sales") as sales, connect(target_config) as own:
        assert sales.project_id == cloud_server.cloud.project_named("sales").id
        assert own.project_id == cloud_server.cloud.project_named("infra").id


def test_the_project_may_be_given_by_its_id(target_config: TargetConfig, cloud_server: CloudServer) -> None:
    sales = cloud_server.cloud.project_named("sales").id
    with connect(target_config, sales) as cloud:
        assert cloud.project_id == sales


def test_an_application_credential_logs_in_to_its_own_project(
    target_config: TargetConfig, cloud_server: CloudServer
) -> None:
    bound = target_config.model_copy(update={"cloud": "lab-application-credential"})
    infra = cloud_server.cloud.project_named("infra").id
    for project in (None, "infra", infra):
        with connect(bound, project) as cloud:
            assert cloud.project_id == infra


def test_an_application_credential_for_another_project_is_refused_with_both_names(target_config: TargetConfig) -> None:
    bound = target_config.model_copy(update={"cloud": "lab-application-credential"})
    error = refusal(bound, "sales")
    assert isinstance(error, ConfigurationError)
    assert "'infra'" in error.because
    assert "'sales'" in error.because


def test_a_log_in_without_a_project_is_told(entries: Entries, tmp_path: Path) -> None:
    del entries["lab"]["auth"]["project_name"]
    error = refusal(TargetConfig(cloud="lab", clouds_file=written(tmp_path, entries)))
    assert isinstance(error, ConfigurationError)
    assert "no project" in error.because


# --- the region -------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_regions(cloud_server: CloudServer) -> Iterator[None]:
    cloud_server.cloud.regions = (*cloud_server.cloud.regions, "west")
    yield
    cloud_server.cloud.regions = cloud_server.cloud.regions[:1]


@pytest.mark.usefixtures("two_regions")
def test_the_target_names_its_region(target_config: TargetConfig) -> None:
    with connect(target_config.model_copy(update={"region": "west"})) as cloud:
        assert cloud.connection.config.region_name == "west"
        assert list(cloud.compute.flavors())


def test_a_wrong_region_is_told_with_those_that_are(target_config: TargetConfig) -> None:
    error = refusal(target_config.model_copy(update={"region": "moon"}))
    assert isinstance(error, ConfigurationError)
    assert "no region 'moon', but RegionOne" in error.because


@pytest.mark.usefixtures("two_regions")
def test_of_several_regions_one_has_to_be_named(entries: Entries, tmp_path: Path) -> None:
    del entries["lab"]["region_name"]
    error = refusal(TargetConfig(cloud="lab", clouds_file=written(tmp_path, entries)))
    assert isinstance(error, ConfigurationError)
    assert "several regions (RegionOne, west)" in error.because


# --- certificates -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def https() -> Iterator[tuple[CloudServer, Path]]:
    """The stand-in with HTTPS, and the CA bundle that vouches for it."""
    directory = Path(tempfile.mkdtemp(prefix="xms-tls-", dir="/tmp"))
    bundle = directory / "ca.pem"
    certificate.make(bundle, ["127.0.0.1"])
    server = CloudServer(directory, certificate=bundle)
    server.start()
    yield server, bundle
    server.stop()
    shutil.rmtree(directory)


def entry_over_https(https: tuple[CloudServer, Path], directory: Path, **changes: object) -> TargetConfig:
    server, _ = https
    server.write_clouds_yaml(directory / "clouds.yaml")
    clouds: Entries = json.loads((directory / "clouds.yaml").read_text())["clouds"]
    return TargetConfig(
        cloud="lab", clouds_file=written(directory, {"lab": clouds["lab"] | changes}), retry_seconds=0.2
    )


def test_the_ca_bundle_of_the_entry_vouches_for_the_cloud(https: tuple[CloudServer, Path], tmp_path: Path) -> None:
    with connect(entry_over_https(https, tmp_path, cacert=str(https[1]))) as cloud:
        assert list(cloud.compute.flavors())


def test_a_certificate_that_nobody_vouches_for_is_not_trusted(https: tuple[CloudServer, Path], tmp_path: Path) -> None:
    error = refusal(entry_over_https(https, tmp_path))
    assert isinstance(error, TargetNotTrusted)
    assert "cacert" in error.do


@pytest.mark.parametrize("off", [{"verify": False}, {"insecure": True}])
def test_a_certificate_is_never_left_unchecked(
    https: tuple[CloudServer, Path], tmp_path: Path, off: dict[str, object]
) -> None:
    error = refusal(entry_over_https(https, tmp_path, **off))
    assert isinstance(error, ConfigurationError)
    assert "turns the check" in error.because


def test_a_ca_bundle_that_is_not_there_is_told(https: tuple[CloudServer, Path], tmp_path: Path) -> None:
    error = refusal(entry_over_https(https, tmp_path, cacert=str(tmp_path / "none.pem")))
    assert isinstance(error, ConfigurationError)
    assert str(tmp_path / "none.pem") in error.because


# --- how long a log-in lives ------------------------------------------------------------------------------------------


def volume_s_life(cloud: Cloud) -> None:
    """Calls of several services, with every method that the product uses."""
    volume = cloud.volumes.create_volume(size=1, name="tokens")
    cloud.volumes.set_volume_metadata(volume, purpose="test")
    cloud.volumes.wait_for_status(volume, interval=0.05, wait=10)
    cloud.volumes.set_volume_bootable_status(volume, bootable=True)
    list(cloud.compute.flavors())
    list(cloud.network.networks())
    cloud.volumes.delete_volume(volume)


def calls_of(cloud_server: CloudServer, work: Callable[[], None]) -> list[tuple[str, str]]:
    before = len(cloud_server.faults.calls)
    work()
    return cloud_server.faults.calls[before:]


@pytest.mark.parametrize("entry", ["lab", "lab-application-credential"])
def test_work_survives_the_end_of_its_token_before_any_call(
    target_config: TargetConfig, cloud_server: CloudServer, entry: str
) -> None:
    config = target_config.model_copy(update={"cloud": entry})
    with connect(config) as cloud:
        volume_s_life(cloud)
        for number in range(12):
            cloud_server.faults.end_tokens_before(number)
            calls = calls_of(cloud_server, lambda: volume_s_life(cloud))
            cloud_server.faults.calm()
            assert [path for method, path in calls if path.endswith("/auth/tokens")] or number > 6
            assert sum(method == "POST" and path.endswith("/volumes") for method, path in calls) in {1, 2}


def test_a_log_in_is_shared_by_all_that_is_done_in_a_project(
    target_config: TargetConfig, cloud_server: CloudServer
) -> None:
    def look() -> None:
        with connect(target_config) as cloud:
            list(cloud.compute.flavors())

    assert ("POST", "/identity/v3/auth/tokens") in calls_of(cloud_server, look)
    assert not [path for _, path in calls_of(cloud_server, look) if path.startswith("/identity")]


def test_a_log_in_that_was_renewed_on_the_way_is_the_one_that_is_shared(
    target_config: TargetConfig, cloud_server: CloudServer
) -> None:
    with connect(target_config) as cloud:
        cloud_server.faults.end_tokens_before(0)
        list(cloud.compute.flavors())
    calls = calls_of(cloud_server, lambda: connect(target_config).close())
    assert calls == []
    with connect(target_config) as cloud:
        before = len(cloud_server.faults.calls)
        list(cloud.compute.flavors())
        calls = cloud_server.faults.calls[before:]
    assert not [path for _, path in calls if path.startswith("/identity")]


def test_one_that_waits_for_keystone_keeps_no_other_waiting(
    target_config: TargetConfig, cloud_server: CloudServer
) -> None:
    with connect(target_config) as slow, connect(target_config) as quick:
        list(quick.compute.flavors())
        slow.connection.session.invalidate()
        cloud_server.faults.upset(CallTrouble(path="auth/tokens", seconds=2.0))
        with ThreadPoolExecutor(1) as elsewhere:
            waiting = elsewhere.submit(lambda: list(slow.compute.flavors()))
            start = time.monotonic()
            list(quick.compute.flavors())
            assert time.monotonic() - start < 1.5
            assert waiting.result()


def test_another_password_is_another_log_in(entries: Entries, tmp_path: Path) -> None:
    config = TargetConfig(cloud="lab", clouds_file=written(tmp_path, entries))
    connect(config).close()
    entries["lab"]["auth"]["password"] = "no longer right"
    written(tmp_path, entries)
    assert isinstance(refusal(config), TargetRefusedLogin)


def test_after_a_refusal_one_logs_in_afresh_since_a_role_may_have_been_given(
    target_config: TargetConfig, cloud_server: CloudServer
) -> None:
    with pytest.raises(TargetRefusedLogin), connect(target_config):
        raise TargetRefusedLogin("it was not made", because="policy (HTTP 403)")
    calls = calls_of(cloud_server, lambda: connect(target_config).close())
    assert ("POST", "/identity/v3/auth/tokens") in calls


def test_a_log_in_is_not_shared_for_long(
    target_config: TargetConfig, cloud_server: CloudServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(target_config).close()
    monkeypatch.setattr(login, "SHARED_SECONDS", 0.0)
    calls = calls_of(cloud_server, lambda: connect(target_config).close())
    assert ("POST", "/identity/v3/auth/tokens") in calls


def test_the_stand_ins_account_is_what_the_entry_says(entries: Entries) -> None:
    assert (entries["lab"]["auth"]["username"], entries["lab"]["auth"]["password"]) == (USER, PASSWORD)
