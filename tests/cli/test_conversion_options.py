"""What operators type for the conversion of a guest."""

from __future__ import annotations

import pytest

from cli.conversion_options import parse_conversion_options
from xms.cutover import ConversionOptions, StaticAddress
from xms.errors import BadInput

MAC = "00:50:56:9a:11:02"


def test_without_options_the_guest_is_converted_as_ever() -> None:
    assert parse_conversion_options() == ConversionOptions()


def test_keys_are_names_of_files_and_each_counts_once() -> None:
    assert parse_conversion_options(luks_key=["db.key", " data.key ", "db.key"]).luks_keys == ("db.key", "data.key")


@pytest.mark.parametrize("name", ["", "../secret", "/etc/passwd", ".hidden", "a b", "all:key:word"])
def test_a_key_that_is_no_plain_file_name_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="LUKS key") as refused:
        parse_conversion_options(luks_key=[name])
    assert "conversion.keys_dir" in refused.value.because


def test_a_static_address_has_nic_prefix_gateway_and_name_servers() -> None:
    options = parse_conversion_options(
        static_ip=["00-50-56-9A-11-02 = 10.20.0.15/24, gw=10.20.0.1, dns=10.20.0.2+10.20.0.3"]
    )
    assert options.static_addresses == (
        StaticAddress(
            mac=MAC,
            address="10.20.0.15",
            prefix_length=24,
            gateway="10.20.0.1",
            nameservers=("10.20.0.2", "10.20.0.3"),
        ),
    )


def test_a_static_address_may_be_of_version_6() -> None:
    (static,) = parse_conversion_options(static_ip=[f"{MAC}=2001:db8::15/64,gw=2001:db8::1"]).static_addresses
    assert (static.address, static.prefix_length, static.gateway) == ("2001:db8::15", 64, "2001:db8::1")


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("", "'' is no address"),
        (MAC, "'' is no address"),
        (f"{MAC}=10.20.0.15", "lacks the NIC or the prefix length"),
        ("10.20.0.15/24", "'' is no address"),
        (f"{MAC}=10.20.0.15/33", "'10.20.0.15/33' is no address"),
        (f"{MAC}=10.20.0.15/24,gateway=10.20.0.1", "'gateway=10.20.0.1' cannot be used"),
        (f"{MAC}=10.20.0.15/24,gw=", "'gw=' cannot be used"),
        (f"{MAC}=10.20.0.15/24,gw=a.b", "'a.b' is no address"),
        (f"{MAC}=10.20.0.15/24,gw=10.20.0.1,gw=10.20.0.2", "'gw=10.20.0.2' cannot be used"),
        (f"{MAC}=10.20.0.15/24,gw=10.20.0.1,dns=10.20.0.2+", "'' is no address"),
    ],
)
def test_what_is_no_static_address_is_refused_with_an_example(text: str, because: str) -> None:
    with pytest.raises(BadInput, match="--static-ip") as refused:
        parse_conversion_options(static_ip=[text])
    assert because in refused.value.because
    assert f"{MAC}=10.20.0.15/24" in refused.value.because


@pytest.mark.parametrize(
    ("texts", "because"),
    [
        ([f"{MAC}=10.20.0.15/24"], "no gateway"),
        ([f"{MAC}=10.20.0.15/24,gw=2001:db8::1"], "the other version"),
        ([f"{MAC}=10.20.0.15/0,gw=10.20.0.1"], "1 to 32"),
        (["eth0=10.20.0.15/24,gw=10.20.0.1"], "six bytes"),
        ([f"{MAC}=10.20.0.15/24,gw=10.20.0.1", f"{MAC}=10.20.0.16/24,gw=10.20.0.1"], "one a NIC"),
    ],
)
def test_what_virt_v2v_cannot_be_told_is_refused(texts: list[str], because: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_conversion_options(static_ip=texts)
    assert because in refused.value.because


def test_a_conversion_that_is_skipped_takes_no_other_option() -> None:
    assert parse_conversion_options(skip_conversion=True) == ConversionOptions(skip=True)
    with pytest.raises(BadInput, match="skipped"):
        parse_conversion_options(skip_conversion=True, luks_key=["db.key"])
