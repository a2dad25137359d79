from __future__ import annotations

from tests.docs.pages import ROOT, rows
from xms.vsphere.privileges import NEEDED


def test_every_privilege_is_documented_with_its_reason() -> None:
    documented = {
        privilege: cells[0] for privilege, cells in rows(ROOT / "docs" / "operating.md", "## Sources").items()
    }
    assert documented == NEEDED
