package main

import (
	"fmt"
	"strings"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

const (
	firstDisk = 2000
	capacity  = 1 << 30
	grain     = 64 << 10
	everyByte = "*"
)

type question struct {
	machine  types.ManagedObjectReference
	snapshot *types.ManagedObjectReference
	disk     int32
	since    string
}

func (s *stage) changedAreas(q question, offset int64) (types.DiskChangeInfo, error) {
	answer, err := methods.QueryChangedDiskAreas(s, s, &types.QueryChangedDiskAreas{
		This:        q.machine,
		Snapshot:    q.snapshot,
		DeviceKey:   q.disk,
		StartOffset: offset,
		ChangeId:    q.since,
	})
	if err != nil {
		return types.DiskChangeInfo{}, err
	}
	return answer.Returnval, nil
}

// allChanges goes through every page; it gives the areas, and how many pages were empty.
func (s *stage) allChanges(q question) (areas []types.DiskChangeExtent, pages, empty int, err error) {
	for offset := int64(0); offset < capacity; pages++ {
		page, err := s.changedAreas(q, offset)
		if err != nil {
			return nil, 0, 0, err
		}
		if page.StartOffset != offset || page.Length <= 0 {
			return nil, 0, 0, fmt.Errorf("asked from %d, answered from %d for %d", offset, page.StartOffset, page.Length)
		}
		if len(page.ChangedArea) == 0 {
			empty++
		}
		areas = append(areas, page.ChangedArea...)
		offset += page.Length
	}
	return areas, pages, empty, nil
}

func playChangeTracking(s *stage) {
	if !s.begin() {
		return
	}
	var web types.ManagedObjectReference
	var baseline, second types.ManagedObjectReference
	var q question
	s.check("without change tracking the question fails with FileFault, which names the file", func() (err error) {
		if web, err = s.machine("web"); err != nil {
			return err
		}
		snapshot, err := s.snapshotOf(web, "untracked")
		if err != nil {
			return err
		}
		_, err = s.changedAreas(question{web, &snapshot, firstDisk, everyByte}, 0)
		fault, err := refused[types.FileFault](err)
		return first(err, expect("whether a file is named", strings.HasSuffix(fault.File, ".vmdk"), true), s.remove(snapshot))
	})
	s.check("turned on, the snapshot's disk has a change id", func() (err error) {
		if err = s.trackChanges(web, true); err != nil {
			return err
		}
		if _, err = s.powerOn(web); err != nil {
			return err
		}
		s.ask("write", 5*grain, 9*grain)
		if baseline, err = s.snapshotOf(web, "first"); err != nil {
			return err
		}
		backing, err := s.backingOf(baseline)
		if err != nil {
			return err
		}
		q = question{web, &baseline, firstDisk, everyByte}
		if !strings.Contains(backing.ChangeId, "/") {
			return fmt.Errorf("the change id is %q", backing.ChangeId)
		}
		return nil
	})
	s.check("the allocated areas are what was written", func() error {
		areas, _, _, err := s.allChanges(q)
		return first(err, expect("the areas", fmt.Sprint(startsOf(areas)), fmt.Sprint([]int64{5, 9})))
	})
	s.check("the areas since a change id are what was written since", func() error {
		backing, err := s.backingOf(baseline)
		if err != nil {
			return err
		}
		s.ask("write", 1*grain, 3*grain, 7*grain, 16383*grain)
		if second, err = s.snapshotOf(web, "second"); err != nil {
			return err
		}
		q = question{web, &second, firstDisk, backing.ChangeId}
		areas, pages, _, err := s.allChanges(q)
		return first(
			err,
			expect("the areas", fmt.Sprint(startsOf(areas)), fmt.Sprint([]int64{1, 3, 7, 16383})),
			expect("pages", pages, 1),
		)
	})
	s.check("pages that hold less than everything lead to the end", func() error {
		s.ask("set the page size", 2)
		defer s.ask("set the page size", 2000)
		areas, pages, _, err := s.allChanges(q)
		return first(
			err,
			expect("the areas", fmt.Sprint(startsOf(areas)), fmt.Sprint([]int64{1, 3, 7, 16383})),
			expect("pages", pages, 2),
		)
	})
	s.check("a page without areas is not the end", func() error {
		s.ask("give empty pages", 1)
		defer s.ask("give empty pages", 0)
		areas, _, empty, err := s.allChanges(q)
		return first(
			err,
			expect("the areas", fmt.Sprint(startsOf(areas)), fmt.Sprint([]int64{1, 3, 7, 16383})),
			expect("whether pages were empty", empty > 0, true),
		)
	})
	for _, offset := range []int64{capacity, capacity + grain, -1} {
		offset := offset
		s.check(fmt.Sprintf("an offset of %d is refused with InvalidArgument: startOffset", offset), func() error {
			_, err := s.changedAreas(q, offset)
			fault, err := refused[types.InvalidArgument](err)
			return first(err, expect("the argument", fault.InvalidProperty, "startOffset"))
		})
	}
	s.check("a change id of another epoch is refused with InvalidArgument: changeId", func() error {
		other := q
		other.since = "52 00 11 22 33 44 55 66-77 88 99 aa bb cc dd ee/1"
		_, err := s.changedAreas(other, 0)
		fault, err := refused[types.InvalidArgument](err)
		return first(err, expect("the argument", fault.InvalidProperty, "changeId"))
	})
	s.check("a disk that is not there is refused with InvalidArgument: deviceKey", func() error {
		other := q
		other.disk = 2999
		_, err := s.changedAreas(other, 0)
		fault, err := refused[types.InvalidArgument](err)
		return first(err, expect("the argument", fault.InvalidProperty, "deviceKey"))
	})
	s.check("the live disk of a VM that runs is refused with FileFault", func() error {
		live := q
		live.snapshot = nil
		_, err := s.changedAreas(live, 0)
		_, err = refused[types.FileFault](err)
		return err
	})
	s.check("a snapshot that is gone is refused with ManagedObjectNotFound", func() error {
		if err := first(s.remove(second), s.remove(baseline)); err != nil {
			return err
		}
		_, err := s.changedAreas(q, 0)
		fault, err := refused[types.ManagedObjectNotFound](err)
		return first(err, expect("the object", fault.Obj, second))
	})
	s.check("the VM is as it was", func() error {
		_, err := s.powerOff(web)
		return first(err, s.trackChanges(web, false))
	})
}

// startsOf gives the areas' starts in grains.
func startsOf(areas []types.DiskChangeExtent) []int64 {
	var starts []int64
	for _, area := range areas {
		starts = append(starts, area.Start/grain)
	}
	return starts
}
