package forecast

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"maps"
	"net/netip"
	"slices"

	"google.golang.org/protobuf/proto"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"padis.io/padis/reconcile/config"
	"padis.io/padis/reconcile/declared"
	"padis.io/padis/reconcile/proposed"
	"padis.io/padis/scheduler/core"
)

type verdictsOf = map[string]declared.Verdict

func compareAddresses(a, b string) int {
	x, _ := netip.ParseAddr(a)
	y, _ := netip.ParseAddr(b)
	return x.Compare(y)
}

// World is a digest of what a plan depends on beside the changes: all that is declared, what is wanted, where instances are,
// who holds which address, and what agents have left. Statuses, times and messages are not in it, nor how often something
// has started: they change all the time and decide nothing.
func World(s core.Snapshot, d *proposed.State) string {
	w := writer{sha256.New()}
	w.text(fmt.Sprint(s.Config.Role, s.Config.Seed, s.Config.Executor, s.Config.Artifact.SHA256, s.Config.UnreachableReplaceAfter, s.Connected))
	w.message(s.Records.Cluster)
	for _, a := range s.Records.Apps {
		a = proto.CloneOf(a)
		a.AttemptFloor = 0
		w.message(a)
	}
	for _, b := range s.Records.Balancers {
		w.message(b)
	}
	for _, r := range s.Records.Instances {
		w.text(fmt.Sprint(r.GetAppUid(), r.GetSlot(), r.GetPhase(), r.GetRevision(), r.GetAgentId(), r.GetAddresses(), r.GetReady(), r.GetStopWanted(), r.GetPrepulling(), r.GetHauntedAgents()))
	}
	for _, l := range s.Records.Leases {
		w.text(fmt.Sprint(l.GetNetwork(), l.GetAddress(), l.GetPool(), l.GetAppUid(), l.GetSlot(), l.GetReleasedMs() != 0))
	}
	for _, r := range s.Rotations {
		w.text(r.String())
	}
	for _, a := range s.Agents {
		attributes := a.Record.GetAttributes()
		for _, k := range slices.Sorted(maps.Keys(attributes)) {
			w.text(k)
			w.text(attributes[k])
		}
		w.text(fmt.Sprint(a.Record.GetAgentId(), a.Record.GetHostname(), a.Present, a.Leaving, a.Manned, left(a)))
	}
	w.declared(d)
	return hex.EncodeToString(w.h.Sum(nil))
}

// writer separates what it is given, so that no two histories look alike.
type writer struct{ h hash.Hash }

func (w writer) bytes(b []byte) {
	w.h.Write(binary.AppendUvarint(nil, uint64(len(b))))
	w.h.Write(b)
}

func (w writer) text(s string) { w.bytes([]byte(s)) }

func (w writer) message(m proto.Message) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil { // Not of messages of ours; another world is the careful answer.
		b = []byte(err.Error())
	}
	w.bytes(b)
}

func (w writer) declared(s *proposed.State) {
	in := &s.Cluster
	for i := range in.Networks {
		w.object(&in.Networks[i].ObjectMeta, in.Networks[i].Spec)
	}
	for i := range in.Pools {
		w.object(&in.Pools[i].ObjectMeta, in.Pools[i].Spec)
	}
	for i := range in.Tenants {
		w.object(&in.Tenants[i].ObjectMeta, in.Tenants[i].Spec)
	}
	for i := range in.Registries {
		w.object(&in.Registries[i].ObjectMeta, in.Registries[i].Spec)
	}
	for i := range in.Upgrades {
		w.object(&in.Upgrades[i].ObjectMeta, in.Upgrades[i].Spec)
	}
	for i := range in.Peers {
		w.object(&in.Peers[i].ObjectMeta, in.Peers[i].Spec)
	}
	for i := range in.Prepulls {
		w.object(&in.Prepulls[i].ObjectMeta, in.Prepulls[i].Spec)
	}
	for i := range s.Apps {
		w.object(&s.Apps[i].ObjectMeta, s.Apps[i].Spec)
	}
	for i := range s.Balancers {
		w.object(&s.Balancers[i].ObjectMeta, s.Balancers[i].Spec)
	}
	refs := slices.SortedFunc(maps.Keys(s.Objects), func(a, b config.Ref) int {
		return slices.Compare([]string{string(a.Kind), a.Namespace, a.Name}, []string{string(b.Kind), b.Namespace, b.Name})
	})
	for _, ref := range refs {
		o := s.Objects[ref]
		w.text(fmt.Sprint(ref.Kind, "/", ref.Namespace, "/", ref.Name, "/", o.Type))
		for _, k := range slices.Sorted(maps.Keys(o.Data)) {
			w.text(k)
			w.bytes(o.Data[k])
		}
	}
}

func (w writer) object(m *metav1.ObjectMeta, spec any) {
	b, err := json.Marshal(spec)
	if err != nil {
		b = []byte(err.Error())
	}
	w.text(fmt.Sprint(m.Namespace, "/", m.Name, "/", m.UID, "/", m.Generation, "/", m.DeletionTimestamp != nil, "/", m.CreationTimestamp.Unix()))
	labels, err := json.Marshal(m.Labels)
	if err != nil {
		labels = []byte(err.Error())
	}
	w.bytes(labels)
	w.bytes(b)
}
