package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Network is a segment that instances are attached to.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=net,categories=padis
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Driver",type=string,JSONPath=`.spec.driver`
// +kubebuilder:printcolumn:name="Bridge",type=string,JSONPath=`.spec.bridge`
// +kubebuilder:printcolumn:name="Parent",type=string,JSONPath=`.spec.parent`
// +kubebuilder:printcolumn:name="MTU",type=integer,JSONPath=`.spec.mtu`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
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

// NetworkSpec describes a segment.
//
// +kubebuilder:validation:XValidation:rule="!has(self.parent) || self.parent.size() == 0 || self.parent != self.bridge",message="parent is the uplink that is plugged into the bridge: it cannot be the bridge itself",fieldPath=".parent"
type NetworkSpec struct {
	// How instances are plugged in. bridge: a Linux bridge on each host, with the parent interface as its uplink.
	// +optional
	// +kubebuilder:default=bridge
	// +kubebuilder:validation:Enum=bridge
	Driver string `json:"driver,omitempty"`
	// Name of the bridge on each host.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.size() <= 15",message="is too long for a network interface, which has at most 15 characters: choose a shorter name"
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-zA-Z][a-zA-Z0-9_.-]*$')",message="must begin with a letter and hold only letters, digits, '_', '.' and '-', for example padis0"
	Bridge string `json:"bridge"`
	// Interface of each host that is the bridge's uplink. It must not carry an address of its own. Without it only
	// instances of the same host reach each other.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.size() <= 15",message="is too long for a network interface, which has at most 15 characters: choose a shorter name"
	// +kubebuilder:validation:XValidation:rule="self.size() == 0 || self.matches('^[a-zA-Z0-9][a-zA-Z0-9_.@-]*$')",message="must begin with a letter or digit and hold only letters, digits, '_', '.', '@' and '-', for example eth1"
	Parent string `json:"parent,omitempty"`
	// 802.1Q tag of the segment, for people and for the drivers that use it.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4094
	VLAN int32 `json:"vlan,omitempty"`
	// VXLAN network identifier of the segment, for people and for the drivers that use it.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=16777215
	VNI int32 `json:"vni,omitempty"`
	// Largest packet, in bytes, that instances send.
	// +optional
	// +kubebuilder:default=1500
	// +kubebuilder:validation:Minimum=576
	// +kubebuilder:validation:Maximum=65535
	MTU int32 `json:"mtu,omitempty"`
}

// NetworkStatus is what is there of a Network.
type NetworkStatus struct {
	// The generation of the spec that this status speaks of.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Accepted, with a reason and a sentence that says what to do.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// IPPool is a range of addresses of one Network. An address belongs to an instance until the instance is scaled in.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=pool;pools,categories=padis
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="CIDR",type=string,JSONPath=`.spec.cidr`
// +kubebuilder:printcolumn:name="Network",type=string,JSONPath=`.spec.network`
// +kubebuilder:printcolumn:name="Gateway",type=string,JSONPath=`.spec.gateway`
// +kubebuilder:printcolumn:name="Allocated",type=integer,JSONPath=`.status.allocated`
// +kubebuilder:printcolumn:name="Free",type=integer,JSONPath=`.status.free`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type IPPool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   IPPoolSpec   `json:"spec"`
	Status IPPoolStatus `json:"status,omitempty"`
}

// IPPoolList is a list of IPPools.
//
// +kubebuilder:object:root=true
type IPPoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []IPPool `json:"items"`
}

// IPPoolSpec describes a range of addresses.
//
// +kubebuilder:validation:XValidation:rule="!has(self.gateway) || !isIP(self.gateway) || !isCIDR(self.cidr) || cidr(self.cidr).containsIP(self.gateway)",messageExpression="self.gateway + ' is not within ' + self.cidr + ': the next hop must be an address of the subnet'",fieldPath=".gateway"
type IPPoolSpec struct {
	// Name of the Network that the addresses belong to.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",messageExpression="'cannot be changed from ' + oldSelf + ', addresses of the pool are in use under it: create a new IPPool and move the Apps over'",reason=FieldValueForbidden
	Network string `json:"network"`
	// Subnet, for example 10.44.0.0/16. Its network, broadcast and gateway addresses are never handed out.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="isCIDR(self) && cidr(self).ip().family() == 4",message="must be an IPv4 subnet, for example 10.44.0.0/16"
	// +kubebuilder:validation:XValidation:rule="!isCIDR(self) || cidr(self).ip().family() != 4 || (cidr(self).prefixLength() >= 8 && cidr(self).prefixLength() <= 30)",message="must have a prefix length from /8 to /30"
	// +kubebuilder:validation:XValidation:rule="!isCIDR(self) || cidr(self) == cidr(self).masked()",message="has bits set behind the prefix: write the first address of the subnet, for example 10.44.0.0/16"
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",messageExpression="'cannot be changed from ' + oldSelf + ', addresses of the pool are in use under it: create a new IPPool and move the Apps over'",reason=FieldValueForbidden
	CIDR string `json:"cidr"`
	// Next hop of the default route; none if empty.
	// +optional
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="self.size() == 0 || (isIP(self) && ip(self).family() == 4)",message="must be an IPv4 address, for example 10.44.0.10"
	Gateway string `json:"gateway,omitempty"`
	// Parts of the CIDR to hand out; default is all of it.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	Ranges []AddressRange `json:"ranges,omitempty"`
	// Addresses that are never handed out.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=256
	Reserved []AddressRange `json:"reserved,omitempty"`
	// Namespaces that may use the pool; default is all.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	Namespaces []string `json:"namespaces,omitempty"`
	// Name servers for resolv.conf.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=3
	// +kubebuilder:validation:items:MaxLength=45
	// +kubebuilder:validation:items:XValidation:rule="isIP(self)",message="must be an IP address, for example 10.44.0.53"
	DNSServers []string `json:"dnsServers,omitempty"`
	// Search domains for resolv.conf.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=6
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:Pattern=`^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?$`
	DNSSearch []string `json:"dnsSearch,omitempty"`
}

// AddressRange is a closed interval of addresses; without `to` it is a single one.
type AddressRange struct {
	// First address.
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="isIP(self) && ip(self).family() == 4",message="must be an IPv4 address, for example 10.44.0.10"
	From string `json:"from"`
	// Last address, included; the same as `from` if empty.
	// +optional
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="self.size() == 0 || (isIP(self) && ip(self).family() == 4)",message="must be an IPv4 address, for example 10.44.0.10"
	To string `json:"to,omitempty"`
}

// IPPoolStatus is what is there of an IPPool.
type IPPoolStatus struct {
	// The generation of the spec that this status speaks of.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Addresses that can be handed out at all.
	Capacity int64 `json:"capacity,omitempty"`
	// Addresses that belong to an instance.
	Allocated int64 `json:"allocated"`
	// Addresses that are free.
	Free int64 `json:"free"`
	// Accepted, with a reason and a sentence that says what to do.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
