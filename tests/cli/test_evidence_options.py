"""What operators type for --evidence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.evidence_options import parse_evidence
from xms.cutover import Evidence
from xms.errors import BadInput


@pytest.mark.parametrize(
    ("text", "evidence"),
    [
        ("console=login:", Evidence(kind="console", pattern="login:")),
        ("console=SEQ [0-9]{1,3}, address=x", Evidence(kind="console", pattern="SEQ [0-9]{1,3}, address=x")),
        ("tcp=22", Evidence(kind="tcp", port=22)),
        (" TCP = 22 , address = 2001:db8::15 ", Evidence(kind="tcp", port=22, address="2001:db8::15")),
        ("ping", Evidence(kind="ping")),
        ("ping,address=10.20.0.15", Evidence(kind="ping", address="10.20.0.15")),
        ("command=db-answers", Evidence(kind="command", command="db-answers")),
    ],
)
def test_each_kind_has_its_form(text: str, evidence: Evidence) -> None:
    assert parse_evidence([text]) == (evidence,)


def test_several_are_taken_in_their_order() -> None:
    assert [one.kind for one in parse_evidence(["ping", "tcp=22", "tcp=443", "console=login:"])] == [
        "ping",
        "tcp",
        "tcp",
        "console",
    ]
    assert parse_evidence([]) == ()


@pytest.mark.parametrize("text", ["", "console", "tcp", "tcp=", "ping=10.0.0.1", "ping=", "http=80", "agent=x", "22"])
def test_what_has_no_such_form_is_refused_with_all_forms(text: str) -> None:
    with pytest.raises(BadInput, match="is no evidence") as refused:
        parse_evidence([text])
    assert "console=REGEX, tcp=PORT, ping, command=NAME" in refused.value.because


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tcp=ssh", "has no port; because allowed: a number from 1 to 65535"),
        ("tcp=0", "has no port"),
        ("tcp=65536", "has no port"),
        ("tcp=22,adress=10.0.0.1", "the unknown option 'adress=10.0.0.1'"),
        ("tcp=22,address=", "the unknown option 'address='"),
        ("ping,address=10.0.0.1,address=10.0.0.2", "the unknown option 'address=10.0.0.2'"),
        ("ping,address=db-01", "is no address of a target"),
        ("command=a b", "is no name of a command"),
        ("command=ok,address=10.0.0.1", "has no address"),
        ("console=[", "is no regular expression"),
        ("console=", "every line matches it"),
        ("agent", "agent cannot be had"),
    ],
)
def test_a_wrong_value_is_refused_with_the_option_and_what_is_allowed(text: str, words: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_evidence([text], "--sign")
    assert f"--sign '{text}'" in refused.value.what
    assert words in str(refused.value)


def test_the_same_twice_is_a_mistake() -> None:
    with pytest.raises(BadInput, match="'tcp=022' is given twice"):
        parse_evidence(["tcp=22", "tcp=022"])


@given(st.text())
def test_nothing_that_somebody_types_breaks_it(text: str) -> None:
    refusals = []
    try:
        found = parse_evidence([text])
    except BadInput as refused:
        found, refusals = (), [refused.what]
    assert len(found) + len(refusals) == 1
    assert all("--evidence" in refusal for refusal in refusals)
