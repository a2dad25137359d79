"""Registering a source: as a whole or not at all, proven by a log-in, and readable by its owner alone."""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from tests.vsphere.conftest import USER, AVcenter, a_vcenter
from xms import registration
from xms.config import SourceConfig
from xms.errors import BadInput, ConfigurationError, Refused, SourceNotTrusted, SourceRefusedLogin
from xms.registration import Registration, configuration, normal_thumbprint, register, unregister
from xms.sources import load_followed_config


@pytest.fixture
def vcenter(tmp_path: Path) -> Iterator[AVcenter]:
    (tmp_path / "vcenter").mkdir()
    with a_vcenter(tmp_path / "vcenter") as running:
        yield running


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text('[target]\ncloud = "lab"\n[sources.by-hand]\nhost = "h"\nusername = "u"\npassword_file = "/p"\n')
    return configuration(path)


def a_registration(vcenter: AVcenter, password: str | None = "secret") -> Registration:  # noqa: S107 - a stand-in's
    return Registration(
        name="lab",
        host=vcenter.config.host,
        port=vcenter.config.port,
        username=USER,
        password=SecretStr(password) if password else None,
        password_file=None if password else vcenter.config.password_file,
        thumbprint=vcenter.config.thumbprint,
        ca_file=None,
        datacenter=None,
    )


def files(config: Path) -> dict[str, int]:
    directory = config.parent / "sources.d"
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} if directory.exists() else {}


def test_a_source_is_registered_after_a_log_in_and_a_running_worker_has_it(config: Path, vcenter: AVcenter) -> None:
    running = load_followed_config(config)
    sent = vcenter.log_ins
    done = register(config, a_registration(vcenter), check=True)
    assert done.product == "VMware vCenter Server 8.0.3, build 24022515"
    assert sent == ["secret"]
    assert vcenter.server.sessions == 0
    source = running.source("lab")
    assert source.password().get_secret_value() == "secret"
    assert (source.host, source.thumbprint) == (vcenter.config.host, vcenter.config.thumbprint)
    assert source.password_file == config.parent / "sources.d" / "lab.password"


def test_its_files_can_be_read_by_their_owner_alone(config: Path, vcenter: AVcenter) -> None:
    before = os.umask(0)
    try:
        register(config, a_registration(vcenter), check=False)
    finally:
        os.umask(before)
    assert files(config) == {"lab.toml": 0o600, "lab.password": 0o600}
    assert stat.S_IMODE((config.parent / "sources.d").stat().st_mode) == 0o700
    assert "secret" not in (config.parent / "sources.d" / "lab.toml").read_text()


def test_a_password_file_is_named_and_not_copied(config: Path, vcenter: AVcenter) -> None:
    register(config, a_registration(vcenter, None), check=True)
    assert files(config) == {"lab.toml": 0o600}
    assert load_followed_config(config).source("lab").password_file == vcenter.config.password_file


def test_a_password_file_that_others_can_read_is_refused(config: Path, vcenter: AVcenter) -> None:
    sent = vcenter.log_ins
    vcenter.config.password_file.chmod(0o640)
    for check in (True, False):
        with pytest.raises(ConfigurationError, match="can be read by others"):
            register(config, a_registration(vcenter, None), check=check)
    assert (files(config), sent) == ({}, [])


def test_a_wrong_password_is_sent_once_and_nothing_is_written(config: Path, vcenter: AVcenter) -> None:
    sent = vcenter.log_ins
    with pytest.raises(SourceRefusedLogin) as refused:
        register(config, a_registration(vcenter, "hunter2"), check=True)
    assert (files(config), sent) == ({}, ["hunter2"])
    assert "hunter2" not in str(refused.value)


def test_a_certificate_that_is_not_the_given_one_is_refused_before_the_password_is_sent(
    config: Path, vcenter: AVcenter
) -> None:
    sent = vcenter.log_ins
    with pytest.raises(SourceNotTrusted):
        register(config, replace(a_registration(vcenter), thumbprint=":".join(["AB"] * 32)), check=True)
    assert (files(config), sent) == ({}, [])


def test_a_datacenter_that_the_source_does_not_have_is_refused_with_those_that_it_has(
    config: Path, vcenter: AVcenter
) -> None:
    with pytest.raises(ConfigurationError, match="no datacenter called 'moon'") as refused:
        register(config, replace(a_registration(vcenter), datacenter="moon"), check=True)
    assert "lab-dc" in refused.value.because
    assert files(config) == {}
    register(config, replace(a_registration(vcenter), datacenter="lab-dc"), check=True)
    assert load_followed_config(config).source("lab").datacenter == "lab-dc"


