package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
// +kubebuilder:printcolumn:name="Used%",type=integer,JSONPath=`.status.utilizationPercent`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Cooling",type=integer,priority=1,JSONPath=`.status.cooling`
// +kubebuilder:printcolumn:name="Foreign",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="ForeignAddresses")].message`
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
	// Subnet, for example 10.44.0.0/16 or fd00:44::/64. Its network, broadcast and gateway addresses are never handed out;
	// a /31 or /32, which only a Network with the driver virtual may have, has neither.
	// An instance with an address of each family on one interface takes them of two pools of the same Network.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="isCIDR(self)",message="must be a subnet, for example 10.44.0.0/16 or fd00:44::/64"
	// +kubebuilder:validation:XValidation:rule="!isCIDR(self) || cidr(self).ip().family() != 4 || (cidr(self).prefixLength() >= 8)",message="must have a prefix length from /8 to /30, or to /32 on a Network with the driver virtual"
	// +kubebuilder:validation:XValidation:rule="!isCIDR(self) || cidr(self).ip().family() != 6 || cidr(self).prefixLength() >= 48",message="must have a prefix length from /48 to /128"
	// +kubebuilder:validation:XValidation:rule="!isCIDR(self) || cidr(self) == cidr(self).masked()",message="has bits set behind the prefix: write the first address of the subnet, for example 10.44.0.0/16"
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",messageExpression="'cannot be changed from ' + oldSelf + ', addresses of the pool are in use under it: create a new IPPool and move the Apps over'",reason=FieldValueForbidden
	CIDR string `json:"cidr"`
	// Next hop of the default route; none if empty. Networks with the driver routed need none.
	// +optional
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="self.size() == 0 || isIP(self)",message="must be an IP address, for example 10.44.0.1 or fd00:44::1"
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
	// How long an address that was given back is handed out to nobody but the instance that had it, so that caches and
	// firewalls forget it.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}([.][0-9]{1,3})?s)?([0-9]{1,9}ms)?$') && self.size() > 0 && duration(self) >= duration('0s')",message="must be a time not negative, written like 500ms, 10s or 1m30s"
	ReuseDelay *metav1.Duration `json:"reuseDelay,omitempty"`
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
	// +kubebuilder:validation:XValidation:rule="isIP(self)",message="must be an IP address, for example 10.44.0.10 or fd00:44::10"
	From string `json:"from"`
	// Last address, included; the same as `from` if empty.
	// +optional
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="self.size() == 0 || isIP(self)",message="must be an IP address, for example 10.44.0.10 or fd00:44::10"
	To string `json:"to,omitempty"`
	// What it is for, for people.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Comment string `json:"comment,omitempty"`
}

// IPPoolStatus is what is there of an IPPool.
type IPPoolStatus struct {
	// The generation of the spec that this status speaks of.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Addresses that can be handed out at all.
	Capacity int64 `json:"capacity,omitempty"`
	// Addresses that belong to an instance.
	Allocated int64 `json:"allocated"`
	// Addresses that were given back and rest for spec.reuseDelay.
	Cooling int64 `json:"cooling,omitempty"`
	// Addresses that are free.
	Free int64 `json:"free"`
	// How much of the capacity is allocated or cooling, in percent, rounded up.
	UtilizationPercent int32 `json:"utilizationPercent"`
	// Accepted, and ForeignAddresses while others use addresses of the pool, each with a reason and a sentence that says what
	// to do.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
