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
