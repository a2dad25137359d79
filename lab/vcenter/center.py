"""The vCenter behind the wire: inventory, tasks and sessions in one place, and every object's properties."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Final

from lab.esxi.interface import Host
from lab.vcenter import soap
from lab.vcenter.inventory import ROOT, Inventory
from lab.vcenter.properties import Properties
from lab.vcenter.sessions import Session, Sessions
from lab.vcenter.shape import DATACENTER_NAME, HOST_NAME, DatacenterShape, Shape
from lab.vcenter.switches import FaultSwitches
from lab.vcenter.tasks import Tasks
from lab.vcenter.vocabulary import Data, Reference, now, vim, vmodl

SERVICE: Final[Reference] = vim.ServiceInstance("ServiceInstance", None)
SESSION_MANAGER: Final[Reference] = vim.SessionManager("SessionManager", None)
VIEW_MANAGER: Final[Reference] = vim.view.ViewManager("ViewManager", None)
SEARCH_INDEX: Final[Reference] = vim.SearchIndex("SearchIndex", None)
AUTHORIZATION_MANAGER: Final[Reference] = vim.AuthorizationManager("AuthorizationManager", None)
TASK_MANAGER: Final[Reference] = vim.TaskManager("TaskManager", None)
PROPERTY_COLLECTOR: Final[Reference] = vmodl.query.PropertyCollector("propertyCollector", None)

STANDALONE_DATACENTER: Final = "ha-datacenter"
"""The one datacenter of an ESXi host without a vCenter."""

_INSTANCE: Final = "6b1a3a5c-6c1d-4f0e-9a35-3d0a3c1f7b10"


class Center:
    """Everything that a call may need.

    Args:
        idle_limit: seconds after which a session without calls ends.
        standalone: be an ESXi host without a vCenter.
        host_name: of the one host, as its clients see it.
        shape: what is around the host's machines; one datacenter with that host unless told otherwise.
    """

    def __init__(
        self,
        host: Host,
        users: Mapping[str, str],
        *,
        idle_limit: float,
        standalone: bool = False,
        host_name: str = HOST_NAME,
        shape: Shape | None = None,
    ) -> None:
        self.host = host
        self.standalone = standalone
        self.switches = FaultSwitches()
        self.changed = threading.Condition(threading.RLock())
        self.closing = threading.Event()
        self.sessions = Sessions(users, idle_limit)
        self.tasks = Tasks(self.switches, self.changed)
        name = STANDALONE_DATACENTER if standalone else DATACENTER_NAME
        around = shape or Shape((DatacenterShape(name, hosts=(host_name,)),))
        self.inventory = Inventory(host, self.tasks, self.switches, around)

    def close(self) -> None:
        """End what waits, and wait for what works."""
        self.closing.set()
        with self.changed:
            self.changed.notify_all()
        self.tasks.stop()

    def properties(self, reference: Reference, session: Session | None) -> Properties | None:
        """The properties of any object, as this session sees it; None where there is no such object."""
        if isinstance(reference, vim.ManagedEntity | vim.vm.Snapshot):
            return self.inventory.properties(reference)
        if isinstance(reference, vim.Task):
            info = self.tasks.info(reference)
            return {"info": lambda: info} if info else None
        manager = self._managers(session).get(reference)
        if manager is not None or session is None:
            return manager
        return session.properties(reference, self.inventory)

    def _managers(self, session: Session | None) -> dict[Reference, Properties]:
        return {
            SERVICE: {"content": self.service_content, "serverClock": now},
            SESSION_MANAGER: {
                "currentSession": lambda: session.described() if session else None,
                "sessionList": self.sessions.described,
                "defaultLocale": lambda: "en",
            },
            TASK_MANAGER: {"recentTask": self.tasks.recent},
            VIEW_MANAGER: {},
            SEARCH_INDEX: {},
            AUTHORIZATION_MANAGER: {},
            PROPERTY_COLLECTOR: {},
        }

    def service_content(self) -> Data:
        """Where a client begins."""
        return vim.ServiceInstanceContent(
            rootFolder=ROOT,
            propertyCollector=PROPERTY_COLLECTOR,
            viewManager=VIEW_MANAGER,
            sessionManager=SESSION_MANAGER,
            authorizationManager=AUTHORIZATION_MANAGER,
            searchIndex=SEARCH_INDEX,
            taskManager=TASK_MANAGER,
            about=_about_host() if self.standalone else _about_vcenter(),
        )


def _about_vcenter() -> Data:
    return _about(
        name="VMware vCenter Server",
        fullName=f"VMware vCenter Server {soap.VERSION} (stand-in)",
        build="24022515",
        osType="linux-x64",
        productLineId="vpx",
        apiType="VirtualCenter",
        instanceUuid=_INSTANCE,
        licenseProductName="VMware VirtualCenter Server",
        licenseProductVersion="8.0",
    )


def _about_host() -> Data:
    return _about(
        name="VMware ESXi",
        fullName=f"VMware ESXi {soap.VERSION} (stand-in)",
        build="24022510",
        osType="vmnix-x86",
        productLineId="embeddedEsx",
        apiType="HostAgent",
        licenseProductName="VMware ESX Server",
        licenseProductVersion="8.0",
    )


def _about(**own: str) -> Data:
    return vim.AboutInfo(
        vendor="VMware, Inc.",
        version="8.0.3",
        localeVersion="INTL",
        localeBuild="000",
        apiVersion=soap.VERSION,
        **own,
    )
