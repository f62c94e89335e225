package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Drivers of Networks.
const (
	DriverBridge  = "bridge"
	DriverVLAN    = "vlan"
	DriverOVS     = "ovs"
	DriverVXLAN   = "vxlan"
	DriverMacvlan = "macvlan"
	DriverRouted  = "routed"
	DriverHost    = "host"
	DriverVirtual = "virtual"
)

// Values of gateway of a Network.
const (
	GatewayExternal = "External"
	GatewayHost     = "Host"
)

// Network is a segment that instances are attached to.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=net,categories=padis
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Driver",type=string,JSONPath=`.spec.driver`
// +kubebuilder:printcolumn:name="Bridge",type=string,JSONPath=`.spec.bridge`
// +kubebuilder:printcolumn:name="Parent",type=string,JSONPath=`.spec.parent`
// +kubebuilder:printcolumn:name="VLAN",type=integer,priority=1,JSONPath=`.spec.vlan`
// +kubebuilder:printcolumn:name="VNI",type=integer,priority=1,JSONPath=`.spec.vni`
// +kubebuilder:printcolumn:name="MTU",type=integer,JSONPath=`.spec.mtu`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Hosts",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="HostsReady")].message`
// +kubebuilder:printcolumn:name="Peers",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="PeersUp")].message`
type Network struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   NetworkSpec   `json:"spec"`
	Status NetworkStatus `json:"status,omitempty"`
}

// NetworkList is a list of Networks.
//
// +kubebuilder:object:root=true
type NetworkList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Network `json:"items"`
}

// NetworkSpec describes a segment. Which of its fields a driver needs, may have and must not have is judged by
// ValidateNetwork, since it concerns several fields at once.
//
// +kubebuilder:validation:XValidation:rule="!has(self.parent) || self.parent.size() == 0 || !has(self.bridge) || self.parent != self.bridge",message="parent is the uplink that is plugged into the bridge: it cannot be the bridge itself",fieldPath=".parent"
type NetworkSpec struct {
	// How instances are plugged in. bridge: a Linux bridge on each host, with the parent interface as its uplink. vlan: a
	// bridge on each host with a VLAN of the parent interface. ovs: an Open vSwitch bridge, with a tag if vlan is set.
	// vxlan: a segment of its own across all hosts, in tunnels between them. macvlan: directly on the parent interface;
	// the host itself does not reach its instances. routed: without a segment, by a route of each host to each of its
	// instances, announced by BGP if bgp is set. host: instances have the network of their host, and no address of a pool. virtual: no
	// segment at all; its pools give addresses to LoadBalancers only.
	// +optional
	// +kubebuilder:default=bridge
	// +kubebuilder:validation:Enum=bridge;vlan;ovs;vxlan;macvlan;routed;host;virtual
	Driver string `json:"driver,omitempty"`
	// Name of the bridge on each host; without it each host makes one of its own choice. Only of bridge, vlan, ovs and vxlan.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.size() <= 15",message="is too long for a network interface, which has at most 15 characters: choose a shorter name"
	// +kubebuilder:validation:XValidation:rule="self.size() == 0 || self.matches('^[a-zA-Z][a-zA-Z0-9_.-]*$')",message="must begin with a letter and hold only letters, digits, '_', '.' and '-', for example padis0"
	Bridge string `json:"bridge,omitempty"`
	// Interface of each host: of bridge and ovs the uplink of the bridge, without which only instances of the same host reach
	// each other; of vlan and macvlan what they build upon; of vxlan the one that the tunnels run over, by default that of the
	// host's own address. The uplink of a bridge must not carry an address of its own, unless takeParent is set.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.size() <= 15",message="is too long for a network interface, which has at most 15 characters: choose a shorter name"
	// +kubebuilder:validation:XValidation:rule="self.size() == 0 || self.matches('^[a-zA-Z0-9][a-zA-Z0-9_.@-]*$')",message="must begin with a letter or digit and hold only letters, digits, '_', '.', '@' and '-', for example eth1"
	Parent string `json:"parent,omitempty"`
	// Consent that the addresses and routes of the parent move to the bridge, when it is the interface that the host itself
	// uses. A host that loses its gateway by that takes it back. Only of bridge.
	// +optional
	TakeParent bool `json:"takeParent,omitempty"`
	// 802.1Q tag of the segment. vlan needs it, ovs may have it.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4094
	VLAN int32 `json:"vlan,omitempty"`
	// VXLAN network identifier of the segment. vxlan needs it.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=16777215
	VNI int32 `json:"vni,omitempty"`
	// UDP port of the tunnels of vxlan; default is 4789.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`
	// Largest packet, in bytes, that instances send. Default is 1500, of vxlan 1450: the tunnel takes 50 bytes of each packet
	// of the hosts, 70 over IPv6. IPv6 needs at least 1280.
	// +optional
	// +kubebuilder:validation:Minimum=576
	// +kubebuilder:validation:Maximum=65535
	MTU int32 `json:"mtu,omitempty"`
	// Who has the gateway of the network's pools. External: a router on the segment. Host: each host has it on its bridge and
	// routes for its instances; only of bridge without a parent, and of vxlan. routed and host need none.
	// +optional
	// +kubebuilder:default=External
	// +kubebuilder:validation:Enum=External;Host
	Gateway string `json:"gateway,omitempty"`
	// Networks whose instances may reach those of this one through the hosts. Both have gateway: Host, and both name each
	// other; what does not is kept apart.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	Peers []string `json:"peers,omitempty"`
	// Let instances send from any address, hardware or IP; without it they send from their own only.
	// +optional
	AllowSpoofing bool `json:"allowSpoofing,omitempty"`
	// Settings of the network namespace of each instance, below net, for example net.core.somaxconn: "4096".
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	Sysctls map[string]string `json:"sysctls,omitempty"`
	// Announces the addresses of instances to routers. Only of routed.
	// +optional
	BGP *BGP `json:"bgp,omitempty"`
	// What each instance may send and receive whose App says nothing of it.
	// +optional
	Bandwidth *Bandwidth `json:"bandwidth,omitempty"`
	// Datapath of the Open vSwitch bridge: System, the kernel's, or Netdev, in user space, where the kernel has none. Default
	// is System.
	// +optional
	// +kubebuilder:validation:Enum=System;Netdev
	Datapath string `json:"datapath,omitempty"`
}

