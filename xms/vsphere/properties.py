"""Reading many properties in one round trip: vSphere's PropertyCollector."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from xms.vsphere.bindings import vim, vmodl
from xms.vsphere.session import VsphereSession

Properties = dict[str, Any]
"""Property path -> value; a path that is unset on the object is absent."""


def read(session: VsphereSession, thing: Any, paths: Sequence[str]) -> Properties:  # noqa: ANN401 - pyVmomi's
    """Properties of one managed object, as they are at one moment: all of them, or none.

    Raises:
        vmodl.fault.ManagedObjectNotFound: it is gone.
        vmodl.MethodFault: why vSphere does not tell one of them; most often NoPermission. Passed over, a VM whose
            snapshots the account may not see would look like one without.
    """
    specification = _of([thing], paths)
    return session.whole(lambda: next((found for _, found in _retrieve(session, specification, strictly=True)), {}))


def read_all(session: VsphereSession, things: Sequence[Any], paths: Sequence[str]) -> list[tuple[Any, Properties]]:
    """Properties of managed objects that all have the same type; what the account may not see is absent."""
    if not things:
        return []
    specification = _of(things, paths)
    return session.whole(lambda: list(_retrieve(session, specification)))


def read_inventory(session: VsphereSession, paths: Mapping[Any, Sequence[str]]) -> list[tuple[Any, Properties]]:
    """Properties of every object of the inventory that has one of the given types, as far as the account may see them.

    Args:
        session: where.
        paths: managed object type -> property paths.
    """
    return session.whole(lambda: _read_view(session, paths))


def _of(things: Sequence[Any], paths: Sequence[str]) -> Any:  # noqa: ANN401 - pyVmomi's
    collector = vmodl.query.PropertyCollector
    return collector.FilterSpec(
        propSet=[collector.PropertySpec(type=type(things[0]), pathSet=list(paths))],
        objectSet=[collector.ObjectSpec(obj=thing) for thing in things],
    )


def _read_view(session: VsphereSession, paths: Mapping[Any, Sequence[str]]) -> list[tuple[Any, Properties]]:
    collector = vmodl.query.PropertyCollector
    view = session.content.viewManager.CreateContainerView(session.content.rootFolder, list(paths), True)  # noqa: FBT003
    specification = collector.FilterSpec(
        propSet=[collector.PropertySpec(type=kind, pathSet=list(names)) for kind, names in paths.items()],
        objectSet=[
            collector.ObjectSpec(
                obj=view,
                skip=True,
                selectSet=[collector.TraversalSpec(name="view", path="view", skip=False, type=vim.view.ContainerView)],
            )
        ],
    )
    try:
        found = list(_retrieve(session, specification))
    except vmodl.MethodFault as fault:
        if isinstance(fault, vmodl.fault.ManagedObjectNotFound) and fault.obj == view:
            raise vim.fault.NotAuthenticated(object=view, msg="the view ended with its session") from fault
        _destroy(view)
        raise
    # After a broken connection it is left to end with its session: one more call would wait for one more timeout.
    _destroy(view)
    return found


def _destroy(view: Any) -> None:  # noqa: ANN401 - pyVmomi's
    # Where the session has ended meanwhile, so has the view.
    with contextlib.suppress(vim.fault.NotAuthenticated, vmodl.fault.ManagedObjectNotFound):
        view.Destroy()


def _retrieve(
    session: VsphereSession,
    specification: Any,  # noqa: ANN401 - pyVmomi's
    *,
    strictly: bool = False,
) -> Iterator[tuple[Any, Properties]]:
    collector = session.content.propertyCollector
    options = vmodl.query.PropertyCollector.RetrieveOptions()
    page = collector.RetrievePropertiesEx([specification], options)
    while page is not None:
        yield from _objects(page.objects, strictly=strictly)
        page = collector.ContinueRetrievePropertiesEx(page.token) if page.token else None


def _objects(contents: Iterable[Any], *, strictly: bool) -> Iterator[tuple[Any, Properties]]:
    for content in contents:
        _refuse_untold(content, strictly=strictly)
        yield content.obj, {item.name: item.val for item in content.propSet}


def _refuse_untold(content: Any, *, strictly: bool) -> None:  # noqa: ANN401 - pyVmomi's
    """Take no answer for an empty one that vSphere gave to somebody who is not logged in any more.

    Reading properties needs no session: without one the call succeeds, and each value is listed as missing. Passed
    over, a VM with snapshots would look like one without.

    Raises:
        vim.fault.NotAuthenticated: the session has ended.
        vmodl.MethodFault: strictly, any other reason for which a value was not told.
    """
    for missing in content.missingSet:
        if strictly or isinstance(missing.fault, vim.fault.NotAuthenticated):
            raise missing.fault
