"""No call of the product is without a case, and none needs an administrator."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.cloud_contract.calls import PRODUCT, ROOT, calls_in, calls_of_the_cases, calls_of_the_product, service_call

FOR_ADMINISTRATORS = frozenset(
    {
        "block_storage.force_detach_volume",
        "block_storage.reset_volume_status",
        "block_storage.reset_volume_bootable_status",
        "block_storage.terminate_volume_attachment",
        "block_storage.update_quota_set",
        "block_storage.revert_quota_set",
        "block_storage.services",
        "block_storage.create_type",
        "block_storage.update_type",
        "block_storage.migrate_volume",
        "block_storage.manage_volume",
        "block_storage.unmanage_volume",
        "compute.services",
        "compute.hypervisors",
        "compute.create_flavor",
        "compute.delete_flavor",
        "compute.reset_server_state",
        "compute.update_quota_set",
        "compute.revert_quota_set",
        "compute.migrate_server",
        "compute.live_migrate_server",
        "compute.evacuate_server",
        "compute.force_complete_server_migration",
        "compute.inject_network_info",
        "compute.get_server_diagnostics",
        "network.update_quota",
        "network.delete_quota",
        "network.agents",
    }
)
"""Calls that the policies of Cinder, Nova and Neutron keep for administrators."""

ADMIN_WISHES = frozenset({"all_projects", "all_tenants", "force", "host", "host_id", "binding_host_id", "provider"})
"""Arguments that make an ordinary call one for administrators."""


def test_every_call_of_the_product_is_played_on_both_clouds() -> None:
    played = calls_of_the_cases()
    missing = {call: sorted(where) for call, where in calls_of_the_product().items() if call not in played}
    assert not missing, "add a case of its normal use to tests/cloud_contract"


def test_the_products_calls_are_found_in_its_code(tmp_path: Path) -> None:
    found = calls_of_the_product()
    assert len(found) >= 30
    assert "xms/openstack/servers.py" in found["compute.create_server"]
    module = tmp_path / "module.py"
    module.write_text(
        "cloud.volumes.get_volume('1')\nself._cloud.compute.servers()\nlook = partial(reading.cloud.network.ports)\n"
        "order.network.name\ncloud.name\n"
    )
    assert sorted(calls_in(module)) == ["block_storage.get_volume", "compute.servers", "network.ports"]


def test_no_call_of_the_product_is_one_for_administrators() -> None:
    assert not FOR_ADMINISTRATORS & set(calls_of_the_product())
    assert not [call for call in calls_of_the_product() if call.startswith("identity.")], (
        "members may ask Keystone little"
    )


def test_no_argument_of_the_product_needs_an_administrator() -> None:
    wishes = [
        f"{source.relative_to(ROOT)}:{node.lineno}: {keyword.arg}"
        for source in sorted((PRODUCT / "openstack").rglob("*.py"))
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Call) and service_call(node.func) is not None
        for keyword in node.keywords
        if keyword.arg in ADMIN_WISHES
    ]
    assert not wishes
