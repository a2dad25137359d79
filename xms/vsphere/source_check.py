"""Looking at a source before anything is migrated from it: what it is, what is allowed there, which hosts serve it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from xms.errors import ConfigurationError
from xms.orders.source import SourceHost, SourceReport
from xms.vsphere.bindings import vim
from xms.vsphere.privileges import missing_privileges
from xms.vsphere.properties import Properties, read_inventory
from xms.vsphere.session import VsphereSession

Found = list[tuple[Any, Properties]]


def look_at(session: VsphereSession) -> SourceReport:
    """Product, clock, missing privileges and hosts. Whether the hosts can be reached is for the data workers to see.

    Raises:
        ConfigurationError: the source has no datacenter of the configured name.
        XmsError: as of every call.
    """
    begin = time.monotonic()
    clock: datetime = session.service.CurrentTime()
    milliseconds = round((time.monotonic() - begin) * 1000)
    ahead = (clock.astimezone(UTC) - datetime.now(UTC)).total_seconds()
    found = read_inventory(
        session,
        {
            vim.Datacenter: ("name", "parent"),
            vim.Folder: ("name", "parent"),
            vim.ComputeResource: ("name", "parent"),
            vim.HostSystem: ("name", "parent", "runtime.connectionState"),
        },
    )
    about = session.content.about
    return SourceReport(
        source=session.name,
        product=about.name,
        version=about.version,
        build=about.build,
        api=about.apiType,
        api_version=about.apiVersion,
        milliseconds=milliseconds,
        time=clock,
        clock_ahead_seconds=round(ahead, 1),
        missing_privileges=missing_privileges(session, _places(session, found)),
        hosts=tuple(_hosts(session, found)),
    )


def see_datacenter(session: VsphereSession) -> None:
    """See that the source has the configured datacenter.

    Raises:
        ConfigurationError: it has none of that name; the text lists those that it has.
    """
    _places(session, read_inventory(session, {vim.Datacenter: ("name", "parent")}))


def _places(session: VsphereSession, found: Found) -> dict[str, Any]:
    """Where privileges are looked for: the configured datacenter; else every one, and the root folder without any."""
    wanted = session.config.datacenter
    datacenters = {_name(properties): thing for thing, properties in found if isinstance(thing, vim.Datacenter)}
    if wanted is None:
        return datacenters or {"the root folder": session.content.rootFolder}
    if wanted not in datacenters:
        raise ConfigurationError(
            f"{session.name} has no datacenter called '{wanted}'",
            because=f"it has {', '.join(sorted(datacenters)) or 'none that the account sees'}",
            do="correct the source's datacenter in the worker's configuration",
        )
    return {wanted: datacenters[wanted]}


def _hosts(session: VsphereSession, found: Found) -> list[SourceHost]:
    by_id = {thing._moId: (thing, properties) for thing, properties in found}  # noqa: SLF001 - pyVmomi's name
    wanted = session.config.datacenter
    hosts = [
        SourceHost(
            name=str(properties.get("name") or thing._moId),  # noqa: SLF001 - the same
            connection=str(properties.get("runtime.connectionState", "unknown")),
        )
        for thing, properties in found
        if isinstance(thing, vim.HostSystem) and (wanted is None or wanted == _datacenter_of(thing, by_id))
    ]
    return sorted(hosts, key=lambda host: host.name)


def _datacenter_of(thing: Any, by_id: dict[str, tuple[Any, Properties]]) -> str:  # noqa: ANN401 - pyVmomi's
    while thing is not None and thing._moId in by_id:  # noqa: SLF001 - pyVmomi's name
        _, properties = by_id[thing._moId]  # noqa: SLF001 - the same
        if isinstance(thing, vim.Datacenter):
            return _name(properties)
        thing = properties.get("parent")
    return ""


def _name(properties: Properties) -> str:
    """A name as people typed it: vSphere escapes slashes, backslashes and percent signs in it."""
    return unquote(properties.get("name", ""))
