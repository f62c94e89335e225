package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BGPPeer is a router that directors of LoadBalancers announce VIPs to.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=peer;peers,categories=padis
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.spec.address`
// +kubebuilder:printcolumn:name="ASN",type=integer,JSONPath=`.spec.asn`
// +kubebuilder:printcolumn:name="Paths",type=integer,JSONPath=`.spec.maximumPaths`
// +kubebuilder:printcolumn:name="BFD",type=string,JSONPath=`.spec.bfd.interval`
// +kubebuilder:printcolumn:name="Sessions",type=string,JSONPath=`.status.sessions`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="PeersUp")].message`
type BGPPeer struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What is wanted.
	Spec BGPPeerSpec `json:"spec"`
	// What is there. Written by Padis only.
	Status BGPPeerStatus `json:"status,omitempty"`
}

// BGPPeerList is a list of BGPPeers.
//
// +kubebuilder:object:root=true
type BGPPeerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []BGPPeer `json:"items"`
}

// BGPPeerSpec describes a router.
type BGPPeerSpec struct {
	// Address of the router, in the network of the directors.
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="isIP(self)",message="must be an IP address, for example 10.44.0.1 or fd00:44::1"
	Address string `json:"address"`
	// Autonomous system of the router.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	ASN int64 `json:"asn"`
	// TCP port of the router; default is 179.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`
	// Password of the session (TCP MD5, RFC 2385): key of a Secret.
	// +optional
	PasswordSecret *NamespacedSecretKey `json:"passwordSecret,omitempty"`
	// How long a silent router, or a silent director, counts as up, in whole seconds.
	// +optional
	// +kubebuilder:default="3s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}s)?$') && self.size() > 0 && duration(self) >= duration('3s') && duration(self) <= duration('65535s')",message="must be whole seconds from 3s to 65535s (RFC 4271), for example 3s"
	HoldTime *metav1.Duration `json:"holdTime,omitempty"`
	// Notice by BFD (RFC 5880) that a director, or the router, is silent: far below the hold time. The router must have it
	// set up, too.
	// +optional
	BFD *BFD `json:"bfd,omitempty"`
	// Tell the router VIPs of the other family than the session's, too: it must have that family set up for the session.
	// +optional
	BothFamilies bool `json:"bothFamilies,omitempty"`
	// Equal-cost paths that the router is set up for (maximum-paths, merge paths limit); more directors than that are
	// warned of. 0 is unknown.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1024
	MaximumPaths int32 `json:"maximumPaths,omitempty"`
	// Only directors on agents with one of these attributes have this router, for example that of their rack; without any,
	// all do.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	Agents []AgentSelector `json:"agents,omitempty"`
}

// BFD says how fast a silent neighbour is noticed: after multiplier intervals.
type BFD struct {
	// Time between packets, of both sides.
	// +optional
	// +kubebuilder:default="100ms"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}([.][0-9]{1,3})?s)?([0-9]{1,9}ms)?$') && self.size() > 0 && duration(self) >= duration('50ms') && duration(self) <= duration('10s')",message="must be a time from 50ms to 10s, for example 100ms"
	Interval *metav1.Duration `json:"interval,omitempty"`
	// Packets that may be missing in a row.
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=2
	// +kubebuilder:validation:Maximum=255
	Multiplier int32 `json:"multiplier,omitempty"`
}

// BGPPeerStatus is what is there of a BGPPeer.
type BGPPeerStatus struct {
	// The generation of the spec that this status speaks of.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Sessions that are up, of those that directors of all LoadBalancers should have with the router, for people.
	// +optional
	Sessions string `json:"sessions,omitempty"`
	// Accepted; and PeersUp, once a LoadBalancer has the router: each with a reason and a sentence that says what to do.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
