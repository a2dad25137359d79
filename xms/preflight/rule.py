"""What a rule is: a small function with an id, the severities that it may give, and words for the documentation.

A rule is a pure function of its subject. It answers None where there is nothing to say. Where it cannot tell, it says
so: `unknown` for what should have been there, a note for what nobody asked for or nobody can know. It never passes
silently for want of facts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from xms.models import Trouble
from xms.orders.preflight import Finding, Severity, Subject

BLOCK: Final = Severity.BLOCK
WARN: Final = Severity.WARN
NOTE: Final = Severity.NOTE


@dataclass(frozen=True)
class Found:
    """What a rule has to say.

    Attributes:
        text: what is so, with names and numbers.
        severity: None for the rule's first.
        do: None for the rule's own remediation.
        because: the outside system's own words, where there are some.
        kind: class in xms.errors that a migration would end with, where there is one.
        not_given: options that would have it looked at, where they were not given.
    """

    text: str
    severity: Severity | None = None
    do: str | None = None
    because: str = ""
    kind: str = ""
    not_given: str = ""


Look: TypeAlias = Callable[[Subject], Found | None]


@dataclass(frozen=True)
class Rule:
    """A rule.

    Attributes:
        id: category and name: compute.hardware-version.
        severities: what it may give; the first unless it says otherwise.
        finds: what it looks for, for the documentation.
        do: what to do about it.
    """

    id: str
    severities: tuple[Severity, ...]
    finds: str
    do: str
    look: Look

    def judge(self, subject: Subject) -> Finding | None:
        """Look at one subject."""
        found = self.look(subject)
        if found is None:
            return None
        severity = found.severity or self.severities[0]
        if severity not in self.severities:
            raise AssertionError(f"{self.id} gave {severity}, which it does not declare")
        return Finding(
            rule=self.id,
            severity=severity,
            found=found.text,
            because=found.because,
            do=self.do if found.do is None else found.do,
            kind=found.kind,
            not_given=found.not_given,
        )


def rule(name: str, *severities: Severity, finds: str, do: str) -> Callable[[Look], Rule]:
    """Make a rule of a function; see `Rule`."""

    def made(look: Look) -> Rule:
        return Rule(id=name, severities=severities, finds=finds, do=do, look=look)

    return made


def unknown(what: str) -> Found:
    """The source did not tell what has to be known: a warning, since it may be anything."""
    return Found(
        f"{what} could not be looked at",
        WARN,
        do="see that the source's account may read it, and look again; else look at it in vSphere yourself",
    )


def refusal(trouble: Trouble) -> Found:
    """What a look at the target was answered, in its own words."""
    return Found(trouble.what, because=trouble.because, do=trouble.do or None, kind=trouble.kind)