// Bandwidth bounds what an instance sends and receives, in bits per second.
type Bandwidth struct {
	// What it receives, in bits per second, for example 100M; without it there is no limit.
	// +optional
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).compareTo(quantity('10k')) >= 0 && quantity(string(self)).compareTo(quantity('1T')) <= 0",message="must be bits per second from 10k to 1T, for example 100M; leave it out for no limit"
	Ingress *resource.Quantity `json:"ingress,omitempty"`
	// What it sends, in bits per second, for example 100M; without it there is no limit.
	// +optional
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).compareTo(quantity('10k')) >= 0 && quantity(string(self)).compareTo(quantity('1T')) <= 0",message="must be bits per second from 10k to 1T, for example 100M; leave it out for no limit"
	Egress *resource.Quantity `json:"egress,omitempty"`
}

// BGP says to which routers hosts announce the addresses of their instances.
type BGP struct {
	// Autonomous system of the hosts.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	ASN int64 `json:"asn"`
	// The routers.
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Peers []BGPRouter `json:"peers"`
}

// BGPRouter is a router of one Network.
type BGPRouter struct {
	// Address of the router.
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
	// How long a silent router counts as up; default is 90s.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}([.][0-9]{1,3})?s)?([0-9]{1,9}ms)?$') && self.size() > 0 && duration(self) >= duration('3s') && duration(self) <= duration('65535s')",message="must be a time from 3s to 65535s (RFC 4271), for example 30s"
	HoldTime *metav1.Duration `json:"holdTime,omitempty"`
	// Only agents with one of these attributes have this router; without any, all do.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	Agents []AgentSelector `json:"agents,omitempty"`
}

// NamespacedSecretKey names a key of a Secret of some namespace.
type NamespacedSecretKey struct {
	// Namespace of the Secret.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace"`
	// Name of the Secret.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Key whose value is meant.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key"`
}

// NetworkStatus is what is there of a Network.
type NetworkStatus struct {
	// The generation of the spec that this status speaks of.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Accepted; HostsReady, once hosts have it; and PeersUp, if it has BGP: each with a reason and a sentence that says what to do.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Condition types of Networks and IPPools, beside Accepted.
const (
	// ConditionHostsReady: all hosts that have instances on the network could make it.
	ConditionHostsReady = "HostsReady"
	// ConditionPeersUp: all hosts have their BGP sessions.
	ConditionPeersUp = "PeersUp"
	// ConditionForeignAddresses: others use addresses of the pool. It is there only while they do.
	ConditionForeignAddresses = "ForeignAddresses"
)