def test_a_ca_bundle_is_trusted_in_place_of_a_thumbprint(config: Path, tmp_path: Path) -> None:
    (tmp_path / "named").mkdir()
    with a_vcenter(tmp_path / "named", names=("127.1",)) as vcenter:
        pem = (tmp_path / "named" / "vcenter.pem").read_text()
        bundle = tmp_path / "ca.pem"
        bundle.write_text(pem[pem.index("-----BEGIN CERTIFICATE") :])
        with_bundle = replace(a_registration(vcenter), thumbprint=None, ca_file=bundle)
        assert register(config, with_bundle, check=True).product
        source = load_followed_config(config).source("lab")
        assert (source.ca_file, source.thumbprint) == (bundle, None)


def test_without_a_check_nobody_is_asked(config: Path, vcenter: AVcenter) -> None:
    vcenter.server.stop()
    assert register(config, a_registration(vcenter), check=False).product == ""
    assert set(files(config)) == {"lab.toml", "lab.password"}


def test_a_name_that_is_taken_is_refused(config: Path, vcenter: AVcenter) -> None:
    with pytest.raises(Refused, match="by-hand is registered already"):
        register(config, replace(a_registration(vcenter), name="by-hand"), check=False)
    register(config, a_registration(vcenter), check=False)
    with pytest.raises(Refused, match="lab is registered already"):
        register(config, a_registration(vcenter), check=False)


def test_of_two_who_register_the_same_name_at_once_one_is_refused(
    config: Path, vcenter: AVcenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(config, a_registration(vcenter), check=False)
    text = (config.parent / "sources.d" / "lab.toml").read_text()
    monkeypatch.setattr(registration, "refuse_known", lambda *_: None)
    with pytest.raises(Refused, match="registered already"):
        register(config, replace(a_registration(vcenter, None), datacenter="other"), check=False)
    assert (config.parent / "sources.d" / "lab.toml").read_text() == text
    assert set(files(config)) == {"lab.toml", "lab.password"}


@pytest.mark.parametrize("step", ["replace", "link", "fsync"])
def test_killed_at_any_step_it_leaves_no_half_registration(
    config: Path, vcenter: AVcenter, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path if step == "replace" else os, step, dies)
        with pytest.raises(KeyboardInterrupt):
            register(config, a_registration(vcenter), check=False)
    assert "lab" not in load_followed_config(config).registered()
    register(config, a_registration(vcenter), check=True)
    assert set(files(config)) == {"lab.toml", "lab.password"}


def test_what_a_killed_command_left_is_swept_by_the_next_one(config: Path, vcenter: AVcenter) -> None:
    register(config, a_registration(vcenter), check=False)
    old, young = (config.parent / "sources.d" / name for name in (".draft-0001", ".draft-0002"))
    for draft in (old, young):
        draft.write_text("secret\n")
    os.utime(old, (1, 1))
    register(config, replace(a_registration(vcenter), name="second"), check=False)
    assert (old.exists(), young.exists()) == (False, True)


def test_what_is_written_reads_back_as_what_was_given() -> None:
    source = SourceConfig(
        host="h", username='DOMAIN\\"quoted" ü', password_file=Path("/a b/c"), datacenter="Frankfurt/2 #1", port=8443
    )
    assert SourceConfig.model_validate(tomllib.loads(registration.as_toml(source))) == source


@pytest.mark.parametrize("field", ["host", "username", "datacenter"])
def test_a_value_with_control_characters_is_refused(config: Path, vcenter: AVcenter, field: str) -> None:
    with pytest.raises(BadInput, match="cannot be used"):
        register(config, replace(a_registration(vcenter), **{field: "a\x7fb\n"}), check=False)  # type: ignore[arg-type]


def test_a_thumbprint_is_taken_in_every_usual_form() -> None:
    normal = ":".join(["AB"] * 32)
    for text in (normal, normal.lower(), "ab" * 32, f"sha256 Fingerprint={normal}"):
        assert normal_thumbprint(text) == normal
    with pytest.raises(BadInput, match="no SHA-256 thumbprint") as refused:
        normal_thumbprint(":".join(["AB"] * 20))
    assert "SHA-1" in refused.value.because


def test_a_removed_source_takes_its_own_password_along_and_no_other(config: Path, vcenter: AVcenter) -> None:
    running = load_followed_config(config)
    register(config, a_registration(vcenter), check=False)
    assert [path.name for path in unregister(config, "lab")] == ["lab.toml", "lab.password"]
    assert files(config) == {}
    register(config, a_registration(vcenter, None), check=False)
    assert [path.name for path in unregister(config, "lab")] == ["lab.toml"]
    assert vcenter.config.password_file.exists()
    with pytest.raises(ConfigurationError, match="no source is called 'lab'"):
        running.source("lab")


def test_a_source_that_was_registered_by_hand_is_removed_by_hand(config: Path) -> None:
    with pytest.raises(Refused, match="by-hand is not removed") as refused:
        unregister(config, "by-hand")
    assert "[sources.by-hand]" in refused.value.do
    with pytest.raises(BadInput, match="no source is called 'moon'"):
        unregister(config, "moon")
