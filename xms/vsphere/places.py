"""The names and places of everything that is in the source, and how a VM is found among them."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from xms.errors import ConfigurationError, VmNotFound
from xms.vsphere.bindings import vim
from xms.vsphere.properties import Properties, read_inventory
from xms.vsphere.session import VsphereSession

VM_NAMES: Final = ("name", "parent", "parentVApp", "config.template")

AROUND: Final = {
    vim.Folder: ("name", "parent"),
    vim.Datacenter: ("name", "parent"),
    vim.VirtualApp: ("name", "parent", "parentFolder"),
    vim.HostSystem: ("name", "runtime.connectionState", "runtime.inMaintenanceMode"),
    vim.Datastore: (
        "summary.name",
        "summary.capacity",
        "summary.freeSpace",
        "summary.accessible",
        "summary.maintenanceMode",
    ),
    vim.dvs.DistributedVirtualPortgroup: ("key", "name"),
}
"""What is read beside the VMs, in the same call: some hundred objects where there are thousands of VMs."""

CLOSE_MATCHES: Final = 5
WILD: Final = frozenset("*?[")


@dataclass(frozen=True)
class FoundVm:
    """A VM of the inventory.

    Attributes:
        reference: the managed object.
        path: inventory path, as govc writes it: "/dc/vm/folder/name".
        properties: what was read of it.
    """

    reference: Any
    name: str
    path: str
    properties: Properties

    @property
    def template(self) -> bool:
        """Whether it is one, and no VM that could run."""
        return bool(self.properties.get("config.template"))

    def matches(self, pattern: str) -> bool:
        """Whether its name fits a pattern ('web-*'), or its path one that has a slash."""
        return fnmatch.fnmatchcase(self.path if "/" in pattern else self.name, pattern)


class Inventory:
    """Everything that is in the source, read in one call at one moment.

    Args:
        session: where.
        leaves: what to read of every VM beside its name and place.
    """

    def __init__(self, session: VsphereSession, leaves: Sequence[str] = ()) -> None:
        kinds = {vim.VirtualMachine: tuple(dict.fromkeys((*VM_NAMES, *leaves))), **AROUND}
        self._session = session
        self._found = {identity(thing): (thing, properties) for thing, properties in read_inventory(session, kinds)}
        self._datacenter = session.config.datacenter
        if self._datacenter is not None:
            self._refuse_unknown_datacenter(self._datacenter)

    def virtual_machines(self) -> Iterator[FoundVm]:
        """Every VM of the configured datacenter, or of all."""
        for thing, properties in self._found.values():
            if isinstance(thing, vim.VirtualMachine):
                places = list(self._places(thing))
                if self._datacenter is None or self._datacenter in _datacenters(places):
                    # In a path the separators within a name stay escaped, as vSphere has them.
                    path = "/" + "/".join(found.get("name", "") for _, found in reversed(places))
                    yield FoundVm(thing, name=name_of(properties), path=path, properties=properties)

    def find(self, wanted: str) -> FoundVm:
        """The one VM with that name or inventory path.

        Raises:
            VmNotFound: none has it, or more than one; the text lists what there is.
        """
        return self._exactly(wanted, list(self.virtual_machines()))

    def select(self, wanted: Sequence[str], *, patterns: bool = True, every_vm: bool = False) -> list[FoundVm]:
        """The VMs with these names or inventory paths, or that match these patterns, by path.

        A template is there only where it is named without a pattern.

        Raises:
            VmNotFound: nothing has one of these names or matches one of these patterns; the text lists what there is.
        """
        known = list(self.virtual_machines())
        chosen = {identity(vm.reference): vm for vm in known if every_vm and not vm.template}
        for one in wanted:
            exact = [vm for vm in known if one in (vm.path, vm.name)]
            if exact or not (patterns and WILD & set(one)):
                found = [self._exactly(one, known)]
            else:
                found = [vm for vm in known if vm.matches(one) and not vm.template]
                if not found:
                    raise VmNotFound(f"{self._session.name} has no VM that matches '{one}'", because=_among(known, one))
            chosen.update({identity(vm.reference): vm for vm in found})
        return sorted(chosen.values(), key=lambda vm: vm.path)

    def properties(self, thing: Any) -> Properties:  # noqa: ANN401 - pyVmomi's
        """What was read of a thing; nothing where it is not in this inventory."""
        return {} if thing is None else self._found.get(identity(thing), (thing, {}))[1]

    def portgroups(self) -> dict[str, str]:
        """Names of the distributed port groups by their keys."""
        kind = vim.dvs.DistributedVirtualPortgroup
        return {
            properties["key"]: name_of(properties)
            for thing, properties in self._found.values()
            if isinstance(thing, kind) and "key" in properties
        }

    def _exactly(self, wanted: str, known: list[FoundVm]) -> FoundVm:
        found = [vm for vm in known if vm.path == wanted] or [vm for vm in known if vm.name == wanted]
        if len(found) == 1:
            return found[0]
        if found:
            raise VmNotFound(
                f"'{wanted}' is the name of {len(found)} VMs of {self._session.name}",
                because="their paths are " + ", ".join(sorted(vm.path for vm in found)),
                do="give the path of the one that is meant",
            )
        raise VmNotFound(f"{self._session.name} has no VM called '{wanted}'", because=_among(known, wanted))

    def _places(self, thing: Any) -> Iterator[tuple[Any, Properties]]:  # noqa: ANN401 - pyVmomi's
        """From the VM outwards. The root folder is in no view of itself, so paths begin below it, as govc's do."""
        while thing is not None and identity(thing) in self._found:
            found = self._found[identity(thing)]
            yield found
            # A VM of a vApp has no parent, and the folder of a vApp is not what it calls its parent.
            thing = found[1].get("parentVApp") or found[1].get("parentFolder") or found[1].get("parent")

    def _refuse_unknown_datacenter(self, wanted: str) -> None:
        known = sorted(_datacenters(list(self._found.values())))
        if wanted not in known:
            raise ConfigurationError(
                f"{self._session.name} has no datacenter called '{wanted}'",
                because=f"it has {', '.join(known) or 'none that the account sees'}",
                do="correct the source's datacenter in the worker's configuration",
            )


def identity(thing: Any) -> str:  # noqa: ANN401 - pyVmomi's
    """A managed object's id."""
    return str(thing._moId)  # noqa: SLF001 - pyVmomi's name for it


def name_of(properties: Properties) -> str:
    """A name as people typed it: vSphere escapes slashes, backslashes and percent signs in it."""
    return unquote(properties.get("name", ""))


def _among(known: list[FoundVm], wanted: str) -> str:
    names = sorted({vm.path if "/" in wanted else vm.name for vm in known})
    close = difflib.get_close_matches(wanted, names, n=CLOSE_MATCHES) or names[:CLOSE_MATCHES]
    return f"it has {len(known)} VMs, among them {', '.join(close)}" if close else "the account sees no VM there"


def _datacenters(places: list[tuple[Any, Properties]]) -> set[str]:
    return {name_of(properties) for thing, properties in places if isinstance(thing, vim.Datacenter)}
