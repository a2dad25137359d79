"""Keystone: who the product is."""

from __future__ import annotations

from typing import Any

from tests.cloud_contract.scene import Scene


def test_the_products_account_is_a_plain_member(scene: Scene) -> None:
    session: Any = scene.cloud.connection.session
    roles = set(session.auth.get_access(session).role_names)
    assert "member" in roles
    assert roles <= {"member", "reader"}, "Keystone lets every member read"


def test_the_connection_is_scoped_to_the_project_by_its_name(scene: Scene) -> None:
    session: Any = scene.cloud.connection.session
    access = session.auth.get_access(session)
    assert (access.project_name, access.project_id) == (scene.place.project, scene.cloud.project_id)
