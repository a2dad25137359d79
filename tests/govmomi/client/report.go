package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

var (
	stdin  = bufio.NewReader(os.Stdin)
	stdout = json.NewEncoder(os.Stdout)
)

// stage is what one scene works with: a connection that keeps account of the calls, and the checks made of them.
type stage struct {
	context.Context
	soap.RoundTripper
	told    scenario
	content types.ServiceContent
	scene   string
	calls   []string
	failed  bool
}

// outcome is one line of the report.
type outcome struct {
	Scene string   `json:"scene"`
	Check string   `json:"check"`
	Calls []string `json:"calls"` // by their names on the wire, in order
	Error string   `json:"error"` // empty when the check passed
}

func newStage(ctx context.Context, scene string, told scenario) (*stage, error) {
	connection, err := newConnection(told)
	if err != nil {
		return nil, err
	}
	s := &stage{Context: ctx, told: told, scene: scene}
	s.RoundTripper = &recorder{connection, s}
	answer, err := methods.RetrieveServiceContent(s, s, &types.RetrieveServiceContent{
		This: types.ManagedObjectReference{Type: "ServiceInstance", Value: "ServiceInstance"},
	})
	if err != nil {
		return nil, err
	}
	s.content = answer.Returnval
	return s, nil
}

// check runs one check and tells what came of it; the scene goes on, whatever that was.
func (s *stage) check(what string, try func() error) {
	s.calls = nil
	told := outcome{Scene: s.scene, Check: what}
	if err := attempt(try); err != nil {
		told.Error = err.Error()
		s.failed = true
	}
	told.Calls = s.calls
	if err := stdout.Encode(told); err != nil {
		panic(err)
	}
}

// attempt makes an error of a panic, such as that of a field which is not there.
func attempt(try func() error) (err error) {
	defer func() {
		if found := recover(); found != nil {
			err = fmt.Errorf("broke: %v", found)
		}
	}()
	return try()
}

// ask has the other end of stdin do something to the server.
func (s *stage) ask(wish string, arguments ...int64) {
	if err := stdout.Encode(map[string]any{"ask": wish, "arguments": arguments}); err != nil {
		panic(err)
	}
	if _, err := readLine(); err != nil {
		panic(fmt.Errorf("%q was not answered: %w", wish, err))
	}
}

func readLine() (string, error) {
	return stdin.ReadString('\n')
}

// recorder passes calls on and keeps their names.
type recorder struct {
	soap.RoundTripper
	stage *stage
}

func (r *recorder) RoundTrip(ctx context.Context, request, response soap.HasFault) error {
	name := strings.TrimSuffix(reflect.TypeOf(request).Elem().Name(), "Body")
	r.stage.calls = append(r.stage.calls, name)
	return r.RoundTripper.RoundTrip(ctx, request, response)
}

// refused gives the typed fault that a call was answered with; an error where it was answered otherwise.
func refused[T any](err error) (T, error) {
	var none T
	if err == nil {
		return none, fmt.Errorf("was not refused, but should be with %T", none)
	}
	if !soap.IsSoapFault(err) {
		return none, fmt.Errorf("failed without a fault, but should with %T: %w", none, err)
	}
	found := soap.ToSoapFault(err).VimFault()
	fault, fits := found.(T)
	if !fits {
		return none, fmt.Errorf("was refused with %T, but should be with %T: %w", found, none, err)
	}
	return fault, nil
}

// expect makes an error where two values differ, in their type or otherwise.
func expect(what string, found, wanted any) error {
	if found != wanted {
		return fmt.Errorf("%s is %#v, and should be %#v", what, found, wanted)
	}
	return nil
}

// first gives the first error of several.
func first(errors ...error) error {
	for _, err := range errors {
		if err != nil {
			return err
		}
	}
	return nil
}
