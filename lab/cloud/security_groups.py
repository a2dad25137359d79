"""Neutron's security groups: their names alone, since no rule is played."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter
from pydantic import BaseModel

from lab.cloud.call import Call, NetworkCall
from lab.cloud.network import filtered
from lab.cloud.refusals import Json, Refused
from lab.cloud.state import DEFAULT_GROUP, Project, SecurityGroup, new_id

router = APIRouter(prefix="/network/v2.0")


class GroupWish(BaseModel):
    """A group to be made."""

    name: str
    description: str = ""


class GroupWishBody(BaseModel):
    """Its envelope."""

    security_group: GroupWish


def _view(group: SecurityGroup) -> Json:
    return {
        "id": group.id,
        "name": group.name,
        "description": group.description,
        "project_id": group.project_id,
        "tenant_id": group.project_id,
        "stateful": True,
        "shared": False,
        "security_group_rules": [],
        "tags": [],
    }


def groups_of(call: Call, project: Project) -> list[SecurityGroup]:
    """The project's groups."""
    return [group for group in call.cloud.security_groups.values() if group.project_id == project.id]


def default_group(call: Call) -> SecurityGroup:
    """The one that a port gets that asks for none."""
    return next(group for group in groups_of(call, call.project) if group.name == DEFAULT_GROUP)


def check_groups(call: Call, wanted: Sequence[str]) -> None:
    """Refuse groups that the project does not have.

    Raises:
        Refused: 404.
    """
    known = {group.id for group in groups_of(call, call.project)}
    for group_id in wanted:
        if group_id not in known:
            raise _missing(group_id)


def _missing(group_id: str) -> Refused:
    return Refused(404, f"Security group {group_id} does not exist", "SecurityGroupNotFound")


@router.get("/security-groups")
async def list_security_groups(call: NetworkCall) -> Json:
    """The project's groups."""
    return call.page("security_groups", filtered(call, map(_view, groups_of(call, call.project))))


@router.post("/security-groups", status_code=201)
async def create_security_group(call: NetworkCall, body: GroupWishBody) -> Json:
    """A group; several may have one name."""
    wish = body.security_group
    if wish.name == DEFAULT_GROUP:
        raise Refused(409, "Default security group already exists.", "SecurityGroupDefaultAlreadyExists")
    group = SecurityGroup(new_id(), wish.name, call.project.id, wish.description)
    call.cloud.security_groups[group.id] = group
    return {"security_group": _view(group)}


@router.get("/security-groups/{group_id}")
async def show_security_group(call: NetworkCall, group_id: str) -> Json:
    """One group, by its id."""
    check_groups(call, [group_id])
    return {"security_group": _view(call.cloud.security_groups[group_id])}


@router.delete("/security-groups/{group_id}", status_code=204)
async def delete_security_group(call: NetworkCall, group_id: str) -> None:
    """Delete a group that no port has."""
    check_groups(call, [group_id])
    if any(group_id in port.security_groups for port in call.cloud.ports.values()):
        raise Refused(409, f"Security Group {group_id} in use.", "SecurityGroupInUse")
    del call.cloud.security_groups[group_id]
