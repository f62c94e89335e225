package runtime

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion of the projections.
var GroupVersion = schema.GroupVersion{Group: "runtime.padis.io", Version: "v1alpha1"}

// AddToScheme registers the projections.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &Instance{}, &InstanceList{}, &Agent{}, &AgentList{}, &Address{}, &AddressList{}, &Usage{}, &UsageList{})
	AddBalances(s, GroupVersion)
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}

// Instance is one running, or not yet running, copy of an App. It is called APP-SLOT.
//
// +kubebuilder:object:root=true
type Instance struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Status            InstanceStatus `json:"status"`
}

// InstanceStatus is what the scheduler knows of an instance.
type InstanceStatus struct {
	App  string `json:"app"`
	Slot int32  `json:"slot"`
	// Pending, BackOff, Staging, Starting, Running, Adopting, Stopping, Unreachable or Retired.
	Phase string `json:"phase"`
	Ready bool   `json:"ready"`
	// Host name and Mesos id of the agent; empty while there is none.
	Host  string `json:"host,omitempty"`
	Agent string `json:"agent,omitempty"`
	// Leased addresses, in the order of the App's networks.
	Addresses []string `json:"addresses,omitempty"`
	TaskID    string   `json:"taskID,omitempty"`
	Executor  string   `json:"executor,omitempty"`
	Revision  string   `json:"revision,omitempty"`
	Restarts  int64    `json:"restarts"`
	// Why it is where it is, and what to do about it.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// How many agents refused the instance for which reason at the last attempt to place it.
	Refusals  map[string]int32 `json:"refusals,omitempty"`
	StartedAt *metav1.Time     `json:"startedAt,omitempty"`
	ReadyAt   *metav1.Time     `json:"readyAt,omitempty"`
	// When a delayed restart is due.
	NotBefore       *metav1.Time `json:"notBefore,omitempty"`
	LastTermination *Termination `json:"lastTermination,omitempty"`
	// The newest ends, newest first.
	Terminations []Termination `json:"terminations,omitempty"`
	// Name of the container on its host; empty for a plain process.
	Container string `json:"container,omitempty"`
	// Digest of the image that runs.
	ImageDigest string `json:"imageDigest,omitempty"`
}

// Termination is how the previous run of an instance ended.
type Termination struct {
	Host       string       `json:"host,omitempty"`
	ExitCode   int32        `json:"exitCode"`
	Signal     string       `json:"signal,omitempty"`
	Reason     string       `json:"reason,omitempty"`
	Message    string       `json:"message,omitempty"`
	FinishedAt *metav1.Time `json:"finishedAt,omitempty"`
	StartedAt  *metav1.Time `json:"startedAt,omitempty"`
	// The kernel ended it for want of memory.
	OOMKilled bool   `json:"oomKilled,omitempty"`
	Revision  string `json:"revision,omitempty"`
	Container string `json:"container,omitempty"`
}

// InstanceList is a list of Instances.
//
// +kubebuilder:object:root=true
type InstanceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Instance `json:"items"`
}

// Agent is a Mesos agent. Cluster-scoped; called by its Mesos id in lower case, labelled with its attributes.
//
// +kubebuilder:object:root=true
type Agent struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Status            AgentStatus `json:"status"`
}

// AgentStatus is what the scheduler knows of an agent.
type AgentStatus struct {
	ID         string            `json:"id"`
	Hostname   string            `json:"hostname"`
	Attributes map[string]string `json:"attributes,omitempty"`
	// Active, Inactive, Unreachable, Draining, Drained or Gone.
	State string `json:"state"`
	// Total, and what Padis instances take of it. CPUs in thousandths, memory and disk in MiB.
	Total     Amounts `json:"total"`
	Used      Amounts `json:"used"`
	Instances int32   `json:"instances"`
	Executor  string  `json:"executor,omitempty"`
	Version   string  `json:"version,omitempty"`
}

// Amounts are resources.
type Amounts struct {
	CPUMilli  int64 `json:"cpuMilli"`
	MemoryMiB int64 `json:"memoryMiB"`
	DiskMiB   int64 `json:"diskMiB"`
}

// AgentList is a list of Agents.
//
// +kubebuilder:object:root=true
type AgentList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Agent `json:"items"`
}

// States of an Address.
const (
	// AddressAllocated: it belongs to an instance.
	AddressAllocated = "Allocated"
	// AddressCooling: it was given back, and rests for the reuse delay of its pool.
	AddressCooling = "Cooling"
	// AddressForeign: nobody holds it, and somebody uses it.
	AddressForeign = "Foreign"
)

// Address is an address of a pool that is leased, rests, or is used by others. Cluster-scoped; called by the address.
//
// +kubebuilder:object:root=true
type Address struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Status            AddressStatus `json:"status"`
}

// AddressStatus says who holds an address.
type AddressStatus struct {
	Address string `json:"address"`
	Network string `json:"network,omitempty"`
	Pool    string `json:"pool"`
	// Allocated, Cooling or Foreign.
	State string `json:"state"`
	// The instance that it belongs to, or the LoadBalancer whose VIP it is; empty unless it is allocated.
	Namespace string `json:"namespace,omitempty"`
	Instance  string `json:"instance,omitempty"`
	// Host where the address is configured now; empty if nowhere.
	Host string `json:"host,omitempty"`
	// When it was leased, or, if it is cooling, given back.
	Since *metav1.Time `json:"since,omitempty"`
	// Who else uses it, as far as is known.
	Conflict string `json:"conflict,omitempty"`
	// The instance that had it, as NAMESPACE/NAME, while it is cooling.
	Former string `json:"former,omitempty"`
}

// Held tells whether the address belongs to an instance.
func (s *AddressStatus) Held() bool { return s.State != AddressCooling && s.State != AddressForeign }

// AddressList is a list of Addresses.
//
// +kubebuilder:object:root=true
type AddressList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Address `json:"items"`
}
