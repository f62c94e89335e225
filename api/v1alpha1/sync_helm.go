package v1alpha1

import "k8s.io/apimachinery/pkg/runtime"

// SyncHelm says how the chart in the path of a Sync is rendered. There is no release, and no cluster: lookup gives nothing, hooks
// but tests are refused, and what is declared must not depend on time or chance.
type SyncHelm struct {
	// .Release.Name; without it, the name of the Sync.
	// +optional
	// +kubebuilder:validation:MaxLength=53
	// +kubebuilder:validation:XValidation:rule="self.size() == 0 || self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",message="must be the name of a release, for example shop"
	ReleaseName string `json:"releaseName,omitempty"`
	// Files of the repository with values, by their paths from its root. Later ones win, and all win over values.yaml of the
	// chart. What sops has encrypted in them is decrypted, and ${NAME} stands for what spec.variables say.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=512
	// +kubebuilder:validation:items:XValidation:rule="!self.startsWith('/') && !self.matches('(^|/)[.][.](/|$)')",message="must be a path within the repository, for example clusters/berlin/values.yaml"
	ValuesFiles []string `json:"valuesFiles,omitempty"`
	// Values of the chart, which win over all files. ${NAME} in them stands for what spec.variables say: so a value comes
	// from a Secret.
	// +optional
	// +kubebuilder:validation:Type=object
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:pruning:PreserveUnknownFields
	Values *runtime.RawExtension `json:"values,omitempty"`
}

// MaxReleaseName is how long the name of a release may be: helm's own bound.
const MaxReleaseName = 53

// Release is .Release.Name of the charts that a Sync renders.
func (s *Sync) Release() string {
	if h := s.Spec.Helm; h != nil && h.ReleaseName != "" {
		return h.ReleaseName
	}
	return s.Name
}
