"""Where it would go. The cloud's own answers are judged: what a migration would be refused for, blocks."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from xms.orders.preflight import Subject, TargetLook
from xms.preflight.rule import BLOCK, NOTE, Found, Rule, refusal, rule


def looked_at(subject: Subject, what: str) -> TargetLook | None:
    """What that look came to; None where nobody asked for it."""
    looks = subject.target.looks if subject.target else ()
    return next((look for look in looks if look.what == what), None)


def not_checked(options: str) -> Found:
    """A look that nobody asked for."""
    return Found(f"not checked: {options} not given", NOTE, do="", not_given=options)


def judged(subject: Subject, what: str, options: str) -> Found | None:
    """What a look at the target came to; `options` are those that ask for it."""
    look = looked_at(subject, what)
    if look is None:
        return not_checked(options)
    if look.skipped:
        return Found(look.skipped, NOTE, do="")
    return refusal(look.trouble) if look.trouble else None


@rule(
    "target.project",
    BLOCK,
    NOTE,
    finds="no such project, or the worker's account has no role in it",
    do="correct --target-project, or give the account of the worker's clouds.yaml a role there",
)
def project(subject: Subject) -> Found | None:
    """Everything is made in the project."""
    found = judged(subject, "project", "--target-project")
    # What a refused log-in says of credentials would mislead: those in question are for this project alone.
    return replace(found, do=None) if found and found.kind else found


@rule(
    "target.flavor",
    BLOCK,
    NOTE,
    finds="no such flavor, or one with fewer vCPUs or less memory than the VM",
    do="take a flavor that matches or exceeds the VM",
)
def flavor(subject: Subject) -> Found | None:
    """The instance must be no smaller than the VM."""
    return judged(subject, "flavor", "--flavor")


@rule(
    "target.volume-type",
    BLOCK,
    NOTE,
    finds="no such volume type, one with multiattach, or one without volumes in the zone",
    do="take one of those that are there",
)
def volume_type(subject: Subject) -> Found | None:
    """Every volume is of this type."""
    return judged(subject, "volume type", "--volume-type")


@rule(
    "target.encryption",
    BLOCK,
    NOTE,
    finds="a volume type whose volumes Cinder encrypts, while workers attach by Cinder; as a note: not known",
    do="take a type that is not encrypted, or let workers attach by Nova (target.attach)",
)
def encryption(subject: Subject) -> Found | None:
    """A worker that attaches by Cinder has no key. Without a volume type, that rule says that nothing was looked at."""
    if looked_at(subject, "encryption") is None:
        return None
    return judged(subject, "encryption", "--volume-type")


@rule(
    "target.instance",
    BLOCK,
    finds="an instance name that Nova refuses, a key pair or user data that is not there, or Secure Boot required of a "
    "guest that boots by BIOS",
    do="correct the option, or put what it names there",
)
def instance(subject: Subject) -> Found | None:
    """None of these is needed, so that what was not given is nothing to be said of."""
    if looked_at(subject, "instance") is None:
        return None
    return judged(subject, "instance", "--instance-name")


@rule("target.availability-zone", BLOCK, NOTE, finds="no such availability zone", do="take one of those that are there")
def availability_zone(subject: Subject) -> Found | None:
    """None is needed: the cloud chooses. So a zone that was not given is only noted where nothing of the target was."""
    if subject.target and looked_at(subject, "availability zone") is None:
        return None
    return judged(subject, "availability zone", "--availability-zone")


@rule(
    "target.network",
    BLOCK,
    NOTE,
    finds="no such network, or no such subnet in it",
    do="take one of those that are there",
)
def network(subject: Subject) -> Found | None:
    """Every network that is mapped to."""
    return judged(subject, "networks", "--network-map")


@rule(
    "target.quota",
    BLOCK,
    NOTE,
    finds="the project's quota covers not all of the volumes, gigabytes, vCPUs, memory, instance and ports of this VM "
    "(each VM is reckoned alone)",
    do="have the quota raised, or free some of it",
)
def quota(subject: Subject) -> Found | None:
    """Nothing of a migration is made where not all of it can be."""
    needed = {"project": "--target-project", "flavor": "--flavor"}
    missing = [option for what, option in needed.items() if looked_at(subject, what) is None]
    return judged(subject, "quota", " and ".join(missing))


RULES: Final[tuple[Rule, ...]] = (
    project,
    flavor,
    volume_type,
    encryption,
    instance,
    availability_zone,
    network,
    quota,
)
