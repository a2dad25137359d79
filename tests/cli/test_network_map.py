"""What operators type for --network-map."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.network_map import parse_network_map
from xms.errors import BadInput
from xms.models import NetworkMapping


def test_a_network_map_names_source_network_and_subnet() -> None:
    first, second = parse_network_map(["VM Network=internal-net", "Backup LAN = backup/10.20.0.0"])
    assert (first.source, first.network, first.subnet) == ("VM Network", "internal-net", None)
    assert (second.source, second.network, second.subnet) == ("Backup LAN", "backup", "10.20.0.0")


def test_a_source_network_may_have_an_equals_sign_and_a_slash_in_its_name() -> None:
    (mapping,) = parse_network_map(["dvs=7/VM Network=internal-net"])
    assert (mapping.source, mapping.network) == ("dvs=7/VM Network", "internal-net")


@pytest.mark.parametrize("text", ["", "VM Network", "=net", "VM Network=", "VM Network=/subnet", "VM Network=net/"])
def test_what_is_no_mapping_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_network_map([text])
    assert "'VM Network=internal-net'" in refused.value.do


def test_a_source_network_is_mapped_once() -> None:
    with pytest.raises(BadInput, match="twice"):
        parse_network_map(["VM Network=one", "VM Network=two"])


def test_without_options_the_mac_is_kept_and_neutron_chooses_the_rest() -> None:
    (mapping,) = parse_network_map(["VM Network=internal-net"])
    assert mapping == NetworkMapping(source="VM Network", network="internal-net")
    assert (mapping.mac, mapping.fixed_ips, mapping.security_groups, mapping.port_security) == ("keep", (), None, None)


def test_options_follow_the_target_after_commas() -> None:
    (mapping,) = parse_network_map(
        ["VM Network=internal-net/subnet, mac=new, ip=keep, security-groups=web:db, port-security=on"]
    )
    assert mapping == NetworkMapping(
        source="VM Network",
        network="internal-net",
        subnet="subnet",
        mac="new",
        fixed_ips="keep",
        security_groups=("web", "db"),
        port_security=True,
    )


def test_addresses_of_both_versions_are_joined_by_plus() -> None:
    (mapping,) = parse_network_map(["LAN=net,ip=10.20.0.15+2001:DB8:0:0::15"])
    assert mapping.fixed_ips == ("10.20.0.15", "2001:db8::15")


def test_a_port_may_have_no_group_and_no_filter() -> None:
    (mapping,) = parse_network_map(["LAN=net,security-groups=none,port-security=off"])
    assert (mapping.security_groups, mapping.port_security) == ((), False)


def test_a_source_network_may_have_a_comma_in_its_name() -> None:
    (plain, with_option) = parse_network_map(["Prod, LAN=net", "Prod, DMZ=net,mac=new"])
    assert (plain.source, with_option.source, with_option.mac) == ("Prod, LAN", "Prod, DMZ", "new")


@pytest.mark.parametrize(
    ("text", "what", "because"),
    [
        ("LAN=net,macc=new", "the unknown option 'macc=new'", "mac, ip, security-groups, port-security"),
        ("LAN=net,a", "the unknown option 'a'", "mac, ip"),
        ("LAN=net,", "the unknown option ''", "mac, ip"),
        ("LAN=net,mac=new,mac=keep", "gives mac twice", "'new' and 'keep'"),
        ("LAN=net,mac", "mac cannot be ''", "keep or new"),
        ("LAN=net,mac=00:50:56:00:00:01", "mac cannot be '00:50:56:00:00:01'", "keep or new"),
        ("LAN=net,ip=10.1", "ip cannot be '10.1'", "10.20.0.15+2001:db8::15"),
        ("LAN=net,ip=10.1.0.5/24", "ip cannot be '10.1.0.5/24'", "keep, or addresses"),
        ("LAN=net,ip=keep+10.1.0.5", "ip cannot be 'keep'", "keep, or addresses"),
        ("LAN=net,ip=10.1.0.5+10.1.0.5", "gives the address 10.1.0.5 twice", ""),
        ("LAN=net,security-groups=web:", "security-groups cannot be 'web:'", "or none"),
        ("LAN=net,security-groups=web:web", "security-groups cannot be 'web:web'", "joined by :"),
        ("LAN=net,port-security=false", "port-security cannot be 'false'", "on or off"),
        ("LAN=net,port-security=off,security-groups=web", "security groups without port security", "port security is"),
    ],
)
def test_a_refusal_names_the_option_and_what_it_may_be(text: str, what: str, because: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_network_map([text])
    assert what in refused.value.what
    assert because in refused.value.because


@given(st.text(alphabet="aN1=,/+:. ", max_size=16))
def test_any_text_is_a_mapping_or_refused_and_never_anything_else(text: str) -> None:
    with suppress(BadInput):
        (mapping,) = parse_network_map([text])
        assert mapping.source
        assert mapping.network
