package runtime

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// AddBalances registers the kinds Balance, BalanceList and Trace, whose names are not those of their Go types.
func AddBalances(s *runtime.Scheme, gv schema.GroupVersion) {
	s.AddKnownTypeWithName(gv.WithKind("Balance"), &BalanceObject{})
	s.AddKnownTypeWithName(gv.WithKind("BalanceList"), &BalanceObjectList{})
	s.AddKnownTypeWithName(gv.WithKind("Trace"), &TraceObject{})
}

// BalanceObject is the kind Balance: how it stands with the LoadBalancer of the same name. It is put together when it is
// read, and kept nowhere.
//
// +kubebuilder:object:root=true
type BalanceObject struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Status            Balance `json:"status"`
}

// BalanceObjectList is a list of Balances.
//
// +kubebuilder:object:root=true
type BalanceObjectList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []BalanceObject `json:"items"`
}

// TraceObject is the kind Trace, the answer of balances/trace.
//
// +kubebuilder:object:root=true
type TraceObject struct {
	metav1.TypeMeta `json:",inline"`
	Status          Trace `json:"status"`
}

// Balance is how it stands with a LoadBalancer: what the scheduler has decided and what hosts and directors say.
type Balance struct {
	UID       string `json:"-"`
	Namespace string `json:"-"`
	Name      string `json:"-"`
	// Number of the newest decision.
	Number int64        `json:"number"`
	VIPs   []BalanceVIP `json:"vips,omitempty"`
	// Servers in rotation, on their way in or out, and why, by instance.
	Servers   []BalanceServer   `json:"servers,omitempty"`
	Directors []BalanceDirector `json:"directors,omitempty"`
	// Hosts of real servers that cannot do their part, or have not yet.
	Hosts []BalanceHost `json:"hosts,omitempty"`
	// Backends that give no real server, and why.
	Backends []BalanceBackend `json:"backends,omitempty"`
	// Problem says why the newest declaration is not in force, and everything is as it was; empty if it is.
	Problem string `json:"problem,omitempty"`
}

// BalanceVIP is a VIP, in the order of the declaration.
type BalanceVIP struct {
	Pool    string `json:"pool"`
	Address string `json:"address,omitempty"`
	// Why it has no address; empty if it has.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// Announcing are the instances of the directors that say so.
	Announcing []string `json:"announcing,omitempty"`
}

// BalanceServer is an instance that a backend selects.
type BalanceServer struct {
	// ID in the table; Instance is APP-SLOT.
	ID       string `json:"id,omitempty"`
	Instance string `json:"instance"`
	Host     string `json:"host,omitempty"`
	Address  string `json:"address,omitempty"`
	// State is serving, draining, suspect, or waiting: not in the table.
	State string `json:"state"`
	// Why it does not serve; empty if it does.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// Weight as it was declared, and Slots of how many it owns.
	Weight int32 `json:"weight"`
	Slots  int32 `json:"slots"`
	Table  int32 `json:"table"`
}

// BalanceDirector is an instance of the directors.
type BalanceDirector struct {
	Instance string `json:"instance"`
	Host     string `json:"host,omitempty"`
	Address  string `json:"address,omitempty"`
	// Phase and Ready are those of the instance.
	Phase string `json:"phase,omitempty"`
	Ready bool   `json:"ready"`
	// Number of what it has in force; 0 if nothing was heard of it.
	Number    int64             `json:"number"`
	Dataplane string            `json:"dataplane,omitempty"`
	Announced []string          `json:"announced,omitempty"`
	Sessions  []DirectorSession `json:"sessions,omitempty"`
	// Failures are real servers that it does not reach: instance and why.
	Failures []ServerFailure `json:"failures,omitempty"`
	Draining bool            `json:"draining,omitempty"`
	// Why it cannot do all of it; empty if it does.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

// DirectorSession is the session of a director with a router.
type DirectorSession struct {
	// Peer is the name of the BGPPeer.
	Peer        string `json:"peer"`
	Address     string `json:"address"`
	Established bool   `json:"established"`
	// Message says why it is not established.
	Message string `json:"message,omitempty"`
	// BFD is up, down, or empty if there is none.
	BFD string `json:"bfd,omitempty"`
}

// ServerFailure is a real server that a director does not reach.
type ServerFailure struct {
	Instance string `json:"instance"`
	Message  string `json:"message,omitempty"`
}

// BalanceHost is a host of real servers.
type BalanceHost struct {
	Host string `json:"host"`
	// Number that it has.
	Number  int64  `json:"number"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

// BalanceBackend is what a backend selects, by its index in the declaration.
type BalanceBackend struct {
	Index   int    `json:"index"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

// Trace is the way of one flow.
type Trace struct {
	// Listener that takes it; Slot of Table slots.
	Listener string `json:"listener,omitempty"`
	Slot     int32  `json:"slot"`
	Table    int32  `json:"table"`
	Number   int64  `json:"number"`
	// Chain of its slot: instances, the owner first, then those who had the slot before.
	Chain []BalanceServer `json:"chain,omitempty"`
	// Directors that take it, whichever the router chooses.
	Directors []string `json:"directors,omitempty"`
	// Why nobody takes it; empty if somebody does.
	Refusal string `json:"refusal,omitempty"`
}
