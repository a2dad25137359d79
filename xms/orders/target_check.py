"""What is asked of a target as a whole: which are there, and would they do?"""

from __future__ import annotations

from pydantic import Field

from xms.models import Model


class ListTargets(Model):
    """Ask for the configured targets."""


class TargetSummary(Model):
    """A target as it is configured; it was not asked anything."""

    name: str = Field(description="what --target takes; empty: the default one")
    cloud: str = Field(description="entry of clouds.yaml")
    region: str = Field(default="", description="empty: the entry's own")
    attach: str = Field(default="", description="how volumes reach the worker")
    clouds_file: str = Field(default="", description="empty: the standard places")


class TargetList(Model):
    """The targets of the worker that answered."""

    targets: tuple[TargetSummary, ...] = ()
    worker: str = Field(default="", description="the worker that answered; each has a configuration of its own")


class TargetQuestion(Model):
    """A target by its name, and a project of it."""

    target: str = Field(default="", description="empty: the default one")
    project: str | None = Field(default=None, description="name or id; None: the entry's own")


class CloudService(Model):
    """A service of the cloud that migrations need."""

    name: str = Field(description="'Cinder', 'Nova', 'Neutron'")
    endpoint: str = ""
    version: str = Field(default="", description="of the API: '3.0'")
    microversion: str = Field(default="", description="the newest that it knows; empty: it has none")
    milliseconds: int = Field(default=0, description="time of one answer")
    problem: str = Field(default="", description="why it cannot be used; empty: it can")


class QuotaLeft(Model):
    """What a project may still make of something."""

    name: str = Field(description="'volumes', 'gigabytes', 'cores', 'ram (MiB)', 'instances', 'ports'")
    used: int = 0
    limit: int | None = Field(default=None, description="None: no limit")

    @property
    def left(self) -> int | None:
        """How many more; None: any number."""
        return None if self.limit is None else max(0, self.limit - self.used)


class TargetReport(Model):
    """The answer to a check: what the target is, and what stands against migrating to it."""

    target: str
    cloud: str
    region: str = ""
    regions: tuple[str, ...] = Field(default=(), description="all that the catalogue has")
    project: str = Field(default="", description="its name")
    project_id: str = ""
    user: str = ""
    roles: tuple[str, ...] = ()
    attach: str = ""
    encrypted: bool = Field(default=True, description="Keystone is spoken to by HTTPS")
    services: tuple[CloudService, ...] = ()
    quotas: tuple[QuotaLeft, ...] = ()
    worker: str = Field(default="", description="the worker that answered")

    @property
    def notes(self) -> tuple[str, ...]:
        """What an operator should know, though migrations work."""
        found = []
        if "admin" in self.roles:
            found.append("the account has the role admin, which no migration needs: a plain member is safer")
        if not self.encrypted:
            found.append("the log-in is not encrypted (http): password and token can be read on the way")
        found += [f"the quota of {quota.name} is used up" for quota in self.quotas if quota.left == 0]
        return tuple(found)

    @property
    def problems(self) -> tuple[str, ...]:
        """What stands against migrations to it."""
        return tuple(f"{service.name}: {service.problem}" for service in self.services if service.problem)
