"""The documents that tell a client which versions each service has: not authenticated, and what the SDK reads first."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Request

from lab.cloud.call import MICROVERSIONS, version_text
from lab.cloud.refusals import Json

router = APIRouter()


def _version(identifier: str, status: str, href: str, service: str = "") -> Json:
    document: Json = {"id": identifier, "status": status, "links": [{"rel": "self", "href": href}]}
    if service in MICROVERSIONS:
        lowest, highest = MICROVERSIONS[service]
        document |= {"version": version_text(highest), "min_version": version_text(lowest)}
    return document


def identity_version(base: str) -> Json:
    """Keystone's."""
    return _version("v3.14", "stable", f"{base}/identity/v3/")


def volume_version(base: str) -> Json:
    """Cinder's."""
    return _version("v3.0", "CURRENT", f"{base}/volume/v3/", "volume")


def compute_version(base: str) -> Json:
    """Nova's."""
    return _version("v2.1", "CURRENT", f"{base}/compute/v2.1/", "compute")


def network_version(base: str) -> Json:
    """Neutron's."""
    return _version("v2.0", "CURRENT", f"{base}/network/v2.0/")


def image_version(base: str) -> Json:
    """Glance's."""
    return _version("v2.15", "CURRENT", f"{base}/image/v2/")


def _document(path: str, content: Callable[[str], Json], status: int = 200) -> None:
    async def show(request: Request) -> Json:
        return content(str(request.base_url).rstrip("/"))

    for spelling in (path, f"{path}/"):
        router.add_api_route(spelling, show, methods=["GET"], status_code=status)


_document("/identity", lambda base: {"versions": {"values": [identity_version(base)]}}, 300)
_document("/identity/v3", lambda base: {"version": identity_version(base)})
_document("/volume", lambda base: {"versions": [volume_version(base)]}, 300)
_document("/volume/v3", lambda base: {"versions": [volume_version(base)]})
_document("/compute", lambda base: {"versions": [compute_version(base)]})
_document("/compute/v2.1", lambda base: {"version": compute_version(base)})
_document("/network", lambda base: {"versions": [network_version(base)]})
_document("/image", lambda base: {"versions": [image_version(base)]}, 300)
