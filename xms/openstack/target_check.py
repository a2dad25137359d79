"""What a target is, and whether migrations could go to it. Nothing is changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from xms.config import Config, TargetConfig
from xms.errors import XmsError
from xms.openstack import login
from xms.openstack.cloud import Cloud
from xms.openstack.faults import translated
from xms.orders.target_check import CloudService, QuotaLeft, TargetList, TargetReport, TargetSummary
from xms.pulse import Pulse, no_pulse

if TYPE_CHECKING:
    from openstack.proxy import Proxy

UNLIMITED: Final = -1


def targets(config: Config) -> TargetList:
    """The targets of a configuration, the default one first; none of them is asked anything."""
    found = [("", config.target), *sorted(config.targets.items())]
    return TargetList(targets=tuple(_summary(name, target) for name, target in found), worker=config.worker.name)


def _summary(name: str, target: TargetConfig) -> TargetSummary:
    return TargetSummary(
        name=name,
        cloud=target.cloud,
        region=target.region or "",
        attach=target.attach,
        clouds_file=str(target.clouds_file or ""),
    )


def look_at(cloud: Cloud, name: str, config: TargetConfig, pulse: Pulse = no_pulse) -> TargetReport:
    """Look at account, services and quotas. A service that cannot be used is told in the report.

    Args:
        cloud: the connection to it.
        name: the target's name; empty: the default one.
        config: the target's.
        pulse: beats between two calls.
    """
    access = login.access(cloud.connection.session)
    auth_url = str(cloud.connection.config.config["auth"].get("auth_url", ""))
    services = []
    for what, proxy, ask in _services(cloud):
        pulse()
        services.append(_service(what, proxy, ask))
    usable = {service.name for service in services if not service.problem}
    return TargetReport(
        target=name,
        cloud=config.cloud,
        region=str(cloud.connection.config.region_name or ""),
        regions=tuple(login.regions(access)),
        project=access.project_name or "",
        project_id=cloud.project_id,
        user=access.username or "",
        roles=tuple(sorted(access.role_names or ())),
        attach=config.attach,
        encrypted=urlsplit(auth_url).scheme == "https",
        services=tuple(services),
        quotas=tuple(_quotas(cloud, usable, pulse)),
    )


def _services(cloud: Cloud) -> tuple[tuple[str, Proxy, Callable[[], object]], ...]:
    """What is asked of each service, which is something that migrations ask, too."""
    return (
        ("Cinder", cloud.connection.block_storage, lambda: list(cloud.volumes.types())),
        ("Nova", cloud.connection.compute, lambda: list(cloud.compute.flavors(details=False))),
        ("Neutron", cloud.connection.network, lambda: list(cloud.network.networks(limit=1, paginated=False))),
    )


def _service(name: str, proxy: Proxy, ask: Callable[[], object]) -> CloudService:
    try:
        with translated(f"{name} cannot be used"):
            found = proxy.get_endpoint_data()
            start = time.monotonic()
            ask()
    except XmsError as error:
        return CloudService(name=name, problem=error.because or error.what)
    return CloudService(
        name=name,
        endpoint=str(found.url) if found else "",
        version=_version(found.api_version) if found else "",
        microversion=_version(found.max_microversion) if found else "",
        milliseconds=round((time.monotonic() - start) * 1000),
    )


def _version(parts: tuple[float, ...] | None) -> str:
    return ".".join(map(str, parts or ()))


def _quotas(cloud: Cloud, usable: set[str], pulse: Pulse) -> Iterator[QuotaLeft]:
    with translated(f"the quotas of project {cloud.project_id} were not read"):
        if "Cinder" in usable:
            pulse()
            storage = cloud.volumes.get_limits().absolute
            yield _quota("volumes", storage.total_volumes_used, storage.max_total_volumes)
            yield _quota("gigabytes", storage.total_gigabytes_used, storage.max_total_volume_gigabytes)
        if "Nova" in usable:
            pulse()
            compute = cloud.compute.get_limits().absolute
            yield _quota("cores", compute.total_cores_used, compute.total_cores)
            yield _quota("ram (MiB)", compute.total_ram_used, compute.total_ram)
            yield _quota("instances", compute.instances_used, compute.instances)
        if "Neutron" in usable:
            pulse()
            ports: dict[str, Any] = cloud.network.get_quota(cloud.project_id, details=True).ports or {}
            yield _quota("ports", ports.get("used"), ports.get("limit"))


def _quota(name: str, used: int | None, limit: int | None) -> QuotaLeft:
    return QuotaLeft(name=name, used=used or 0, limit=None if limit in {None, UNLIMITED} else limit)
