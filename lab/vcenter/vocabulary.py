"""pyVmomi's run-time types under the names that the rest of the stand-in uses."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeAlias

import pyVmomi
from pyVmomi import VmomiSupport

# pyVmomi makes its classes at run time from tables; the published stubs describe a fraction of them, so that a type
# checker would refuse correct code. Every one of them is therefore Any here, and pyVmomi itself checks each assignment.
_pyvmomi: Any = pyVmomi
vim: Any = _pyvmomi.vim
vmodl: Any = _pyvmomi.vmodl
Support: Any = VmomiSupport

Reference: TypeAlias = Any
"""A reference to a managed object: pyVmomi's ManagedObject of the right class without a connection."""

Data: TypeAlias = Any
"""A value of the API: a data object, an enumeration's member, a list or a scalar."""

Kind: TypeAlias = Any
"""A class of pyVmomi."""


def now() -> datetime:
    """This moment, with its zone, as the API's times are."""
    return datetime.now(UTC)


def typed(kind: Kind, value: Data) -> Data:
    """Give `value` the declared type of its place.

    pyVmomi takes plain lists, strings and integers for arrays, enumerations and longs, but can only serialize the
    declared type where the schema says anyType, as it does for every property that a collector returns.
    """
    if value is None or kind is object or isinstance(value, kind):
        return value
    if issubclass(kind, list | Support.Enum | int | float):
        return kind(value)
    return value


def not_found(reference: Reference) -> Exception:
    """The fault for an object that does not exist, or no longer."""
    fault: Exception = vmodl.fault.ManagedObjectNotFound(
        obj=reference,
        msg=f"The object '{type(reference)._wsdlName}:{reference._moId}' has already been deleted"  # noqa: SLF001 - pyVmomi's official names
        " or has not been completely created",
    )
    return fault


def invalid_argument(name: str) -> Exception:
    """The fault for an argument that cannot be used, in vSphere's own words."""
    fault: Exception = vmodl.fault.InvalidArgument(
        invalidProperty=name, msg=f"A specified parameter was not correct: {name}"
    )
    return fault


def identity(reference: Reference) -> str:
    """The managed object id."""
    found: str = reference._moId  # noqa: SLF001 - pyVmomi's official name
    return found


def wire_name(kind: Kind) -> str:
    """The name of a class on the wire."""
    found: str = kind._wsdlName  # noqa: SLF001 - pyVmomi's official name
    return found
