package main

import (
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// playMalformed makes calls that the schema does not have; each is refused with a fault that govmomi knows.
func playMalformed(s *stage) {
	if !s.begin() {
		return
	}
	s.check("a method of another type of object is refused with MethodNotFound, which names both", func() error {
		_, err := methods.PowerOnVM_Task(s, s, &types.PowerOnVM_Task{This: s.content.RootFolder})
		fault, err := refused[types.MethodNotFound](err)
		return first(
			err,
			expect("the object", fault.Receiver, s.content.RootFolder),
			expect("the method", fault.Method, "PowerOnVM_Task"),
		)
	})
	s.check("a type that does not exist is refused with InvalidType", func() error {
		_, err := s.containerView("Nonsense")
		_, err = refused[types.InvalidType](err)
		return err
	})
	s.check("properties of a type that is no managed object are refused with InvalidType", func() error {
		machine, err := s.machine("web")
		if err != nil {
			return err
		}
		_, err = s.retrieve(0, types.PropertyFilterSpec{
			PropSet:   []types.PropertySpec{{Type: "VirtualDisk", PathSet: []string{"key"}}},
			ObjectSet: []types.ObjectSpec{{Obj: machine}},
		})
		_, err = refused[types.InvalidType](err)
		return err
	})
	s.check("an object of another type than the properties' is told of nothing", func() error {
		machine, err := s.machine("web")
		if err != nil {
			return err
		}
		found, err := s.retrieve(0, types.PropertyFilterSpec{
			PropSet:   []types.PropertySpec{{Type: "HostSystem", PathSet: []string{"name"}}},
			ObjectSet: []types.ObjectSpec{{Obj: machine}},
		})
		return first(err, expect("whether there is an answer", found != nil, false))
	})
	s.check("a reference that names another type than its object's is refused with ManagedObjectNotFound", func() error {
		machine, err := s.machine("web")
		if err != nil {
			return err
		}
		disguised := types.ManagedObjectReference{Type: "HostSystem", Value: machine.Value}
		_, err = s.read(disguised, "name")
		fault, err := refused[types.ManagedObjectNotFound](err)
		return first(err, expect("the object", fault.Obj, disguised))
	})
}
