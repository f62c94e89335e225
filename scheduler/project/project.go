// Package project shows what the scheduler knows as the read-only API objects Instance, Agent and Address. Pure.
package project

import (
	"crypto/sha1" //nolint:gosec // version 5 UUIDs are defined on it; nothing is protected by it
	"fmt"
	"maps"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/record"
)

// States of an Agent.
const (
	StateActive      = "Active"
	StateInactive    = "Inactive"
	StateUnreachable = "Unreachable"
	StateDraining    = "Draining"
	StateDrained     = "Drained"
)

// phases are the words for the phases of a record.
var phases = map[padisv1.Phase]string{
	padisv1.Phase_PENDING:     "Pending",
	padisv1.Phase_BACKOFF:     "BackOff",
	padisv1.Phase_STAGING:     "Staging",
	padisv1.Phase_STARTING:    "Starting",
	padisv1.Phase_RUNNING:     "Running",
	padisv1.Phase_STOPPING:    "Stopping",
	padisv1.Phase_UNREACHABLE: "Unreachable",
	padisv1.Phase_RETIRED:     "Retired",
	padisv1.Phase_ADOPTING:    "Adopting",
}

// Phase is the word for a phase. A record that has none, or one of a newer version, is Pending: it needs the
// scheduler's attention.
func Phase(p padisv1.Phase) string {
	if word, ok := phases[p]; ok {
		return word
	}
	return phases[padisv1.Phase_PENDING]
}

// InstanceName is the name of the instance in a slot of an App, unique in the App's namespace.
func InstanceName(app string, slot int32) string { return fmt.Sprintf("%s-%d", app, slot) }

// Instance shows one record. refusals are those of the last attempt to place it, labels those of its template; both are
// copied.
func Instance(rec *padisv1.InstanceRecord, refusals map[string]int32, labels map[string]string) *runtime.Instance {
	out := &runtime.Instance{
		TypeMeta: typeMeta("Instance"),
		ObjectMeta: metav1.ObjectMeta{
			Name:              InstanceName(rec.GetApp(), rec.GetSlot()),
			Namespace:         rec.GetNamespace(),
			UID:               uid("instance", rec.GetAppUid(), fmt.Sprint(rec.GetSlot())),
			CreationTimestamp: creation(rec.GetCreatedMs()),
			Labels:            make(map[string]string, len(labels)+1),
		},
		Status: runtime.InstanceStatus{
			App:       rec.GetApp(),
			Slot:      rec.GetSlot(),
			Phase:     Phase(rec.GetPhase()),
			Ready:     rec.GetReady(),
			Host:      rec.GetHostname(),
			Agent:     rec.GetAgentId(),
			Addresses: append([]string(nil), rec.GetAddresses()...),
			TaskID:    rec.GetTaskId(),
			Executor:  rec.GetExecutorId(),
			Revision:  rec.GetRevision(),
			Restarts:  rec.GetRestarts(),
			Reason:    rec.GetReason(),
			Message:   rec.GetMessage(),
			Refusals:  maps.Clone(refusals),
			StartedAt: moment(rec.GetRunningMs()),
			ReadyAt:   moment(rec.GetReadyMs()),

			Container:   rec.GetContainer(),
			ImageDigest: rec.GetImageDigest(),
		},
	}
	maps.Copy(out.Labels, labels)
	out.Labels[v1alpha1.LabelApp] = rec.GetApp()
	if rec.GetPhase() == padisv1.Phase_BACKOFF {
		out.Status.NotBefore = moment(rec.GetNotBeforeMs())
	}
	if t := rec.GetLastTermination(); t != nil {
		last := termination(t)
		out.Status.LastTermination = &last
	}
	for _, t := range rec.GetTerminations() {
		out.Status.Terminations = append(out.Status.Terminations, termination(t))
	}
	return out
}

func termination(t *padisv1.Termination) runtime.Termination {
	return runtime.Termination{
		Host:       t.GetHostname(),
		ExitCode:   t.GetExitCode(),
		Signal:     t.GetSignal(),
		Reason:     t.GetReason(),
		Message:    t.GetMessage(),
		FinishedAt: moment(t.GetFinishedMs()),
		StartedAt:  moment(t.GetStartedMs()),
		OOMKilled:  t.GetOomKilled(),
		Revision:   t.GetRevision(),
		Container:  t.GetContainer(),
	}
}

// Agent shows one agent. rec is what the ledger knows of it and seen what the master told last; either may be nil. used
// is what instances of ours take of it, and executor the id of our executor on it, or empty.
func Agent(rec *padisv1.AgentRecord, seen *mesos.Agent, offeredNow bool, used mesos.Amounts, instances int32, executor string) *runtime.Agent {
	status := runtime.AgentStatus{
		ID:         rec.GetAgentId(),
		Hostname:   rec.GetHostname(),
		Attributes: maps.Clone(rec.GetAttributes()),
		State:      state(seen, offeredNow),
		Used:       amounts(used),
		Instances:  instances,
		Executor:   executor,
	}
	var registered metav1.Time
	if seen != nil {
		status.ID, status.Hostname = seen.ID, seen.Hostname
		status.Attributes = maps.Clone(seen.Attributes)
		status.Total = amounts(seen.Total)
		status.Version = seen.Version
		registered = metav1.NewTime(seen.Registered)
	}
	return &runtime.Agent{
		TypeMeta: typeMeta("Agent"),
		ObjectMeta: metav1.ObjectMeta{
			Name:              AgentName(status.ID),
			UID:               uid("agent", status.ID),
			CreationTimestamp: registered,
			Labels:            agentLabels(status.Attributes),
		},
		Status: status,
	}
}

