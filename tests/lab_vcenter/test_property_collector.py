"""The property collector: selection, paging, refusals."""

from __future__ import annotations

from typing import Any

import pytest

from tests.lab_vcenter.client import PC, Remote, filter_of, snapshot_of, vim, vmodl

VM = vim.VirtualMachine


def view_filter(service: Remote, paths: list[str], kind: Remote = VM) -> Remote:
    view = service.content.viewManager.CreateContainerView(service.content.rootFolder, [kind], recursive=True)
    through = PC.TraversalSpec(name="content", path="view", type=vim.view.ContainerView, skip=False)
    return PC.FilterSpec(
        objectSet=[PC.ObjectSpec(obj=view, skip=True, selectSet=[through])],
        propSet=[PC.PropertySpec(type=kind, pathSet=paths, all=False)],
    )


def retrieve(service: Remote, *specs: Remote) -> dict[Any, dict[str, Any]]:
    answer = service.content.propertyCollector.RetrievePropertiesEx(list(specs), PC.RetrieveOptions())
    objects = answer.objects if answer else []
    return {one.obj: {item.name: item.val for item in one.propSet} for one in objects}


def test_a_container_view_gives_every_vm_with_leaf_values_of_their_types(
    service: Remote, web: Remote, database: Remote
) -> None:
    found = retrieve(
        service, view_filter(service, ["name", "runtime.powerState", "config.hardware.device", "snapshot", "network"])
    )
    assert list(found) == [web, database]
    values = found[database]
    assert values["name"] == "db01"
    assert isinstance(values["runtime.powerState"], VM.PowerState)
    assert "snapshot" not in values
    assert len(values["network"]) == 2
    kinds = {type(device) for device in values["config.hardware.device"]}
    assert vim.vm.device.VirtualVmxnet3 in kinds


def test_a_container_view_sees_only_its_types_below_its_container(service: Remote) -> None:
    create = service.content.viewManager.CreateContainerView
    root = service.content.rootFolder
    assert [one.name for one in create(root, [vim.Datacenter], recursive=True).view] == ["lab-dc"]
    assert list(create(root, [VM], recursive=False).view) == []
    kinds = {type(one) for one in create(root, [vim.Network, vim.Datastore], recursive=True).view}
    assert kinds == {vim.Network, vim.Datastore}
    assert VM in {type(one) for one in create(root, [vim.ManagedEntity], recursive=True).view}


def test_traversals_that_name_each_other_walk_the_tree(service: Remote, web: Remote, database: Remote) -> None:
    into_folder = PC.TraversalSpec(
        name="folder",
        type=vim.Folder,
        path="childEntity",
        selectSet=[PC.SelectionSpec(name="folder"), PC.SelectionSpec(name="datacenter")],
    )
    into_datacenter = PC.TraversalSpec(
        name="datacenter", type=vim.Datacenter, path="vmFolder", selectSet=[PC.SelectionSpec(name="folder")]
    )
    spec = PC.FilterSpec(
        objectSet=[PC.ObjectSpec(obj=service.content.rootFolder, selectSet=[into_folder, into_datacenter])],
        propSet=[
            PC.PropertySpec(type=VM, pathSet=["name"]),
            PC.PropertySpec(type=vim.ManagedEntity, pathSet=["parent"]),
        ],
    )
    found = retrieve(service, spec)
    assert found[web] == {"name": "web01"}
    assert found[service.content.rootFolder] == {}
    assert "parent" in found[web.parent]
    assert database in found


def test_a_walk_that_comes_back_where_it_was_ends(service: Remote, web: Remote) -> None:
    down = PC.TraversalSpec(name="down", type=vim.Folder, path="childEntity", selectSet=[PC.SelectionSpec(name="up")])
    up = PC.TraversalSpec(name="up", type=vim.ManagedEntity, path="parent", selectSet=[PC.SelectionSpec(name="down")])
    spec = PC.FilterSpec(
        objectSet=[PC.ObjectSpec(obj=web.parent, selectSet=[down, up])],
        propSet=[PC.PropertySpec(type=VM, pathSet=["name"])],
    )
    assert [values["name"] for values in retrieve(service, spec).values()] == ["web01", "db01"]


