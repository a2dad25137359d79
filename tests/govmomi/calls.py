"""Which calls the product makes of vSphere, as its source code has them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pyVmomi import VmomiSupport

PRODUCT: Final = Path(__file__).parents[2] / "xms" / "vsphere"

_support: Any = VmomiSupport

PREFERRED: Final = ("VirtualMachine", "VirtualMachineSnapshot", "View", "ServiceInstance", "SessionManager")
"""Types on the wire whose method is meant where several types have one of that name in pyVmomi, the first first.

No `Destroy` of a VM is among the product's calls: it never deletes one (design, invariant 6).
"""

NEVER: Final = frozenset({"Destroy_Task", "UnregisterVM"})

OF_THE_CLIENT: Final = frozenset({"DropConnections"})
"""Methods of pyVmomi's transport that have the name of one of the API."""


def python_names() -> dict[str, dict[str, str]]:
    """Every method of the API: its name in pyVmomi, then by type its name on the wire."""
    names: dict[str, dict[str, str]] = {}
    for (_, kind), definition in _support._wsdlDefMap.items():
        methods = definition[5] if len(definition) > 5 else None
        for method in methods or ():
            names.setdefault(_support.Capitalize(method[0]), {})[kind] = method[1]
    return names


def called_in(source: Path) -> Iterator[str]:
    """The names of the methods that a module calls."""
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield node.func.attr


def calls_of_the_product() -> dict[str, str]:
    """The calls by their names on the wire, each with a module that makes it.

    Raises:
        LookupError: several methods have the name, and nobody said which one is meant.
    """
    known = python_names()
    found = {}
    for source in sorted(PRODUCT.rglob("*.py")):
        for name in set(called_in(source)) - OF_THE_CLIENT:
            by_type = {kind: wire for kind, wire in known.get(name, {}).items() if wire not in NEVER}
            if not by_type:
                continue
            meant = [by_type[kind] for kind in PREFERRED if kind in by_type] or list(by_type.values())
            if len(set(meant)) > 1 and meant[0] not in (by_type.get(kind) for kind in PREFERRED):
                raise LookupError(f"{source.name} calls {name}: is it {' or '.join(by_type)}? Say so in PREFERRED")
            found[meant[0]] = source.name
    return found