// state is the word for what is known of an agent. An agent that sends offers is alive, whatever an older poll says; one
// that the master does not list has not been heard of for longer than its ping timeout.
func state(seen *mesos.Agent, offeredNow bool) string {
	switch {
	case seen != nil && strings.EqualFold(seen.Drain, StateDraining):
		return StateDraining
	case seen != nil && strings.EqualFold(seen.Drain, StateDrained):
		return StateDrained
	case offeredNow || seen != nil && seen.Active:
		return StateActive
	case seen != nil:
		return StateInactive
	}
	return StateUnreachable
}

// AgentName is the name of the Agent object for a Mesos agent id: the id in lower case, with every character but
// letters and digits replaced by a dash.
func AgentName(id string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, id)
	return strings.Trim(name, "-")
}

// Address shows one lease, in force or cooling. host is where the address is configured now, conflict who else uses it; both
// may be empty. Nobody holds an address that is cooling, so it carries no label of an App and no host.
func Address(lease *padisv1.LeaseRecord, host, conflict string) *runtime.Address {
	out := address(lease.GetNetwork(), lease.GetAddress())
	out.CreationTimestamp = creation(lease.GetLeasedMs())
	out.Status.Pool, out.Status.Conflict = lease.GetPool(), conflict
	instance := InstanceName(lease.GetApp(), lease.GetSlot())
	_, vip := record.Slot{AppUID: lease.GetAppUid(), Index: lease.GetSlot()}.Balancer()
	if vip {
		instance = lease.GetApp() // It is the LoadBalancer's.
	}
	if lease.GetReleasedMs() != 0 {
		out.Status.State, out.Status.Since = runtime.AddressCooling, moment(lease.GetReleasedMs())
		out.Status.Former = lease.GetNamespace() + "/" + instance
		return out
	}
	if !vip {
		out.Labels = map[string]string{v1alpha1.LabelApp: lease.GetApp()}
	}
	out.Status.State, out.Status.Since = runtime.AddressAllocated, moment(lease.GetLeasedMs())
	out.Status.Namespace, out.Status.Instance, out.Status.Host = lease.GetNamespace(), instance, host
	return out
}

// Foreign shows an address of a pool that nobody holds and somebody uses. who may be empty; sinceMs, in Unix milliseconds,
// is 0 if it is not known.
func Foreign(network, pool, addr, who string, sinceMs int64) *runtime.Address {
	out := address(network, addr)
	out.CreationTimestamp = creation(sinceMs)
	out.Status.Pool, out.Status.State, out.Status.Since, out.Status.Conflict = pool, runtime.AddressForeign, moment(sinceMs), who
	return out
}

func address(network, addr string) *runtime.Address {
	return &runtime.Address{
		TypeMeta:   typeMeta("Address"),
		ObjectMeta: metav1.ObjectMeta{Name: addr, UID: uid("address", network, addr)},
		Status:     runtime.AddressStatus{Address: addr, Network: network},
	}
}

func typeMeta(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: runtime.GroupVersion.String(), Kind: kind}
}

// space is the name space of our version 5 UUIDs (RFC 9562, section 5.5): a random UUID, fixed for ever.
var space = [16]byte{0x5d, 0x1f, 0x8c, 0x02, 0x7b, 0x36, 0x4e, 0x0a, 0x9c, 0x41, 0xe2, 0x6a, 0x90, 0x3b, 0xd7, 0x18}

// uid is the same for the same parts, however often the object is shown.
func uid(parts ...string) types.UID {
	h := sha1.New() //nolint:gosec // see the import
	h.Write(space[:])
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	var u [16]byte
	copy(u[:], h.Sum(nil))
	u[6] = u[6]&0x0f | 0x50
	u[8] = u[8]&0x3f | 0x80
	return types.UID(fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:]))
}

// creation is a time in Unix milliseconds; 0 is no time.
func creation(ms int64) metav1.Time {
	if ms == 0 {
		return metav1.Time{}
	}
	return metav1.NewTime(time.UnixMilli(ms).UTC())
}

func moment(ms int64) *metav1.Time {
	if ms == 0 {
		return nil
	}
	t := creation(ms)
	return &t
}

// amounts turns thousandths of a MiB into MiB, rounded down.
func amounts(a mesos.Amounts) runtime.Amounts {
	return runtime.Amounts{CPUMilli: a.CPUMilli, MemoryMiB: a.MemoryMilli / 1000, DiskMiB: a.DiskMilli / 1000}
}
