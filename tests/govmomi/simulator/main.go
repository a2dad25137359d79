// Serves govmomi's vCenter simulator (vcsim) over TLS, as a server that shares no code with XMS and its lab.
//
// On stdin: one JSON line with the certificate and the password. On stdout: one JSON line with the address. It ends when
// its stdin does.
package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"io"
	"log"
	"net/url"
	"os"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

type settings struct {
	Certificate   string  // PEM file with certificate and key
	User          string  // who may log in
	Password      string  //
	IdleSeconds   float64 // after which a session ends; 0 is never
	Datacenters   int     //
	Machines      int     // in each cluster and on each host that is in none
	VirtualSwitch int     // distributed port groups in each datacenter
}

// corrections mends what vcsim says against the schema, of the objects that it makes while it runs.
type corrections struct{}

func (corrections) Reference() types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: "Corrections", Value: "corrections"}
}

// PutObject gives the task that removes a snapshot the VM as its entity, as vCenter does. vcsim has the snapshot there,
// which is no ManagedEntity (TaskInfo.entity), so that clients with typed references cannot read such a task.
func (corrections) PutObject(made mo.Reference) {
	task, isTask := made.(*simulator.Task)
	if !isTask || task.Info.Entity == nil {
		return
	}
	if snapshot, isSnapshot := simulator.Map.Get(*task.Info.Entity).(*simulator.VirtualMachineSnapshot); isSnapshot {
		task.Info.Entity = &snapshot.Vm
	}
}

func (corrections) UpdateObject(mo.Reference, []types.PropertyChange) {}

func (corrections) RemoveObject(types.ManagedObjectReference) {}

func main() {
	stdin := bufio.NewReader(os.Stdin)
	line, err := stdin.ReadBytes('\n')
	if err != nil {
		log.Fatal("no settings on stdin: ", err)
	}
	var told settings
	if err := json.Unmarshal(line, &told); err != nil {
		log.Fatal("the settings are no JSON: ", err)
	}
	certificate, err := tls.LoadX509KeyPair(told.Certificate, told.Certificate)
	if err != nil {
		log.Fatal(err)
	}

	simulator.SessionIdleTimeout = time.Duration(told.IdleSeconds * float64(time.Second))
	model := simulator.VPX()
	model.Datacenter = told.Datacenters
	model.Machine = told.Machines
	model.Portgroup = told.VirtualSwitch
	defer model.Remove()
	if err := model.Create(); err != nil {
		log.Fatal(err)
	}
	simulator.Map.AddHandler(corrections{})
	model.Service.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	model.Service.Listen = &url.URL{Host: "127.0.0.1:0", User: url.UserPassword(told.User, told.Password)}
	server := model.Service.NewServer()
	defer server.Close()

	if err := json.NewEncoder(os.Stdout).Encode(map[string]string{"address": server.URL.Host}); err != nil {
		log.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, stdin)
}
