package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// MaxListed bounds the real servers that the status of a LoadBalancer lists, and the directors that it names for each VIP.
const (
	MaxListed     = 100
	MaxAnnouncing = 8
)

// States of a real server.
const (
	ServerServing  = "Serving"
	ServerDraining = "Draining"
	ServerSuspect  = "Suspect"
	ServerWaiting  = "Waiting"
)

// LoadBalancerStatus is what is there of a LoadBalancer.
type LoadBalancerStatus struct {
	// The generation of the spec that this status speaks of.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// The first addresses, for people.
	// +optional
	Addresses string `json:"addresses,omitempty"`
	// The VIPs, in the order of the spec.
	// +optional
	// +listType=atomic
	VIPs []VIPStatus `json:"vips,omitempty"`
	// Who forwards and announces.
	// +optional
	Directors DirectorsStatus `json:"directors,omitempty"`
	// Who serves.
	// +optional
	Servers ServersStatus `json:"servers,omitempty"`
	// Sessions of directors with routers: those that are up, of all.
	// +optional
	Sessions string `json:"sessions,omitempty"`
	// Accepted, Announced, ServersReady, PeersUp, Redundant and ConnectionsKept, each with a reason and a sentence that says what to do.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// VIPStatus is what is there of a VIP.
type VIPStatus struct {
	// The pool that it is of.
	Pool string `json:"pool"`
	// The address; empty if it has none yet.
	// +optional
	Address string `json:"address,omitempty"`
	// How many directors announce it.
	// +optional
	Announcing int32 `json:"announcing,omitempty"`
	// The first directors that announce it.
	// +optional
	// +listType=atomic
	AnnouncedBy []string `json:"announcedBy,omitempty"`
	// Why it has no address, or is not announced; empty if it is.
	// +optional
	Reason string `json:"reason,omitempty"`
	// The same as a sentence that says what to do.
	// +optional
	Message string `json:"message,omitempty"`
}

// DirectorsStatus is what is there of the directors.
type DirectorsStatus struct {
	// How many are wanted.
	Wanted int32 `json:"wanted"`
	// How many are ready: they forward and have their sessions.
	Ready int32 `json:"ready"`
	// Ready of wanted, for people.
	// +optional
	Summary string `json:"summary,omitempty"`
	// Each of them.
	// +optional
	// +listType=atomic
	Instances []DirectorStatus `json:"instances,omitempty"`
}

// DirectorStatus is what is there of one director.
type DirectorStatus struct {
	// Name of the instance.
	Instance string `json:"instance"`
	// Host that it is on.
	// +optional
	Host string `json:"host,omitempty"`
	// Its own address.
	// +optional
	Address string `json:"address,omitempty"`
	// What forwards.
	// +optional
	Dataplane string `json:"dataplane,omitempty"`
	// How many VIPs it announces.
	Announced int32 `json:"announced"`
	// Its sessions with routers.
	// +optional
	// +listType=atomic
	Sessions []SessionStatus `json:"sessions,omitempty"`
	// Why it cannot do all of it; empty if it does.
	// +optional
	Reason string `json:"reason,omitempty"`
	// The same as a sentence that says what to do.
	// +optional
	Message string `json:"message,omitempty"`
}

// SessionStatus is the session of a director with a router.
type SessionStatus struct {
	// Name of the BGPPeer.
	Peer string `json:"peer"`
	// The session is up.
	Established bool `json:"established"`
	// Why it is not.
	// +optional
	Message string `json:"message,omitempty"`
	// Up or down; empty without BFD.
	// +optional
	BFD string `json:"bfd,omitempty"`
}

// ServersStatus is what is there of the real servers.
type ServersStatus struct {
	// In rotation.
	Serving int32 `json:"serving"`
	// Out of rotation, because they are to stop; they keep the connections that they have.
	Draining int32 `json:"draining"`
	// Out of rotation, because they are not ready or are not reached; they get their connections back when they come back.
	Suspect int32 `json:"suspect"`
	// On their way into rotation.
	Waiting int32 `json:"waiting"`
	// Serving of all, for people.
	// +optional
	Summary string `json:"summary,omitempty"`
	// The first hundred, those that do not serve before the others.
	// +optional
	// +listType=atomic
	Instances []ServerStatus `json:"instances,omitempty"`
}

// ServerStatus is what is there of one real server.
type ServerStatus struct {
	// Name of the instance.
	Instance string `json:"instance"`
	// Serving, Draining, Suspect or Waiting.
	State string `json:"state"`
	// Share of new connections, in percent.
	// +optional
	Share string `json:"share,omitempty"`
	// Why it does not serve; empty if it does.
	// +optional
	Reason string `json:"reason,omitempty"`
	// The same as a sentence that says what to do.
	// +optional
	Message string `json:"message,omitempty"`
}
