"""Keystone: tokens by password or token, the catalog, and the projects of a user."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from lab.cloud.refusals import UNAUTHENTICATED, Json, Refused
from lab.cloud.state import Cloud, Project, Token, User, now

REGION = "RegionOne"
DOMAIN = {"id": "default", "name": "Default"}

router = APIRouter(prefix="/identity/v3")


class Named(BaseModel):
    """Something told by its id, or by its name."""

    id: str | None = None
    name: str | None = None


class PasswordUser(Named):
    """The user who logs in."""

    password: str


class ByPassword(BaseModel):
    """The method 'password'."""

    user: PasswordUser


class ByApplicationCredential(Named):
    """The method 'application_credential': by id, or by name and user."""

    secret: str
    user: Named | None = None


class Identity(BaseModel):
    """How somebody says who he is."""

    methods: list[str]
    application_credential: ByApplicationCredential | None = None
    password: ByPassword | None = None
    token: Named | None = None


class Scope(BaseModel):
    """Where the token shall be valid."""

    project: Named | None = None


class Auth(BaseModel):
    """A request for a token."""

    identity: Identity
    scope: Scope | None = None


class AuthBody(BaseModel):
    """Its envelope."""

    auth: Auth


def _cloud(request: Request) -> Cloud:
    cloud: Cloud = request.app.state.cloud
    return cloud


def _base(request: Request) -> str:
    return str(request.base_url).rstrip("/")


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def catalog(base: str, project: Project, regions: Sequence[str]) -> list[Json]:
    """Where the services are, for one project."""
    services = (
        ("keystone", "identity", f"{base}/identity/v3"),
        ("cinder", "block-storage", f"{base}/volume/v3/{project.id}"),
        ("cinderv3", "volumev3", f"{base}/volume/v3/{project.id}"),
        ("nova", "compute", f"{base}/compute/v2.1"),
        ("neutron", "network", f"{base}/network"),
        ("glance", "image", f"{base}/image"),
    )
    return [
        {
            "id": uuid.uuid5(uuid.NAMESPACE_DNS, name).hex,
            "name": name,
            "type": kind,
            "endpoints": [
                {
                    "id": uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}-{interface}-{region}").hex,
                    "interface": interface,
                    "region": region,
                    "region_id": region,
                    "url": url,
                }
                for region in regions
                for interface in ("public", "internal", "admin")
            ],
        }
        for name, kind, url in services
    ]


def _project_view(project: Project) -> Json:
    return {
        "id": project.id,
        "name": project.name,
        "domain_id": DOMAIN["id"],
        "enabled": True,
        "is_domain": False,
        "parent_id": DOMAIN["id"],
        "description": "",
        "tags": [],
        "options": {},
    }


def _log_in(cloud: Cloud, identity: Identity) -> User:
    if identity.password is not None:
        told = identity.password.user
        for user in cloud.users.values():
            if (told.id == user.id or told.name == user.name) and told.password == user.password:
                return user
    if identity.token is not None:
        token = cloud.tokens.get(identity.token.id or "")
        if token is not None and token.expires > now():
            return token.user
    raise Refused(401, UNAUTHENTICATED)


def _log_in_by_application_credential(cloud: Cloud, auth: Auth) -> tuple[User, Project | None]:
    if auth.scope is not None:
        raise Refused(401, "Application credentials cannot request a scope.")
    told = auth.identity.application_credential
    if told is not None:
        for known in cloud.application_credentials.values():
            user = told.user or Named()
            by_name = told.name == known.name and (user.id == known.user.id or user.name == known.user.name)
            if (told.id == known.id or by_name) and told.secret == known.secret:
                return known.user, known.project
    raise Refused(401, UNAUTHENTICATED)


def _scope(cloud: Cloud, user: User, scope: Scope | None) -> Project | None:
    if scope is None or scope.project is None:
        return None
    told = scope.project
    for project in cloud.projects.values():
        if project.id in user.projects and (told.id == project.id or told.name == project.name):
            return project
    raise Refused(401, UNAUTHENTICATED)


@router.post("/auth/tokens", status_code=201)
async def create_token(request: Request, response: Response, body: AuthBody) -> Json:
    """Log in. A wrong password and a project that is not the user's are told apart by nobody: both are 401."""
    cloud = _cloud(request)
    if body.auth.identity.application_credential is not None:
        user, project = _log_in_by_application_credential(cloud, body.auth)
    else:
        user = _log_in(cloud, body.auth.identity)
        project = _scope(cloud, user, body.auth.scope)
    issued = now()
    token = Token(user, project, issued + cloud.token_lifetime)
    secret = uuid.uuid4().hex + uuid.uuid4().hex
    cloud.tokens[secret] = token
    response.headers["X-Subject-Token"] = secret
    content: Json = {
        "methods": body.auth.identity.methods,
        "user": {"id": user.id, "name": user.name, "domain": DOMAIN, "password_expires_at": None},
        "audit_ids": [uuid.uuid4().hex],
        "issued_at": _time(issued),
        "expires_at": _time(token.expires),
    }
    if project is not None:
        content |= {
            "project": {"id": project.id, "name": project.name, "domain": DOMAIN},
            "is_domain": False,
            "roles": [{"id": uuid.uuid5(uuid.NAMESPACE_DNS, role).hex, "name": role} for role in cloud.roles],
            "catalog": catalog(_base(request), project, cloud.regions),
        }
    return {"token": content}


def _token(request: Request) -> Token:
    token = _cloud(request).tokens.get(request.headers.get("x-auth-token", ""))
    if token is None or token.expires <= now():
        raise Refused(401, UNAUTHENTICATED)
    return token


@router.delete("/auth/tokens", status_code=204)
async def revoke_token(request: Request) -> None:
    """Log out."""
    _token(request)
    _cloud(request).tokens.pop(request.headers.get("x-subject-token", ""), None)


@router.get("/auth/catalog")
async def show_catalog(request: Request) -> Json:
    """The catalog of the token's project."""
    project = _token(request).project
    return {"catalog": catalog(_base(request), project, _cloud(request).regions) if project else []}


@router.get("/auth/projects")
@router.get("/users/{user_id}/projects")
async def list_own_projects(request: Request, user_id: str = "") -> Json:
    """Where the user is a member."""
    user = _token(request).user
    if user_id not in {"", user.id}:
        raise Refused(403, "You are not authorized to perform the requested action: identity:list_user_projects.")
    cloud = _cloud(request)
    return {"projects": [_project_view(cloud.projects[each]) for each in sorted(user.projects)], "links": {}}


@router.get("/projects")
async def list_projects(request: Request) -> Json:
    """Not for a plain member."""
    _token(request)
    raise Refused(403, "You are not authorized to perform the requested action: identity:list_projects.")


@router.get("/projects/{project_id}")
async def show_project(request: Request, project_id: str) -> Json:
    """A project that the token is scoped to."""
    project = _token(request).project
    if project is None or project.id != project_id:
        raise Refused(403, "You are not authorized to perform the requested action: identity:get_project.")
    return {"project": _project_view(project)}