def test_a_skipped_step_is_walked_and_not_told(service: Remote, web: Remote) -> None:
    up = PC.TraversalSpec(name="up", type=vim.ManagedEntity, path="parent", selectSet=[PC.SelectionSpec(name="up")])
    spec = PC.FilterSpec(
        objectSet=[PC.ObjectSpec(obj=web, skip=True, selectSet=[up])],
        propSet=[PC.PropertySpec(type=vim.ManagedEntity, pathSet=["name"])],
    )
    assert [values["name"] for values in retrieve(service, spec).values()] == ["vm", "lab-dc", "Datacenters"]


def test_pages_hold_no_more_objects_than_asked_and_nothing_is_lost(
    service: Remote, web: Remote, database: Remote
) -> None:
    collector = service.content.propertyCollector
    first = collector.RetrievePropertiesEx([view_filter(service, ["name"])], PC.RetrieveOptions(maxObjects=1))
    assert [one.obj for one in first.objects] == [web]
    second = collector.ContinueRetrievePropertiesEx(first.token)
    assert [one.obj for one in second.objects] == [database]
    assert second.token is None
    with pytest.raises(vmodl.fault.InvalidArgument):
        collector.ContinueRetrievePropertiesEx(first.token)


def test_a_cancelled_retrieval_cannot_go_on(service: Remote) -> None:
    collector = service.content.propertyCollector
    first = collector.RetrievePropertiesEx([view_filter(service, ["name"])], PC.RetrieveOptions(maxObjects=1))
    collector.CancelRetrievePropertiesEx(first.token)
    with pytest.raises(vmodl.fault.InvalidArgument):
        collector.ContinueRetrievePropertiesEx(first.token)


def test_the_old_call_gives_everything_at_once(service: Remote, web: Remote, database: Remote) -> None:
    objects = service.content.propertyCollector.RetrieveProperties([view_filter(service, ["name"])])
    assert [one.obj for one in objects] == [web, database]


def test_all_properties_are_told_on_request(service: Remote, web: Remote) -> None:
    spec = PC.FilterSpec(objectSet=[PC.ObjectSpec(obj=web)], propSet=[PC.PropertySpec(type=VM, all=True)])
    values = retrieve(service, spec)[web]
    assert {"name", "config", "runtime", "guest", "capability", "recentTask"} <= set(values)


@pytest.mark.parametrize(
    "path", ["nonsense", "config.nonsense", "config.hardware.device.key", "runtime.host.name", "name.length", ""]
)
def test_a_path_that_the_schema_does_not_have_is_refused(service: Remote, web: Remote, path: str) -> None:
    with pytest.raises(vmodl.query.InvalidProperty) as caught:
        retrieve(service, filter_of([web], VM, [path]))
    assert (caught.value.name or "") == path


def test_a_starting_object_that_is_gone_is_not_found_unless_missing_ones_may_be_left_out(service: Remote) -> None:
    ghost = vim.vm.Snapshot("snapshot-101-77", service._stub)
    spec = filter_of([ghost], vim.vm.Snapshot, ["config"])
    with pytest.raises(vmodl.fault.ManagedObjectNotFound):
        retrieve(service, spec)
    spec.reportMissingObjectsInResults = True
    assert retrieve(service, spec) == {}


def test_an_unnamed_selection_is_refused(service: Remote, web: Remote) -> None:
    spec = filter_of([web], VM, ["name"])
    spec.objectSet[0].selectSet = [PC.SelectionSpec(name="nobody")]
    with pytest.raises(vmodl.fault.InvalidArgument):
        retrieve(service, spec)


def test_a_snapshot_and_the_root_properties_can_be_read_together(service: Remote, web: Remote) -> None:
    snapshot = snapshot_of(web)
    found = retrieve(
        service,
        filter_of([snapshot], vim.vm.Snapshot, ["vm", "config.hardware.device"]),
        filter_of([web], VM, ["snapshot.currentSnapshot", "rootSnapshot"]),
    )
    assert found[snapshot]["vm"] == web
    assert found[web]["snapshot.currentSnapshot"] == snapshot
    assert list(found[web]["rootSnapshot"]) == [snapshot]
