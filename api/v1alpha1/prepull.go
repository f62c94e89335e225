package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ConditionPresent: all images of an ImagePrepull are on all its agents.
const ConditionPresent = "Present"

// MaxPrepullAgents is the number of agents that the status of an ImagePrepull lists.
const MaxPrepullAgents = 200

// ImagePrepull brings images to agents before an App needs them, and keeps them there.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Namespaced,shortName=prepull,categories=padis
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Images",type=string,JSONPath=`.spec.images`
// +kubebuilder:printcolumn:name="Wanted",type=integer,JSONPath=`.status.wanted`
// +kubebuilder:printcolumn:name="Present",type=integer,JSONPath=`.status.present`
// +kubebuilder:printcolumn:name="Failed",type=integer,JSONPath=`.status.failed`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Present")].message`
type ImagePrepull struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What is wanted.
	Spec ImagePrepullSpec `json:"spec"`
	// How far it is. Written by Padis only.
	Status ImagePrepullStatus `json:"status,omitempty"`
}

// ImagePrepullList is a list of ImagePrepulls.
//
// +kubebuilder:object:root=true
type ImagePrepullList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ImagePrepull `json:"items"`
}

// ImagePrepullSpec says which images shall be where.
type ImagePrepullSpec struct {
	// Images, as an App names them.
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=512
	// +kubebuilder:validation:items:XValidation:rule="self.size() == 0 || self.matches('^(([A-Za-z0-9][-A-Za-z0-9.]*|[[][0-9a-fA-F:]+[]])(:[0-9]{1,5})?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*(:[A-Za-z0-9_][-A-Za-z0-9_.]{0,127})?(@[a-z0-9]+:[0-9a-f]{32,128})?$')",message="must be an image as HOST/NAME:TAG or HOST/NAME@sha256:DIGEST, for example registry.example.com/shop:1.4"
	Images []string `json:"images"`
	// Agents with one of these attributes; without any, all that run instances of Padis.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	Agents []AgentSelector `json:"agents,omitempty"`
	// Secrets of the type kubernetes.io/dockerconfigjson with the credentials of registries.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	ImagePullSecrets []SecretReference `json:"imagePullSecrets,omitempty"`
}

// ImagePrepullStatus is how far an ImagePrepull is.
type ImagePrepullStatus struct {
	// The generation of the spec that this status speaks of.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Images to be on agents: each image counts once on each agent.
	Wanted int32 `json:"wanted"`
	// Images that are there.
	Present int32 `json:"present"`
	// Images whose last pull has failed; they are tried again.
	Failed int32 `json:"failed"`
	// The same for each agent; those that lack something come first, and at most 200 are listed.
	// +optional
	// +listType=map
	// +listMapKey=agent
	Agents []AgentPrepull `json:"agents,omitempty"`
	// Accepted and Present, each with a reason and a sentence that says what to do.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// AgentPrepull is how far an ImagePrepull is on one agent.
type AgentPrepull struct {
	// Mesos id of the agent.
	Agent string `json:"agent"`
	// Name of its host.
	Host string `json:"host,omitempty"`
	// Images to be on the agent.
	Wanted int32 `json:"wanted"`
	// Images that are there.
	Present int32 `json:"present"`
	// Images whose last pull has failed.
	Failed int32 `json:"failed"`
	// Why the first of these has failed, and what to do.
	Message string `json:"message,omitempty"`
}
