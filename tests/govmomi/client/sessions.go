package main

import (
	"fmt"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

var serviceInstance = types.ManagedObjectReference{Type: "ServiceInstance", Value: "ServiceInstance"}

func (s *stage) login(password string) (*types.LoginResponse, error) {
	return methods.Login(s, s, &types.Login{
		This:     *s.content.SessionManager,
		UserName: s.told.User,
		Password: password,
	})
}

// begin logs in; what follows in a scene needs it, so that without it there is nothing to check.
func (s *stage) begin() bool {
	s.check("log in", func() error {
		_, err := s.login(s.told.Password)
		return err
	})
	return !s.failed
}

func (s *stage) currentTime() error {
	_, err := methods.CurrentTime(s, s, &types.CurrentTime{This: serviceInstance})
	return err
}

func playSessions(s *stage) {
	s.check("the service content is told without a session", func() error {
		answer, err := methods.RetrieveServiceContent(s, s, &types.RetrieveServiceContent{This: serviceInstance})
		if err != nil {
			return err
		}
		return first(
			expect("apiType", answer.Returnval.About.ApiType, "VirtualCenter"),
			expect("the root folder's type", answer.Returnval.RootFolder.Type, "Folder"),
		)
	})
	s.check("a call without a session is refused with NotAuthenticated, which names the object", func() error {
		fault, err := refused[types.NotAuthenticated](s.currentTime())
		return first(err, expect("the object", fault.Object, serviceInstance))
	})
	s.check("a wrong password is refused with InvalidLogin", func() error {
		_, err := s.login(s.told.Password + " and more")
		_, err = refused[types.InvalidLogin](err)
		return err
	})
	s.check("a log-in tells who is logged in", func() error {
		answer, err := s.login(s.told.Password)
		if err != nil {
			return err
		}
		return expect("userName", answer.Returnval.UserName, s.told.User)
	})
	s.check("a second log-in on the same session is refused with InvalidLogin", func() error {
		_, err := s.login(s.told.Password)
		_, err = refused[types.InvalidLogin](err)
		return err
	})
	s.check("the server's clock is told in UTC", func() error {
		answer, err := methods.CurrentTime(s, s, &types.CurrentTime{This: serviceInstance})
		if err != nil {
			return err
		}
		if apart := time.Since(answer.Returnval).Abs(); apart > time.Minute {
			return fmt.Errorf("it is %s off", apart)
		}
		_, offset := answer.Returnval.Zone()
		return expect("the offset", offset, 0)
	})
	if s.content.AuthorizationManager != nil {
		s.check("the account's privileges are told, one by one", s.tellsPrivileges)
	}
	s.check("after the log-out the session is gone", func() error {
		if _, err := methods.Logout(s, s, &types.Logout{This: *s.content.SessionManager}); err != nil {
			return err
		}
		_, err := refused[types.NotAuthenticated](s.currentTime())
		return err
	})
}

func (s *stage) tellsPrivileges() error {
	session, err := value[types.UserSession](s, *s.content.SessionManager, "currentSession")
	if err != nil {
		return err
	}
	wanted := []string{"System.View", "VirtualMachine.State.CreateSnapshot"}
	answer, err := methods.HasPrivilegeOnEntities(s, s, &types.HasPrivilegeOnEntities{
		This:      *s.content.AuthorizationManager,
		Entity:    []types.ManagedObjectReference{s.content.RootFolder},
		SessionId: session.Key,
		PrivId:    wanted,
	})
	if err != nil {
		return err
	}
	told := answer.Returnval[0]
	for at, privilege := range wanted {
		if err := first(
			expect("the privilege", told.PrivAvailability[at].PrivId, privilege),
			expect(privilege, told.PrivAvailability[at].IsGranted, true),
		); err != nil {
			return err
		}
	}
	return expect("the entity", told.Entity, s.content.RootFolder)
}

// playExpiry sees what a client meets whose session ended while it was at work.
func playExpiry(s *stage) {
	if !s.begin() {
		return
	}
	var view, filter types.ManagedObjectReference
	var machine types.ManagedObjectReference
	s.check("objects of a session are made", func() (err error) {
		if machine, err = s.machine("web"); err != nil {
			return err
		}
		if view, err = s.containerView("VirtualMachine"); err != nil {
			return err
		}
		filter, err = s.watch(machine, "runtime.powerState")
		return err
	})
	s.ask("drop the sessions")
	s.check("a method is refused with NotAuthenticated, which names the object", func() error {
		_, err := methods.PowerOnVM_Task(s, s, &types.PowerOnVM_Task{This: machine})
		fault, err := refused[types.NotAuthenticated](err)
		return first(err, expect("the object", fault.Object, machine))
	})
	s.check("a method of an object that died with the session is refused with NotAuthenticated too", func() error {
		_, err := methods.DestroyView(s, s, &types.DestroyView{This: view})
		_, err = refused[types.NotAuthenticated](err)
		return err
	})
	s.check("a wait for updates is refused with NotAuthenticated", func() error {
		_, err := s.waitForUpdates("", 0)
		_, err = refused[types.NotAuthenticated](err)
		return err
	})
	s.check("properties are told as missing, each with NotAuthenticated, and the call does not fail", func() error {
		found, err := s.retrieve(0, filterOf(machine, "name", "snapshot"))
		if err != nil {
			return err
		}
		missing := found.Objects[0].MissingSet
		if len(found.Objects[0].PropSet) != 0 || len(missing) != 2 {
			return fmt.Errorf("told: %v, missing: %v", found.Objects[0].PropSet, missing)
		}
		if _, fits := missing[0].Fault.Fault.(*types.NotAuthenticated); !fits {
			return fmt.Errorf("missing with %T", missing[0].Fault.Fault)
		}
		return expect("the path", missing[0].Path, "name")
	})
	s.check("a read through a view that died with the session is refused with ManagedObjectNotFound", func() error {
		_, err := s.retrieve(0, filterThrough(view, "VirtualMachine", "name"))
		fault, err := refused[types.ManagedObjectNotFound](err)
		return first(err, expect("the object", fault.Obj, view))
	})
	s.check("after another log-in the same connection works", func() error {
		if _, err := s.login(s.told.Password); err != nil {
			return err
		}
		return s.currentTime()
	})
	s.check("another session does not see the dead one's view", func() error {
		_, err := methods.DestroyView(s, s, &types.DestroyView{This: view})
		_, err = refused[types.ManagedObjectNotFound](err)
		return err
	})
	s.check("another session does not see the dead one's filter", func() error {
		_, err := methods.DestroyPropertyFilter(s, s, &types.DestroyPropertyFilter{This: filter})
		_, err = refused[types.ManagedObjectNotFound](err)
		return err
	})
}
