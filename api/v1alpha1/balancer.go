package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Protocols of listeners.
const (
	ProtocolTCP = "TCP"
	ProtocolUDP = "UDP"
)

// Schedulers of LoadBalancers.
const (
	SchedulerMaglev                  = "Maglev"
	SchedulerSourceHash              = "SourceHash"
	SchedulerRoundRobin              = "RoundRobin"
	SchedulerWeightedRoundRobin      = "WeightedRoundRobin"
	SchedulerWeightedLeastConnection = "WeightedLeastConnection"
)

// Dataplanes of directors.
const (
	DataplaneAuto = "Auto"
	DataplaneTCX  = "TCX"
	DataplaneXDP  = "XDP"
	DataplaneIPVS = "IPVS"
	DataplaneNFT  = "NFT"
)

// LoadBalancer makes addresses (VIPs) lead to the ready instances of Apps, through directors that announce them to routers.
// Replies go straight to the client (direct routing), so that instances see the client's address.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Namespaced,shortName=lb,categories=all;padis
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="VIPs",type=string,JSONPath=`.status.addresses`
// +kubebuilder:printcolumn:name="Servers",type=string,JSONPath=`.status.servers.summary`,description="Real servers in rotation of those selected"
// +kubebuilder:printcolumn:name="Directors",type=string,JSONPath=`.status.directors.summary`,description="Ready directors of those wanted"
// +kubebuilder:printcolumn:name="Sessions",type=string,JSONPath=`.status.sessions`,description="Sessions with routers that are up, of all"
// +kubebuilder:printcolumn:name="Announced",type=string,JSONPath=`.status.conditions[?(@.type=="Announced")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Announced")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Announced")].message`
//
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 48",message="the name is too long: directors are called NAME-director-SLOT, which must fit the 63 characters of a host name, so choose a name of at most 48 characters",reason=FieldValueInvalid
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="the name becomes part of host names: use only a-z, 0-9 and -, beginning and ending with a letter or digit",reason=FieldValueInvalid
type LoadBalancer struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What is wanted.
	Spec LoadBalancerSpec `json:"spec"`
	// What is there. Written by Padis only.
	Status LoadBalancerStatus `json:"status,omitempty"`
}

// LoadBalancerList is a list of LoadBalancers.
//
// +kubebuilder:object:root=true
type LoadBalancerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []LoadBalancer `json:"items"`
}

// LoadBalancerSpec is what the user wants of a LoadBalancer.
//
// +kubebuilder:validation:XValidation:rule="!has(self.scheduler) || self.scheduler in ['Maglev', 'SourceHash'] || (has(self.dataplane) && self.dataplane == 'IPVS')",messageExpression="self.scheduler + ' is only had by the dataplane IPVS: set dataplane: IPVS, or choose the scheduler Maglev or SourceHash'",fieldPath=".scheduler"
// +kubebuilder:validation:XValidation:rule="!has(self.maxConnections) || self.maxConnections == 0 || (has(self.dataplane) && self.dataplane == 'IPVS')",message="only the dataplane IPVS counts connections: set dataplane: IPVS, or unset maxConnections",fieldPath=".maxConnections",reason=FieldValueForbidden
type LoadBalancerSpec struct {
	// Addresses that clients connect to.
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=1024
	VIPs []VIP `json:"vips"`
	// Ports of all VIPs. Direct routing changes no ports: instances listen on the same.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Listeners []Listener `json:"listeners"`
	// Real servers: ready instances of Apps of the same namespace, with an address in the network of the directors.
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Backends []Backend `json:"backends"`
	// How new connections are placed. Maglev: by a hash of the client's address and port. SourceHash: by a hash of the
	// client's address alone, so that a client stays with an instance. RoundRobin, WeightedRoundRobin and
	// WeightedLeastConnection: by turns or load; only of the dataplane IPVS, and directors then do not know each other's connections.
	// +optional
	// +kubebuilder:default=Maglev
	// +kubebuilder:validation:Enum=Maglev;SourceHash;RoundRobin;WeightedRoundRobin;WeightedLeastConnection
	Scheduler string `json:"scheduler,omitempty"`
	// Slots of the table by which connections are placed: about 100 for each instance are enough. Another one would move
	// every connection, so it cannot be changed.
	// +optional
	// +kubebuilder:default=4093
	// +kubebuilder:validation:Enum=4093;16381;65537
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="cannot be changed, every connection would move: create a new LoadBalancer",reason=FieldValueForbidden
	TableSize int32 `json:"tableSize,omitempty"`
	// What forwards on directors. Auto: the first that works there of TCX, IPVS and NFT. TCX: eBPF on any interface. XDP:
	// eBPF before the network stack, for physical interfaces. IPVS: the kernel's virtual server. NFT: nf_tables, which
	// needs no privileges; connections may break at changes.
	// +optional
	// +kubebuilder:default=Auto
	// +kubebuilder:validation:Enum=Auto;TCX;XDP;IPVS;NFT
	Dataplane string `json:"dataplane,omitempty"`
	// Who forwards and announces.
	Directors Directors `json:"directors"`
	// What directors check of each real server through the path that clients take, beside the health checks of its App.
	// Without any, ready instances are in rotation.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=8
	HealthChecks []PathCheck `json:"healthChecks,omitempty"`
	// How long an instance that is to stop keeps the connections that it has. It stops earlier when it has none.
	// +optional
	// +kubebuilder:default="30s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}([.][0-9]{1,3})?s)?([0-9]{1,9}ms)?$') && self.size() > 0 && duration(self) >= duration('0s') && duration(self) <= duration('24h')",message="must be a time of at most 24h, not negative, written like 500ms, 10s or 1m30s"
	DrainTime *metav1.Duration `json:"drainTime,omitempty"`
	// VIPs are announced only while at least this many real servers are in rotation.
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000
	MinServers int32 `json:"minServers,omitempty"`
	// Connections that each director gives one real server at most; 0 is without a limit. Only of the dataplane IPVS.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	MaxConnections int64 `json:"maxConnections,omitempty"`
	// How VIPs are announced.
	BGP Announcement `json:"bgp"`
}

