"""The walls between the rooms, as docs/architecture.md draws them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from tests.docs.pages import ROOT

IMPORT: Final = re.compile(r"^\s*(?:from|import) ([\w.]+)", re.MULTILINE)

AGREED: Final = "workflows.names"
"""The names that workflows, workers and clients have to agree on."""

WALLS: Final = (
    ("xms", ("xms/client",), ("temporalio", "activities", "workflows", "cli", "lab", "bench")),
    ("xms/client", (), ("activities", "cli", "lab", "bench")),
    ("xms/engine", (), ("xms.openstack", "xms.vsphere", "xms.conversion", "xms.transport")),
    ("xms/evidence.py", (), ("xms.config", "xms.programs", "socket", "openstack", "xms.openstack")),
    ("xms/signs.py", (), ("openstack", "xms.openstack", "xms.vsphere")),
    ("xms/vsphere", (), ("xms.openstack", "xms.conversion", "openstack")),
    ("xms/transport", (), ("xms.openstack", "xms.conversion", "openstack")),
    ("xms/openstack", (), ("xms.vsphere", "xms.transport", "pyVmomi")),
    ("xms/conversion", (), ("xms.vsphere", "xms.transport", "pyVmomi")),
    ("xms/preflight", (), ("xms.vsphere", "xms.openstack", "xms.config", "pyVmomi", "openstack")),
    ("xms/report", (), ("xms.vsphere", "xms.openstack", "xms.config", "pyVmomi", "openstack", "rich")),
    ("workflows", (), ("pyVmomi", "openstack", "nbd", "subprocess", "time", "os", "cli", "lab", "bench")),
    ("activities", (), ("workflows", "cli", "lab", "bench")),
    (
        "cli",
        ("cli/lab.py",),
        ("xms.vsphere", "xms.openstack", "xms.transport", "xms.config", "activities", "lab", "bench"),
    ),
    ("worker.py", (), ("lab", "cli", "bench")),
    ("bench", (), ("temporalio", "activities", "workflows", "cli", "lab")),
)


def files(place: str, without: tuple[str, ...]) -> list[Path]:
    path = ROOT / place
    found = [path] if path.is_file() else sorted(path.rglob("*.py"))
    return [file for file in found if not str(file.relative_to(ROOT)).startswith(without or ("-",))]


@pytest.mark.parametrize(("place", "without", "strangers"), WALLS, ids=[wall[0] for wall in WALLS])
def test_a_room_imports_nothing_that_it_must_not_know(
    place: str, without: tuple[str, ...], strangers: tuple[str, ...]
) -> None:
    looked_at = files(place, without)
    assert looked_at
    seen = [
        f"{file.relative_to(ROOT)}: {module}"
        for file in looked_at
        for module in IMPORT.findall(file.read_text())
        for stranger in strangers
        if module != AGREED and (module == stranger or module.startswith(f"{stranger}."))
    ]
    assert seen == []
