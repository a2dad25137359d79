package main

import (
	"fmt"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// --- asking -----------------------------------------------------------------------------------------------------------

func (s *stage) containerView(kinds ...string) (types.ManagedObjectReference, error) {
	answer, err := methods.CreateContainerView(s, s, &types.CreateContainerView{
		This:      *s.content.ViewManager,
		Container: s.content.RootFolder,
		Type:      kinds,
		Recursive: true,
	})
	if err != nil {
		return types.ManagedObjectReference{}, err
	}
	return answer.Returnval, nil
}

func filterOf(object types.ManagedObjectReference, paths ...string) types.PropertyFilterSpec {
	return types.PropertyFilterSpec{
		PropSet:   []types.PropertySpec{{Type: object.Type, PathSet: paths}},
		ObjectSet: []types.ObjectSpec{{Obj: object}},
	}
}

func filterThrough(view types.ManagedObjectReference, kind string, paths ...string) types.PropertyFilterSpec {
	return types.PropertyFilterSpec{
		PropSet: []types.PropertySpec{{Type: kind, PathSet: paths}},
		ObjectSet: []types.ObjectSpec{{
			Obj:  view,
			Skip: types.NewBool(true),
			SelectSet: []types.BaseSelectionSpec{&types.TraversalSpec{
				SelectionSpec: types.SelectionSpec{Name: "view"},
				Type:          "ContainerView",
				Path:          "view",
				Skip:          types.NewBool(false),
			}},
		}},
	}
}

// retrieve makes one call of RetrievePropertiesEx, with at most that many objects in the answer; 0 is no limit.
func (s *stage) retrieve(limit int32, specs ...types.PropertyFilterSpec) (*types.RetrieveResult, error) {
	answer, err := methods.RetrievePropertiesEx(s, s, &types.RetrievePropertiesEx{
		This:    s.content.PropertyCollector,
		SpecSet: specs,
		Options: types.RetrieveOptions{MaxObjects: limit},
	})
	if err != nil {
		return nil, err
	}
	return answer.Returnval, nil
}

// read gives the values of one object by path; a path without a value is not in it.
func (s *stage) read(object types.ManagedObjectReference, paths ...string) (map[string]types.AnyType, error) {
	found, err := s.retrieve(0, filterOf(object, paths...))
	if err != nil {
		return nil, err
	}
	if found == nil || len(found.Objects) != 1 {
		return nil, fmt.Errorf("one object was asked for, the answer is %v", found)
	}
	return valuesOf(found.Objects[0]), nil
}

func valuesOf(content types.ObjectContent) map[string]types.AnyType {
	values := map[string]types.AnyType{}
	for _, one := range content.PropSet {
		values[one.Name] = one.Val
	}
	return values
}

// value gives one value of the type that it has to have.
func value[T any](s *stage, object types.ManagedObjectReference, path string) (T, error) {
	var none T
	values, err := s.read(object, path)
	if err != nil {
		return none, err
	}
	found, fits := values[path].(T)
	if !fits {
		return none, fmt.Errorf("%s is of type %T, and should be %T", path, values[path], none)
	}
	return found, nil
}

// machine finds a VM by its name.
func (s *stage) machine(name string) (types.ManagedObjectReference, error) {
	view, err := s.containerView("VirtualMachine")
	if err != nil {
		return view, err
	}
	found, err := s.retrieve(0, filterThrough(view, "VirtualMachine", "name"))
	if err != nil {
		return view, err
	}
	for _, one := range found.Objects {
		if valuesOf(one)["name"] == name {
			return one.Obj, nil
		}
	}
	return view, fmt.Errorf("there is no VM %s", name)
}

// --- checking ---------------------------------------------------------------------------------------------------------

func playInventory(s *stage) {
	if !s.begin() {
		return
	}
	s.check("a container view shows folders, datacenters and VMs with their parents up to the root", func() error {
		view, err := s.containerView("VirtualMachine", "Folder", "Datacenter")
		if err != nil {
			return err
		}
		var specs []types.PropertyFilterSpec
		for _, kind := range []string{"VirtualMachine", "Folder", "Datacenter"} {
			specs = append(specs, filterThrough(view, kind, "name", "parent"))
		}
		found, err := s.retrieve(0, specs...)
		if err != nil {
			return err
		}
		parents := map[types.ManagedObjectReference]types.ManagedObjectReference{}
		for _, one := range found.Objects {
			parents[one.Obj] = valuesOf(one)["parent"].(types.ManagedObjectReference)
		}
		machine, err := s.machine("web")
		if err != nil {
			return err
		}
		steps := 0
		for here := machine; here != s.content.RootFolder; here = parents[here] {
			if steps++; steps > len(parents) {
				return fmt.Errorf("the parents of %s do not lead to %s: %v", machine, s.content.RootFolder, parents)
			}
		}
		return nil
	})
	s.check("a view that was destroyed is not found", func() error {
		view, err := s.containerView("VirtualMachine")
		if err != nil {
			return err
		}
		if _, err := methods.DestroyView(s, s, &types.DestroyView{This: view}); err != nil {
			return err
		}
		_, err = s.retrieve(0, filterThrough(view, "VirtualMachine", "name"))
		fault, err := refused[types.ManagedObjectNotFound](err)
		return first(err, expect("the object", fault.Obj, view))
	})
	s.check("hosts tell their names", func() error {
		machine, err := s.machine("web")
		if err != nil {
			return err
		}
		host, err := value[types.ManagedObjectReference](s, machine, "runtime.host")
		if err != nil {
			return err
		}
		name, err := value[string](s, host, "name")
		return first(err, expect("the name", name, "esxi-1.lab"))
	})
	s.check("a view of distributed port groups is empty where there are none", func() error {
		view, err := s.containerView("DistributedVirtualPortgroup")
		if err != nil {
			return err
		}
		found, err := s.retrieve(0, filterThrough(view, "DistributedVirtualPortgroup", "key", "name"))
		if err != nil {
			return err
		}
		if found != nil {
			return fmt.Errorf("told: %v", found.Objects)
		}
		return nil
	})
}

func playProperties(s *stage) {
	if !s.begin() {
		return
	}
	s.check("every path that XMS reads of a VM can be read by another client", func() error {
		machine, err := s.machine("db")
		if err != nil {
			return err
		}
		values, err := s.read(machine, s.told.MachinePaths...)
		if err != nil {
			return err
		}
		devices, fits := values["config.hardware.device"].(types.ArrayOfVirtualDevice)
		if !fits {
			return fmt.Errorf("the devices are %T", values["config.hardware.device"])
		}
		return first(
			expect("name", values["name"], "db"),
			expect("runtime.powerState", values["runtime.powerState"], types.VirtualMachinePowerStatePoweredOff),
			expect("config.template", values["config.template"], false),
			expect("disks", len(disksOf(devices)), 2),
			checkDisk(disksOf(devices)[2001]),
		)
	})
	s.check("a path that is unset is in no answer", func() error {
		machine, err := s.machine("db")
		if err != nil {
			return err
		}
		values, err := s.read(machine, "snapshot", "name")
		return first(err, expect("values", len(values), 1))
	})
	s.check("pages hold what was asked for, and together everything once", func() error {
		view, err := s.containerView("VirtualMachine")
		if err != nil {
			return err
		}
		page, err := s.retrieve(1, filterThrough(view, "VirtualMachine", "name"))
		names := map[types.AnyType]bool{}
		for err == nil {
			if len(page.Objects) != 1 {
				return fmt.Errorf("a page of %d objects", len(page.Objects))
			}
			names[valuesOf(page.Objects[0])["name"]] = true
			if page.Token == "" {
				return expect("VMs", len(names), 2)
			}
			page, err = s.nextPage(page.Token)
		}
		return err
	})
	s.check("a token is good once, and refused with InvalidArgument after that", func() error {
		view, err := s.containerView("VirtualMachine")
		if err != nil {
			return err
		}
		page, err := s.retrieve(1, filterThrough(view, "VirtualMachine", "name"))
		if err != nil {
			return err
		}
		if _, err := s.nextPage(page.Token); err != nil {
			return err
		}
		_, err = s.nextPage(page.Token)
		fault, err := refused[types.InvalidArgument](err)
		return first(err, expect("the argument", fault.InvalidProperty, "token"))
	})
	s.check("the older call without pages gives everything", func() error {
		view, err := s.containerView("VirtualMachine")
		if err != nil {
			return err
		}
		answer, err := methods.RetrieveProperties(s, s, &types.RetrieveProperties{
			This:    s.content.PropertyCollector,
			SpecSet: []types.PropertyFilterSpec{filterThrough(view, "VirtualMachine", "name")},
		})
		if err != nil {
			return err
		}
		return expect("VMs", len(answer.Returnval), 2)
	})
	s.check("a path that the schema does not have is refused with InvalidProperty, which names it", func() error {
		machine, err := s.machine("web")
		if err != nil {
			return err
		}
		_, err = s.read(machine, "config.hardware.disks")
		fault, err := refused[types.InvalidProperty](err)
		return first(err, expect("the path", fault.Name, "config.hardware.disks"))
	})
	s.check("an object that is gone is refused with ManagedObjectNotFound, which names it", func() error {
		ghost := types.ManagedObjectReference{Type: "VirtualMachine", Value: "vm-99999"}
		_, err := s.read(ghost, "name")
		fault, err := refused[types.ManagedObjectNotFound](err)
		return first(err, expect("the object", fault.Obj, ghost))
	})
}

func (s *stage) nextPage(token string) (*types.RetrieveResult, error) {
	answer, err := methods.ContinueRetrievePropertiesEx(s, s, &types.ContinueRetrievePropertiesEx{
		This:  s.content.PropertyCollector,
		Token: token,
	})
	if err != nil {
		return nil, err
	}
	return &answer.Returnval, nil
}

func disksOf(devices types.ArrayOfVirtualDevice) map[int32]*types.VirtualDisk {
	disks := map[int32]*types.VirtualDisk{}
	for _, device := range devices.VirtualDevice {
		if disk, fits := device.(*types.VirtualDisk); fits {
			disks[disk.Key] = disk
		}
	}
	return disks
}

func checkDisk(disk *types.VirtualDisk) error {
	backing, fits := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	if !fits {
		return fmt.Errorf("the backing is %T", disk.Backing)
	}
	return first(
		expect("the label", disk.DeviceInfo.GetDescription().Label, "Hard disk 2"),
		expect("the capacity in KiB", disk.CapacityInKB*1024, disk.CapacityInBytes),
		expect("the mode", backing.DiskMode, "persistent"),
		expect("the file", backing.FileName, "[ds1] db/db_1.vmdk"),
	)
}

// --- updates ----------------------------------------------------------------------------------------------------------

func (s *stage) watch(object types.ManagedObjectReference, paths ...string) (types.ManagedObjectReference, error) {
	answer, err := methods.CreateFilter(s, s, &types.CreateFilter{
		This: s.content.PropertyCollector,
		Spec: filterOf(object, paths...),
	})
	if err != nil {
		return types.ManagedObjectReference{}, err
	}
	return answer.Returnval, nil
}

// waitForUpdates waits for that many seconds at most; nil is no change.
func (s *stage) waitForUpdates(version string, seconds int32) (*types.UpdateSet, error) {
	answer, err := methods.WaitForUpdatesEx(s, s, &types.WaitForUpdatesEx{
		This:    s.content.PropertyCollector,
		Version: version,
		Options: &types.WaitOptions{MaxWaitSeconds: &seconds},
	})
	if err != nil {
		return nil, err
	}
	return answer.Returnval, nil
}

func playUpdates(s *stage) {
	if !s.begin() {
		return
	}
	const path = "runtime.powerState"
	var machine, filter types.ManagedObjectReference
	version := ""
	s.check("the first wait tells what there is", func() (err error) {
		if machine, err = s.machine("db"); err != nil {
			return err
		}
		if filter, err = s.watch(machine, path); err != nil {
			return err
		}
		set, err := s.waitForUpdates("", 10)
		if err != nil {
			return err
		}
		version = set.Version
		told := set.FilterSet[0].ObjectSet[0]
		return first(
			expect("the filter", set.FilterSet[0].Filter, filter),
			expect("the kind", told.Kind, types.ObjectUpdateKindEnter),
			expect("the value", told.ChangeSet[0].Val, types.VirtualMachinePowerStatePoweredOff),
		)
	})
	s.check("nothing new is told as nothing", func() error {
		set, err := s.waitForUpdates(version, 0)
		if err == nil && set != nil {
			return fmt.Errorf("told: %v", set)
		}
		return err
	})
	s.check("a change is told once, with its value", func() error {
		if _, err := s.powerOn(machine); err != nil {
			return err
		}
		set, err := s.waitForUpdates(version, 10)
		if err != nil {
			return err
		}
		told := set.FilterSet[0].ObjectSet[0]
		return first(
			expect("the kind", told.Kind, types.ObjectUpdateKindModify),
			expect("the operation", told.ChangeSet[0].Op, types.PropertyChangeOpAssign),
			expect("the value", told.ChangeSet[0].Val, types.VirtualMachinePowerStatePoweredOn),
		)
	})
	s.check("a version that was never told is refused with InvalidCollectorVersion", func() error {
		_, err := s.waitForUpdates("9999", 0)
		_, err = refused[types.InvalidCollectorVersion](err)
		return err
	})
	s.check("a filter that was destroyed tells nothing, and the VM goes off again", func() error {
		if _, err := methods.DestroyPropertyFilter(s, s, &types.DestroyPropertyFilter{This: filter}); err != nil {
			return err
		}
		_, err := s.powerOff(machine)
		return err
	})
}
