"""What may be asked for as evidence of a boot, whoever asks."""

from __future__ import annotations

import pytest

from xms.cutover import Evidence, awaited_of
from xms.errors import BadInput
from xms.evidence import AT_MOST, described, last_lines, needs_address, plain, refuse_unusable

USABLE = (
    (Evidence(kind="console", pattern="login:"), "console 'login:'"),
    (Evidence(kind="tcp", port=22), "port 22"),
    (Evidence(kind="tcp", port=443, address="2001:db8::15"), "port 443 of 2001:db8::15"),
    (Evidence(kind="ping"), "ping"),
    (Evidence(kind="ping", address="10.20.0.15"), "ping of 10.20.0.15"),
    (Evidence(kind="command", command="db-answers"), "command db-answers"),
)


@pytest.mark.parametrize(("evidence", "words"), USABLE)
def test_what_can_be_awaited_passes_and_has_a_name(evidence: Evidence, words: str) -> None:
    refuse_unusable((evidence,))
    assert described(evidence) == words


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        (Evidence(kind="console"), "every line matches it"),
        (Evidence(kind="console", pattern=".*"), "every line matches it"),
        (Evidence(kind="console", pattern="["), "is no regular expression"),
        (Evidence(kind="console", pattern="x" * 501), "too long a pattern"),
        (Evidence(kind="console", pattern="login:", port=22), "has no port"),
        (Evidence(kind="tcp"), "tcp has no port"),
        (Evidence(kind="tcp", port=22, pattern="SSH"), "has no pattern"),
        (Evidence(kind="tcp", port=22, address="db-01"), "not a name"),
        (Evidence(kind="ping", address="127.0.0.1"), "the worker itself"),
        (Evidence(kind="ping", address="::1"), "the worker itself"),
        (Evidence(kind="ping", address="0.0.0.0"), "nobody in particular"),  # noqa: S104 - refused
        (Evidence(kind="ping", address="ff02::1"), "nobody in particular"),
        (Evidence(kind="ping", address="-f"), "no address of a target"),
        (Evidence(kind="command"), "is no name of a command"),
        (Evidence(kind="command", command="/bin/true"), "is no name of a command"),
        (Evidence(kind="command", command="true; rm -rf"), "is no name of a command"),
        (Evidence(kind="command", command="ok", address="10.0.0.1"), "has no address"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(evidence: Evidence, words: str) -> None:
    with pytest.raises(BadInput) as refused:
        refuse_unusable((evidence,))
    assert words in str(refused.value)


def test_the_guests_agent_is_refused_with_the_reason_and_what_to_take_instead() -> None:
    with pytest.raises(BadInput, match="agent cannot be had") as refused:
        refuse_unusable((Evidence(kind="agent"),))
    assert "Nova has no call" in refused.value.because
    assert "command=NAME" in refused.value.do


def test_no_order_asks_for_any_number_of_signs() -> None:
    signs = tuple(Evidence(kind="tcp", port=port) for port in range(1, AT_MOST + 2))
    refuse_unusable(signs[:AT_MOST])
    with pytest.raises(BadInput, match="too much evidence"):
        refuse_unusable(signs)


def test_the_older_way_of_asking_for_the_console_is_one_sign_more() -> None:
    login, ssh = Evidence(kind="console", pattern="login:"), Evidence(kind="tcp", port=22)
    assert awaited_of((), None) == ()
    assert awaited_of((), "login:") == (login,)
    assert awaited_of((ssh, login, ssh), "login:") == (login, ssh)


def test_only_a_look_at_the_targets_own_addresses_needs_them() -> None:
    assert [evidence.kind for evidence, _ in USABLE if needs_address(evidence)] == ["tcp", "ping"]


def test_what_a_guest_prints_is_told_as_a_terminal_shows_it() -> None:
    systemd = "[\x1b[0;32m  OK  \x1b[0m] Reached target \x1b[0;1;39mMulti-User System\x1b[0m.\r"
    assert plain(systemd) == "[  OK  ] Reached target Multi-User System."
    assert plain("\x1b[2J\x1bcbell\a \x1b") == "bell"
    assert last_lines(f"one\n\ntwo\n{'x' * 900}\n\x1b[0m\n", 2) == ["two", "x" * 200]
    assert last_lines("", 2) == []
