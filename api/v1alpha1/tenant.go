package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Tenant owns namespaces and says which hosts its instances may share with whom.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=padis
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Namespaces",type=string,JSONPath=`.spec.namespaces`
// +kubebuilder:printcolumn:name="Not-with",type=string,JSONPath=`.spec.notColocatedWith`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
//
// +kubebuilder:validation:XValidation:rule="!has(self.spec.notColocatedWith) || !self.spec.notColocatedWith.exists(t, t == self.metadata.name)",message="a tenant cannot be kept apart from itself: remove its name from spec.notColocatedWith; to keep instances of one App apart use the constraint Unique on hostname"
type Tenant struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   TenantSpec   `json:"spec"`
	Status TenantStatus `json:"status,omitempty"`
}

// TenantList is a list of Tenants.
//
// +kubebuilder:object:root=true
type TenantList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Tenant `json:"items"`
}

// TenantSpec describes a tenant.
type TenantSpec struct {
	// Namespaces of the tenant. A namespace belongs to one tenant at most.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	Namespaces []string `json:"namespaces,omitempty"`
	// Tenants whose instances never share a host with this one's. Naming it on one side is enough.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	NotColocatedWith []string `json:"notColocatedWith,omitempty"`
	// Agents that serve this tenant only, and the only ones that serve it.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	Dedicated []AgentSelector `json:"dedicated,omitempty"`
	// What instances of the tenant take of their agent where their App says nothing. A change is an update of these Apps.
	// +optional
	DefaultResources Resources `json:"defaultResources,omitempty"`
	// Paths of hosts that volumes of the tenant's Apps may show, with all below them. Without any, and in namespaces without
	// a Tenant, hostPath volumes are refused.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=512
	// +kubebuilder:validation:items:XValidation:rule="self.matches('^(/|(/[^/]+)+)$') && !self.matches('/[.][.]?(/|$)')",message="must be an absolute path without .., for example /srv/data"
	HostPaths []string `json:"hostPaths,omitempty"`
	// NFS servers that volumes of the tenant's Apps may be on; without any, all.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	NFSServers []string `json:"nfsServers,omitempty"`
	// What containers of the tenant may do beyond the usual.
	// +optional
	Privileges TenantPrivileges `json:"privileges,omitempty"`
	// How many addresses the tenant's instances may hold, of one pool or of all together. A lower quota takes none away.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:XValidation:rule="self.all(q, self.exists_one(w, (has(w.pool) ? w.pool : '') == (has(q.pool) ? q.pool : '')))",message="two quotas are for the same pool: write one"
	AddressQuotas []AddressQuota `json:"addressQuotas,omitempty"`
	// Record what is typed and shown in exec sessions into the tenant's instances.
	// +optional
	RecordExec bool `json:"recordExec,omitempty"`
}

// TenantPrivileges are what containers of a tenant may do beyond the usual.
type TenantPrivileges struct {
	// Capabilities that Apps of the tenant may add, without CAP_, for example NET_ADMIN. Those of every container need not
	// be listed.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=41
	// +kubebuilder:validation:items:MaxLength=32
	// +kubebuilder:validation:items:XValidation:rule="self.matches('^[A-Z][A-Z_]*[A-Z]$') && !self.startsWith('CAP_') && self != 'ALL'",message="must be the name of one capability without CAP_, for example NET_ADMIN"
	Capabilities []string `json:"capabilities,omitempty"`
	// Apps of the tenant may do without the filter of system calls.
	// +optional
	SeccompUnconfined bool `json:"seccompUnconfined,omitempty"`
	// Programs of the tenant may gain privileges by setuid bits and file capabilities.
	// +optional
	PrivilegeEscalation bool `json:"privilegeEscalation,omitempty"`
}

// AddressQuota bounds the addresses that the instances of a tenant hold.
type AddressQuota struct {
	// Name of an IPPool; without it all addresses of the tenant count.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Pool string `json:"pool,omitempty"`
	// How many there may be.
	// +kubebuilder:validation:Minimum=0
	Max int64 `json:"max"`
}

// AgentSelector selects agents by an attribute.
type AgentSelector struct {
	// hostname, or an attribute of the agents.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Attribute string `json:"attribute"`
	// Value of the attribute.
	// +kubebuilder:validation:MaxLength=253
	Value string `json:"value"`
}

// TenantStatus is what is there of a Tenant.
type TenantStatus struct {
	// The generation of the spec that this status speaks of.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Accepted, with a reason and a sentence that says what to do.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
