"""Which instance of the cloud this worker is: by the configuration, the metadata service, or the machine's own id."""

from __future__ import annotations

import functools
import json
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Final

from xms.errors import ConfigurationError, TargetNotFound
from xms.openstack.cloud import Cloud
from xms.openstack.faults import translated

if TYPE_CHECKING:
    from openstack.compute.v2.server import Server

METADATA_URL: Final = "http://169.254.169.254/openstack/latest/meta_data.json"
METADATA_SECONDS: Final = 3.0
PRODUCT_UUID: Final = Path("/sys/class/dmi/id/product_uuid")
"""Nova gives it to the guest; root alone may read it."""
DO: Final = "set worker.instance to the id of the instance that this worker is; or use attach = cinder"


def own_instance(cloud: Cloud, configured: str | None) -> Server:
    """The instance that this worker is, in the target project.

    Raises:
        ConfigurationError: it is none, or one of another project: Nova attaches only what is in the same project.
    """
    found = configured or by_metadata() or by_machine()
    if found is None:
        raise ConfigurationError(
            "this worker cannot attach volumes by Nova",
            because=f"it is no instance: {METADATA_URL} does not answer, and {PRODUCT_UUID} has no id",
            do=DO,
        )
    try:
        with translated(f"instance {found} was not read"):
            return cloud.compute.get_server(found)
    except TargetNotFound:
        raise ConfigurationError(
            "this worker cannot attach volumes by Nova",
            because=f"instance {found} is not in the target project (cloud '{cloud.name}', project {cloud.project_id})",
            do=f"run a worker inside the target project. {DO[0].upper()}{DO[1:]}",
        ) from None


@functools.cache
def by_metadata(url: str = METADATA_URL) -> str | None:
    """What the metadata service says; None without one. Asked once a process: it does not change while it runs."""
    # The service is reached at a link-local address, and through no proxy.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=METADATA_SECONDS) as answer:
            return _uuid(str(json.loads(answer.read()).get("uuid", "")))
    except (OSError, ValueError, AttributeError):
        return None


def by_machine(product_uuid: Path = PRODUCT_UUID) -> str | None:
    """What the virtual hardware says; None where it says nothing. A physical machine has an id that no instance has."""
    try:
        return _uuid(product_uuid.read_text(encoding="ascii").strip())
    except (OSError, UnicodeDecodeError):
        return None


def _uuid(text: str) -> str | None:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return None
