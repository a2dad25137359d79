// Plays every call that XMS makes of vSphere against a server, with govmomi's types, and tells what came of each check.
//
// It answers one question: does the server speak as the schema says, to a client that shares no code with it? So it calls
// govmomi's generated methods directly, and none of the convenience around them.
//
// The server is the stand-in vCenter over machines in memory. What only the outside of the server can do (drop its
// sessions, write to a disk) is asked for: one JSON line {"ask": ...} on stdout, one line on stdin when it is done.
// Each check is one JSON line as well; see report.go. The exit code is 1 when a check failed.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"time"

	"github.com/vmware/govmomi/vim25/soap"
)

const patience = 2 * time.Minute

// scenario is what the client is told on its first line of stdin. The password comes this way because argv is public.
type scenario struct {
	Address       string   // host:port
	Certificate   string   // PEM file with the server's own certificate
	User          string   // who logs in
	Password      string   //
	Version       string   // of the API, such as 7.0
	MachinePaths  []string // what XMS reads of a VM
	SnapshotPaths []string // what XMS reads of a snapshot
}

// The parts of the API in the order in which they are played; each begins with a session of its own.
var scenes = []struct {
	name string
	play func(*stage)
}{
	{"sessions", playSessions},
	{"expiry", playExpiry},
	{"inventory", playInventory},
	{"properties", playProperties},
	{"updates", playUpdates},
	{"power", playPower},
	{"settings", playSettings},
	{"snapshots", playSnapshots},
	{"change tracking", playChangeTracking},
	{"malformed", playMalformed},
}

func main() {
	line, err := readLine()
	if err != nil {
		fmt.Fprintln(os.Stderr, "no scenario on stdin:", err)
		os.Exit(2)
	}
	var told scenario
	if err := json.Unmarshal([]byte(line), &told); err != nil {
		fmt.Fprintln(os.Stderr, "the scenario is no JSON:", err)
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	passed := true
	for _, one := range scenes {
		s, err := newStage(ctx, one.name, told)
		if err != nil {
			fmt.Fprintln(os.Stderr, one.name+":", err)
			os.Exit(2)
		}
		one.play(s)
		passed = passed && !s.failed
	}
	if !passed {
		os.Exit(1)
	}
}

// newConnection makes a client that believes the server's own certificate and nothing else.
func newConnection(told scenario) (*soap.Client, error) {
	connection := soap.NewClient(&url.URL{Scheme: "https", Host: told.Address, Path: "/sdk"}, false)
	if err := connection.SetRootCAs(told.Certificate); err != nil {
		return nil, err
	}
	connection.Namespace = "urn:vim25"
	connection.Version = told.Version
	return connection, nil
}
