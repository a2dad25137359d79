"""All rules over one subject: the verdict."""

from __future__ import annotations

from typing import Final

from xms.orders.preflight import Finding, Severity, Subject, Verdict, VmPreflight
from xms.preflight import compute, guest, network, source, storage, target
from xms.preflight.rule import Rule

RULES: Final[tuple[Rule, ...]] = (
    *compute.RULES,
    *storage.RULES,
    *network.RULES,
    *guest.RULES,
    *source.RULES,
    *target.RULES,
)
"""Every rule, in the order in which findings of the same severity are told."""

WORST_FIRST: Final = (Severity.BLOCK, Severity.WARN, Severity.NOTE)


def judge(subject: Subject) -> VmPreflight:
    """Ask every rule about one VM."""
    found = [finding for rule in RULES if (finding := rule.judge(subject)) is not None]
    return VmPreflight(
        vm=subject.vm,
        verdict=_verdict(found),
        findings=tuple(sorted(found, key=lambda finding: WORST_FIRST.index(finding.severity))),
        target=subject.target.checked if subject.target else None,
    )


def _verdict(findings: list[Finding]) -> Verdict:
    severities = {finding.severity for finding in findings}
    if Severity.BLOCK in severities:
        return Verdict.BLOCK
    return Verdict.WARN if Severity.WARN in severities else Verdict.PASS