// VIP is an address that clients connect to.
type VIP struct {
	// Name of an IPPool of a Network with the driver virtual.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Pool string `json:"pool"`
	// Address of the pool; without it the next free one, which stays as long as the entry does.
	// +optional
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="self.size() == 0 || isIP(self)",message="must be an IP address, for example 198.51.100.10 or 2001:db8::10"
	Address string `json:"address,omitempty"`
}

// Listener is a port, or a range of them, on all VIPs.
type Listener struct {
	// Name of the listener, for example https.
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`
	// TCP or UDP.
	// +optional
	// +kubebuilder:default=TCP
	// +kubebuilder:validation:Enum=TCP;UDP
	Protocol string `json:"protocol,omitempty"`
	// Port that clients connect to and instances listen on.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`
	// Last port of a range; the same as port if it is not set.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	EndPort int32 `json:"endPort,omitempty"`
	// Clients that may connect, as subnets; without any, all may. If there are none of a VIP's family, nobody may connect to it.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=64
	// +kubebuilder:validation:items:XValidation:rule="isCIDR(self)",message="must be a subnet, for example 192.0.2.0/24 or 2001:db8::/32"
	SourceRanges []string `json:"sourceRanges,omitempty"`
}

// Backend selects Apps of the same namespace. An instance that several backends select belongs to the first of them.
//
// +kubebuilder:validation:XValidation:rule="(has(self.app) && self.app.size() > 0) != has(self.selector)",message="set exactly one of app (the name of an App) and selector (labels of Apps)",reason=FieldValueRequired
// +kubebuilder:validation:XValidation:rule="!has(self.weight) || !has(self.percent)",message="set weight, of each instance, or percent, of all of them together, but not both",fieldPath=".percent",reason=FieldValueForbidden
type Backend struct {
	// Name of an App.
	// +optional
	// +kubebuilder:validation:MaxLength=57
	App string `json:"app,omitempty"`
	// Apps with these labels.
	// +optional
	Selector *BackendSelector `json:"selector,omitempty"`
	// Share of each instance in new connections, in proportion to the weights of others; 0 gets none. Default is 100.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10000
	Weight *int32 `json:"weight,omitempty"`
	// Instead of a weight: what all instances of this backend together get of all new connections, in percent. For canaries.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	Percent *int32 `json:"percent,omitempty"`
}

// BackendSelector selects Apps by their labels.
type BackendSelector struct {
	// Labels that an App must have, all of them.
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=16
	MatchLabels map[string]string `json:"matchLabels"`
}

