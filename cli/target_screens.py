"""What a target looks like on a terminal: the list, and the report of a check."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from cli.layout import INDENT, TROUBLE_STYLE, columns
from cli.source_screens import line
from xms.orders.target_check import CloudService, TargetList, TargetReport
from xms.quantities import ABSENT

DEFAULT = "(default)"


def spoken(name: str) -> str:
    """A target in a sentence."""
    return f"target {name}" if name else "the default target"


def listing(found: TargetList) -> RenderableType:
    """Every target on a line."""
    table = columns("TARGET", "CLOUD", "REGION", "ATTACH", "CLOUDS.YAML")
    for target in found.targets:
        file = target.clouds_file or "standard places"
        table.add_row(target.name or DEFAULT, target.cloud, target.region or ABSENT, target.attach, file)
    return Group(table, Text(f"told by worker {found.worker}; each worker has its own configuration"))


def report(found: TargetReport) -> RenderableType:
    """What a check saw; what stands against a migration is in red."""
    others = [region for region in found.regions if region != found.region]
    region = f"{found.region}; the cloud has {', '.join(others)}, too" if others else found.region
    quotas = ", ".join(f"{'any' if quota.left is None else quota.left} {quota.name}" for quota in found.quotas)
    return Group(
        Text(f"{found.target or DEFAULT}: cloud {found.cloud}"),
        line("region", region or ABSENT),
        line("project", f"{found.project} ({found.project_id})"),
        line("account", f"{found.user}, with the roles {', '.join(found.roles) or 'none'}"),
        line("attach", found.attach),
        line("quota left", quotas or ABSENT),
        *(line("note", note, style="yellow") for note in found.notes),
        line("told by", f"worker {found.worker}"),
        Text(""),
        Padding(_services(found.services), INDENT, expand=False),
    )


def _services(services: tuple[CloudService, ...]) -> RenderableType:
    table = columns("SERVICE", "VERSION", "MICROVERSION", "ANSWER", "ENDPOINT")
    for service in services:
        if service.problem:
            row = (ABSENT, ABSENT, Text("unusable", style=TROUBLE_STYLE), Text(service.problem, style=TROUBLE_STYLE))
            table.add_row(service.name, *row)
            continue
        answer = f"{service.milliseconds} ms"
        table.add_row(service.name, service.version, service.microversion or ABSENT, answer, service.endpoint)
    return table
