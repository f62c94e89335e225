package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// UpgradeName is the name of the only ExecutorUpgrade.
const UpgradeName = "default"

// ExecutorUpgrade replaces executors of an older version while the containers that they look after run on. There is one,
// called default; without it executors stay as they are until their last instance has gone.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=padis
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Total",type=integer,JSONPath=`.status.total`
// +kubebuilder:printcolumn:name="Updated",type=integer,JSONPath=`.status.updated`
// +kubebuilder:printcolumn:name="Upgrading",type=integer,JSONPath=`.status.upgrading`
// +kubebuilder:printcolumn:name="Skipped",type=integer,JSONPath=`.status.skipped`
// +kubebuilder:printcolumn:name="Paused",type=boolean,JSONPath=`.spec.paused`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Progressing")].message`
//
// +kubebuilder:validation:XValidation:rule="self.metadata.name == 'default'",message="there is one ExecutorUpgrade for the whole cluster: call it default"
type ExecutorUpgrade struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What is wanted.
	// +optional
	Spec ExecutorUpgradeSpec `json:"spec,omitempty"`
	// How far it is. Written by Padis only.
	Status ExecutorUpgradeStatus `json:"status,omitempty"`
}

// ExecutorUpgradeList is a list of ExecutorUpgrades.
//
// +kubebuilder:object:root=true
type ExecutorUpgradeList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ExecutorUpgrade `json:"items"`
}

// ExecutorUpgradeSpec says which executors are replaced, and how fast.
type ExecutorUpgradeSpec struct {
	// SHA-256 of the executor that all shall run, lower-case hex; as long as the scheduler offers another, nothing is
	// replaced. Empty is whatever the scheduler offers: every upgrade of the scheduler is then one of all executors.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^([0-9a-f]{64})?$`
	ArtifactSHA256 string `json:"artifactSHA256,omitempty"`
	// Replace no further executors until it is unset.
	// +optional
	Paused bool `json:"paused,omitempty"`
	// Number of executors that are replaced at the same time.
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	MaxParallel int32 `json:"maxParallel,omitempty"`
	// Replace also executors that run plain processes, which end with their executor and are started again.
	// +optional
	RestartProcesses bool `json:"restartProcesses,omitempty"`
}

// ExecutorUpgradeStatus is how far an upgrade is.
type ExecutorUpgradeStatus struct {
	// The generation of the spec that this status speaks of.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Executors that there are.
	Total int32 `json:"total"`
	// Executors that run the wanted version.
	Updated int32 `json:"updated"`
	// Executors that are being replaced.
	Upgrading int32 `json:"upgrading"`
	// Older executors that are left alone because they run plain processes.
	Skipped int32 `json:"skipped"`
	// Accepted and Progressing, each with a reason and a sentence that says what to do.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