// Directors forward and announce. They are instances like those of an App, called NAME-director-SLOT.
type Directors struct {
	// How many; all of them forward at the same time.
	// +optional
	// +kubebuilder:default=2
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=64
	Replicas *int32 `json:"replicas,omitempty"`
	// Interfaces of each director, as of an App. The first must be in the segment of the real servers, so its Network has
	// the driver bridge, vlan or vxlan.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=4
	// +kubebuilder:validation:XValidation:rule="self.all(n, has(n.pool) && n.pool.size() > 0)",message="directors need addresses of their own: name an IPPool in pool, and no network"
	Networks []NetworkAttachment `json:"networks"`
	// Where directors may run. Without constraints no two of them are on one host.
	// +optional
	Placement Placement `json:"placement,omitempty"`
	// What each director takes of its agent. Default is 100m of CPU and 128Mi of memory.
	// +optional
	Resources Resources `json:"resources,omitempty"`
	// How a change reaches the directors.
	// +optional
	Update UpdateStrategy `json:"update,omitempty"`
}

// PathCheck says how directors find out whether they reach a real server. Exactly one of tcp and http is set.
//
// +kubebuilder:validation:XValidation:rule="[has(self.tcp), has(self.http)].filter(x, x).size() == 1",message="set exactly one of tcp and http; for several probes write several health checks",reason=FieldValueRequired
// +kubebuilder:validation:XValidation:rule="!has(self.timeout) || !has(self.interval) || !self.timeout.matches('^[0-9.hms]+[hms]$') || !self.interval.matches('^[0-9.hms]+[hms]$') || duration(self.timeout) <= duration(self.interval)",messageExpression="'timeout ' + self.timeout + ' is longer than interval ' + self.interval + '; probes would overlap: raise the interval or lower the timeout'",fieldPath=".timeout"
type PathCheck struct {
	// A connection to the VIP can be opened.
	// +optional
	TCP *TCPProbe `json:"tcp,omitempty"`
	// A GET to the VIP is answered as expected.
	// +optional
	HTTP *HTTPProbe `json:"http,omitempty"`
	// Time between probes.
	// +optional
	// +kubebuilder:default="2s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}([.][0-9]{1,3})?s)?([0-9]{1,9}ms)?$') && self.size() > 0 && duration(self) >= duration('100ms')",message="must be a time of at least 100ms, written like 500ms, 10s or 1m30s"
	Interval *metav1.Duration `json:"interval,omitempty"`
	// A probe that takes longer has failed.
	// +optional
	// +kubebuilder:default="1s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}([.][0-9]{1,3})?s)?([0-9]{1,9}ms)?$') && self.size() > 0 && duration(self) > duration('0s')",message="must be a time longer than zero, written like 500ms, 10s or 1m30s"
	Timeout *metav1.Duration `json:"timeout,omitempty"`
	// Consecutive failures after which a director counts the real server as out of reach. It is taken out of rotation when
	// more than half of the directors do.
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	FailureThreshold int32 `json:"failureThreshold,omitempty"`
	// Consecutive successes after which it is reached again.
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	SuccessThreshold int32 `json:"successThreshold,omitempty"`
}

// Announcement says how VIPs are announced, and to which routers.
type Announcement struct {
	// Autonomous system of the directors.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	ASN int64 `json:"asn"`
	// Names of BGPPeers; without any, all that there are.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	Peers []string `json:"peers,omitempty"`
	// Communities of each route (RFC 1997): 64512:100, no-export, no-advertise.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=32
	// +kubebuilder:validation:items:XValidation:rule="self in ['no-export', 'no-advertise'] || self.matches('^[0-9]{1,5}:[0-9]{1,5}$')",message="must be two numbers up to 65535, for example 64512:100, or no-export or no-advertise"
	Communities []string `json:"communities,omitempty"`
	// Local preference of each route, for routers of the same autonomous system; 0 is none.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	LocalPreference int64 `json:"localPreference,omitempty"`
	// Multi-exit discriminator of each route: of two the lower one is preferred; 0 is none.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	MED int64 `json:"med,omitempty"`
}

// Condition types of LoadBalancers, beside Accepted and PeersUp.
const (
	// ConditionAnnounced: each VIP has an address that at least one director announces.
	ConditionAnnounced = "Announced"
	// ConditionServersReady: all real servers that are selected are in rotation.
	ConditionServersReady = "ServersReady"
	// ConditionRedundant: all directors announce all VIPs, and routers use all of them.
	ConditionRedundant = "Redundant"
	// ConditionConnectionsKept: the hosts of real servers send on what a change has moved, so that it breaks no connection.
	ConditionConnectionsKept = "ConnectionsKept"
)
