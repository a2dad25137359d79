package main

import (
	"fmt"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

func (s *stage) snapshotOf(machine types.ManagedObjectReference, name string) (types.ManagedObjectReference, error) {
	answer, err := methods.CreateSnapshot_Task(s, s, &types.CreateSnapshot_Task{This: machine, Name: name})
	if err != nil {
		return types.ManagedObjectReference{}, err
	}
	result, err := s.succeeded(answer.Returnval)
	if err != nil {
		return types.ManagedObjectReference{}, err
	}
	snapshot, fits := result.(types.ManagedObjectReference)
	if !fits {
		return snapshot, fmt.Errorf("the task's result is %T", result)
	}
	return snapshot, expect("the type", snapshot.Type, "VirtualMachineSnapshot")
}

func (s *stage) remove(snapshot types.ManagedObjectReference) error {
	answer, err := methods.RemoveSnapshot_Task(s, s, &types.RemoveSnapshot_Task{
		This:        snapshot,
		Consolidate: types.NewBool(true),
	})
	if err != nil {
		return err
	}
	_, err = s.succeeded(answer.Returnval)
	return err
}

func playSnapshots(s *stage) {
	if !s.begin() {
		return
	}
	var web, older, younger types.ManagedObjectReference
	s.check("a snapshot is made by a task, whose result it is", func() (err error) {
		if web, err = s.machine("web"); err != nil {
			return err
		}
		older, err = s.snapshotOf(web, "of somebody else")
		return err
	})
	s.check("a quiesced one with a description is made as well", func() error {
		answer, err := methods.CreateSnapshot_Task(s, s, &types.CreateSnapshot_Task{
			This:        web,
			Name:        "xms-job",
			Description: "XMS reads from it",
			Quiesce:     true,
		})
		if err != nil {
			return err
		}
		result, err := s.succeeded(answer.Returnval)
		if err != nil {
			return err
		}
		younger = result.(types.ManagedObjectReference)
		return nil
	})
	s.check("the VM's tree has both, the younger below the older, with name and time", func() error {
		info, err := value[types.VirtualMachineSnapshotInfo](s, web, "snapshot")
		if err != nil {
			return err
		}
		root := info.RootSnapshotList[0]
		child := root.ChildSnapshotList[0]
		return first(
			expect("the current one", *info.CurrentSnapshot, younger),
			expect("the root", root.Snapshot, older),
			expect("its name", root.Name, "of somebody else"),
			expect("the child", child.Snapshot, younger),
			expect("its name", child.Name, "xms-job"),
			expect("its description", child.Description, "XMS reads from it"),
			expect("whether its time is near", time.Since(child.CreateTime).Abs() < time.Minute, true),
		)
	})
	s.check("every path that XMS reads of a snapshot can be read by another client", func() error {
		values, err := s.read(younger, s.told.SnapshotPaths...)
		if err != nil {
			return err
		}
		return expect("values", len(values), len(s.told.SnapshotPaths))
	})
	s.check("a snapshot's disk is the file that it froze, and the VM writes to another", func() error {
		frozen, err := s.fileOf(younger)
		if err != nil {
			return err
		}
		live, err := s.fileOf(web)
		if err != nil {
			return err
		}
		return first(
			expect("the frozen file", frozen, "[ds1] web/web-000001.vmdk"),
			expect("the live file", live, "[ds1] web/web-000002.vmdk"),
		)
	})
	s.check("a snapshot without a name is refused with InvalidArgument", func() error {
		_, err := methods.CreateSnapshot_Task(s, s, &types.CreateSnapshot_Task{This: web})
		fault, err := refused[types.InvalidArgument](err)
		return first(err, expect("the argument", fault.InvalidProperty, "name"))
	})
	s.check("a snapshot is removed by a task", func() error {
		if err := s.remove(younger); err != nil {
			return err
		}
		info, err := value[types.VirtualMachineSnapshotInfo](s, web, "snapshot")
		return first(err, expect("the current one", *info.CurrentSnapshot, older))
	})
	s.check("one that was removed cannot be removed again: ManagedObjectNotFound", func() error {
		_, err := methods.RemoveSnapshot_Task(s, s, &types.RemoveSnapshot_Task{This: younger})
		fault, err := refused[types.ManagedObjectNotFound](err)
		return first(err, expect("the object", fault.Obj, younger))
	})
	s.check("after the last one is gone the VM's tree is unset", func() error {
		if err := s.remove(older); err != nil {
			return err
		}
		values, err := s.read(web, "snapshot")
		return first(err, expect("values", len(values), 0))
	})
	s.check("disks that need it are consolidated by a task", func() error {
		s.ask("need consolidation")
		needed, err := value[bool](s, web, "runtime.consolidationNeeded")
		if err := first(err, expect("consolidationNeeded before", needed, true)); err != nil {
			return err
		}
		answer, err := methods.ConsolidateVMDisks_Task(s, s, &types.ConsolidateVMDisks_Task{This: web})
		if err != nil {
			return err
		}
		if _, err := s.succeeded(answer.Returnval); err != nil {
			return err
		}
		needed, err = value[bool](s, web, "runtime.consolidationNeeded")
		return first(err, expect("consolidationNeeded after", needed, false))
	})
}

// fileOf gives the datastore path of the first disk of a VM or of a snapshot.
func (s *stage) fileOf(object types.ManagedObjectReference) (string, error) {
	backing, err := s.backingOf(object)
	if err != nil {
		return "", err
	}
	return backing.FileName, nil
}

func (s *stage) backingOf(object types.ManagedObjectReference) (*types.VirtualDiskFlatVer2BackingInfo, error) {
	devices, err := value[types.ArrayOfVirtualDevice](s, object, "config.hardware.device")
	if err != nil {
		return nil, err
	}
	backing, fits := disksOf(devices)[firstDisk].Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	if !fits {
		return nil, fmt.Errorf("the backing is of another type")
	}
	return backing, nil
}
