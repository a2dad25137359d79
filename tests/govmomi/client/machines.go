package main

import (
	"fmt"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// --- tasks ------------------------------------------------------------------------------------------------------------

// finished waits until a task has ended. Its failure is in the TaskInfo; the error is that of watching it.
func (s *stage) finished(task types.ManagedObjectReference) (types.TaskInfo, error) {
	for {
		info, err := value[types.TaskInfo](s, task, "info")
		if err != nil {
			return info, err
		}
		if info.State == types.TaskInfoStateSuccess || info.State == types.TaskInfoStateError {
			return info, nil
		}
		select {
		case <-s.Done():
			return info, s.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// succeeded waits for a task and gives its result.
func (s *stage) succeeded(task types.ManagedObjectReference) (types.AnyType, error) {
	info, err := s.finished(task)
	if err != nil {
		return nil, err
	}
	if info.Error != nil {
		return nil, fmt.Errorf("task %s failed: %T %s", info.DescriptionId, info.Error.Fault, info.Error.LocalizedMessage)
	}
	return info.Result, first(
		expect("the state", info.State, types.TaskInfoStateSuccess),
		expect("whether the end is told", info.CompleteTime != nil, true),
	)
}

// failed waits for a task and gives the typed fault that it ended with.
func failed[T any](s *stage, task types.ManagedObjectReference) (T, error) {
	var none T
	info, err := s.finished(task)
	if err != nil {
		return none, err
	}
	if info.Error == nil {
		return none, fmt.Errorf("task %s succeeded, and should fail with %T", info.DescriptionId, none)
	}
	fault, fits := any(info.Error.Fault).(T)
	if !fits {
		return none, fmt.Errorf("task %s failed with %T, and should with %T", info.DescriptionId, info.Error.Fault, none)
	}
	return fault, nil
}

// --- power ------------------------------------------------------------------------------------------------------------

func (s *stage) powerOn(machine types.ManagedObjectReference) (types.AnyType, error) {
	answer, err := methods.PowerOnVM_Task(s, s, &types.PowerOnVM_Task{This: machine})
	if err != nil {
		return nil, err
	}
	return s.succeeded(answer.Returnval)
}

func (s *stage) powerOff(machine types.ManagedObjectReference) (types.AnyType, error) {
	answer, err := methods.PowerOffVM_Task(s, s, &types.PowerOffVM_Task{This: machine})
	if err != nil {
		return nil, err
	}
	return s.succeeded(answer.Returnval)
}

func (s *stage) shutdown(machine types.ManagedObjectReference) error {
	_, err := methods.ShutdownGuest(s, s, &types.ShutdownGuest{This: machine})
	return err
}

func (s *stage) powerState(machine types.ManagedObjectReference) (types.VirtualMachinePowerState, error) {
	return value[types.VirtualMachinePowerState](s, machine, "runtime.powerState")
}

func playPower(s *stage) {
	if !s.begin() {
		return
	}
	var web, db types.ManagedObjectReference
	s.check("a VM is powered on by a task", func() (err error) {
		if web, err = s.machine("web"); err != nil {
			return err
		}
		if db, err = s.machine("db"); err != nil {
			return err
		}
		if _, err = s.powerOn(web); err != nil {
			return err
		}
		state, err := s.powerState(web)
		return first(err, expect("the state", state, types.VirtualMachinePowerStatePoweredOn))
	})
	s.check("the task is among the VM's recent ones, and names it", func() error {
		tasks, err := value[types.ArrayOfManagedObjectReference](s, web, "recentTask")
		if err != nil {
			return err
		}
		last := tasks.ManagedObjectReference[len(tasks.ManagedObjectReference)-1]
		info, err := s.finished(last)
		if err != nil {
			return err
		}
		return first(
			expect("the entity", *info.Entity, web),
			expect("the task", info.DescriptionId, "VirtualMachine.powerOn"),
		)
	})
	s.check("a power-on of a VM that runs fails with InvalidPowerState, which tells the state", func() error {
		answer, err := methods.PowerOnVM_Task(s, s, &types.PowerOnVM_Task{This: web})
		if err != nil {
			return err
		}
		fault, err := failed[*types.InvalidPowerState](s, answer.Returnval)
		if err != nil {
			return err
		}
		return expect("the state", fault.ExistingState, types.VirtualMachinePowerStatePoweredOn)
	})
	s.check("a guest with tools shuts down when asked", func() error {
		if err := s.shutdown(web); err != nil {
			return err
		}
		state, err := s.powerState(web)
		return first(err, expect("the state", state, types.VirtualMachinePowerStatePoweredOff))
	})
	s.check("a guest that is off cannot be asked: InvalidPowerState", func() error {
		_, err := refused[types.InvalidPowerState](s.shutdown(web))
		return err
	})
	s.check("a power-off of a VM that is off fails with InvalidPowerState", func() error {
		answer, err := methods.PowerOffVM_Task(s, s, &types.PowerOffVM_Task{This: web})
		if err != nil {
			return err
		}
		fault, err := failed[*types.InvalidPowerState](s, answer.Returnval)
		if err != nil {
			return err
		}
		return expect("the state", fault.ExistingState, types.VirtualMachinePowerStatePoweredOff)
	})
	s.check("a guest without tools cannot be asked: ToolsUnavailable", func() error {
		if _, err := s.powerOn(db); err != nil {
			return err
		}
		_, err := refused[types.ToolsUnavailable](s.shutdown(db))
		return err
	})
	s.check("it is powered off hard", func() error {
		if _, err := s.powerOff(db); err != nil {
			return err
		}
		state, err := s.powerState(db)
		return first(err, expect("the state", state, types.VirtualMachinePowerStatePoweredOff))
	})
}

// --- settings ---------------------------------------------------------------------------------------------------------

func (s *stage) reconfigure(machine types.ManagedObjectReference, spec types.VirtualMachineConfigSpec) error {
	answer, err := methods.ReconfigVM_Task(s, s, &types.ReconfigVM_Task{This: machine, Spec: spec})
	if err != nil {
		return err
	}
	_, err = s.succeeded(answer.Returnval)
	return err
}

func playSettings(s *stage) {
	if !s.begin() {
		return
	}
	var web types.ManagedObjectReference
	s.check("the annotation is written, with what XML has to escape", func() (err error) {
		if web, err = s.machine("web"); err != nil {
			return err
		}
		const text = "migrated <by> \"xms\" & läuft\nsince today"
		if err := s.reconfigure(web, types.VirtualMachineConfigSpec{Annotation: text}); err != nil {
			return err
		}
		written, err := value[string](s, web, "config.annotation")
		return first(err, expect("the annotation", written, text))
	})
	s.check("change tracking is turned on, and nothing else changes", func() error {
		before, err := s.read(web, "config.annotation", "config.name", "config.hardware.numCPU")
		if err != nil {
			return err
		}
		if err := s.trackChanges(web, true); err != nil {
			return err
		}
		enabled, err := value[bool](s, web, "config.changeTrackingEnabled")
		if err != nil {
			return err
		}
		after, err := s.read(web, "config.annotation", "config.name", "config.hardware.numCPU")
		if err != nil {
			return err
		}
		for path, was := range before {
			if err := expect(path, after[path], was); err != nil {
				return err
			}
		}
		return expect("changeTrackingEnabled", enabled, true)
	})
	s.check("it is turned off again", func() error {
		if err := s.trackChanges(web, false); err != nil {
			return err
		}
		enabled, err := value[bool](s, web, "config.changeTrackingEnabled")
		return first(err, expect("changeTrackingEnabled", enabled, false))
	})
}

func (s *stage) trackChanges(machine types.ManagedObjectReference, enabled bool) error {
	return s.reconfigure(machine, types.VirtualMachineConfigSpec{ChangeTrackingEnabled: &enabled})
}
