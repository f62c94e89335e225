package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// AnyRegistry is the host of a Registry that speaks of all registries without one of their own.
const AnyRegistry = "*"

// Registry says how agents reach a registry of images: by which mirrors, with which authorities. Registries that need
// none of that need not be declared.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=padis
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Host",type=string,JSONPath=`.spec.host`
// +kubebuilder:printcolumn:name="Mirrors",type=string,JSONPath=`.spec.mirrors`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Registry struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What is wanted.
	Spec RegistrySpec `json:"spec"`
	// What is in force. Written by Padis only.
	Status RegistryStatus `json:"status,omitempty"`
}

// RegistryList is a list of Registries.
//
// +kubebuilder:object:root=true
type RegistryList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Registry `json:"items"`
}

// RegistrySpec describes a registry.
//
// +kubebuilder:validation:XValidation:rule="!has(self.mirrorsOnly) || !self.mirrorsOnly || (has(self.mirrors) && self.mirrors.size() > 0)",message="without mirrors nothing could be pulled: list mirrors, or unset mirrorsOnly",fieldPath=".mirrorsOnly"
// +kubebuilder:validation:XValidation:rule="!has(self.plainHTTP) || !self.plainHTTP || self.host != '*'",message="say of each registry by itself that it speaks plain HTTP: name it in host",fieldPath=".plainHTTP"
type RegistrySpec struct {
	// Host that images name, with its port if it is not the default one, for example registry.example.com:5000; docker.io
	// for images without a host; * for every registry that is not declared by itself.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self == '*' || self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?(:[0-9]{1,5})?$')",message="must be a host with or without a port, as images name it, for example registry.example.com:5000, or *"
	Host string `json:"host"`
	// Base URLs that are asked before the registry itself, in this order, for example https://mirror.rack1.example.com.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=512
	// +kubebuilder:validation:items:Pattern=`^https?://[^/?#\s]+(/[^?#\s]*)?$`
	Mirrors []string `json:"mirrors,omitempty"`
	// Only agents with one of these attributes use the mirrors; without any, all do.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	Agents []AgentSelector `json:"agents,omitempty"`
	// Speak plain HTTP with the host itself.
	// +optional
	PlainHTTP bool `json:"plainHTTP,omitempty"`
	// Certificates, in PEM, of the authorities that may have signed those of the registry and its mirrors, beside the
	// agents' own.
	// +optional
	// +kubebuilder:validation:MaxLength=131072
	// +kubebuilder:validation:XValidation:rule="self.size() == 0 || self.contains('-----BEGIN CERTIFICATE-----')",message="must be certificates in PEM: -----BEGIN CERTIFICATE----- and so on"
	CABundle string `json:"caBundle,omitempty"`
	// Never ask the registry itself.
	// +optional
	MirrorsOnly bool `json:"mirrorsOnly,omitempty"`
}

// RegistryStatus is what is in force of a Registry.
type RegistryStatus struct {
	// The generation of the spec that this status speaks of.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Accepted, with a reason and a sentence that says what to do.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
