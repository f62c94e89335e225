// Package record names what the ledger keeps: keys, writes and the snapshot that the scheduler starts from. Pure.
package record

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// Slot names one instance for ever: the App's uid and the slot's index.
type Slot struct {
	AppUID string
	Index  int32
}

// String gives the form used in keys and logs.
func (s Slot) String() string { return fmt.Sprintf("%s/%d", s.AppUID, s.Index) }

// vips ends the AppUID of a slot that holds the VIPs of a LoadBalancer: no uid of an App has a slash.
const vips = "/vip"

// VIPs is the slot by which the LoadBalancer of a uid holds its VIPs.
func VIPs(uid string) Slot { return Slot{AppUID: uid + vips} }

// Balancer is the uid of the LoadBalancer whose VIPs the slot holds; false if it is an instance.
func (s Slot) Balancer() (uid string, ok bool) { return strings.CutSuffix(s.AppUID, vips) }

// Write is one change of the ledger. A nil Value deletes the key.
type Write struct {
	Key   string
	Value proto.Message
}

// Keys of the ledger, below the ledger's own prefix.
const (
	KeyFramework = "framework"
	KeyCluster   = "cluster"

	PrefixApp      = "app/"
	PrefixInstance = "instance/"
	PrefixLease    = "lease/"
	PrefixExecutor = "executor/"
	PrefixAgent    = "agent/"
	PrefixBalancer = "balancer/"
	PrefixBalance  = "balance/"
)

// AppKey is the key of a WantedApp.
func AppKey(uid string) string { return PrefixApp + uid }

// InstanceKey is the key of an InstanceRecord.
func InstanceKey(s Slot) string { return fmt.Sprintf("%s%s/%05d", PrefixInstance, s.AppUID, s.Index) }

// LeaseKey is the key of a LeaseRecord. An address is leased once, whatever pool it came from.
func LeaseKey(network, address string) string { return PrefixLease + network + "/" + address }

// ExecutorKey is the key of an ExecutorRecord.
func ExecutorKey(agentID string) string { return PrefixExecutor + agentID }

// AgentKey is the key of an AgentRecord.
func AgentKey(agentID string) string { return PrefixAgent + agentID }

// BalancerKey is the key of a WantedBalancer.
func BalancerKey(uid string) string { return PrefixBalancer + uid }

// BalanceKey is the key of a BalanceRecord.
func BalanceKey(uid string) string { return PrefixBalance + uid }

// Snapshot is the whole ledger, decoded.
type Snapshot struct {
	Framework *padisv1.FrameworkRecord
	Cluster   *padisv1.Cluster
	Apps      []*padisv1.WantedApp
	Instances []*padisv1.InstanceRecord
	Leases    []*padisv1.LeaseRecord
	Executors []*padisv1.ExecutorRecord
	Agents    []*padisv1.AgentRecord
	Balancers []*padisv1.WantedBalancer
	Balances  []*padisv1.BalanceRecord
}
