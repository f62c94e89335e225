package v1alpha1

import (
	"cmp"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// MaxRevisions is how many AppRevisions of one App are kept.
const MaxRevisions = 10

// UndoManager is the field manager by which padis rollback writes. A Sync that applies an object again takes over the fields
// that this manager has set.
const UndoManager = "padis-rollback"

// AppRevision is what the spec of an App was before somebody changed it. Padis writes it when an App is changed, unless
// only the number of instances is; at most 10 of an App are kept, and they go with the App.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Namespaced,shortName=apprev
// +kubebuilder:printcolumn:name="App",type=string,JSONPath=`.spec.app`
// +kubebuilder:printcolumn:name="Generation",type=integer,JSONPath=`.spec.generation`
// +kubebuilder:printcolumn:name="Replaced",type=date,JSONPath=`.spec.replacedAt`
// +kubebuilder:printcolumn:name="By",type=string,JSONPath=`.spec.replacedBy`
// +kubebuilder:printcolumn:name="Commit",type=string,JSONPath=`.spec.commit`
type AppRevision struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What was, and who has changed it. Written by Padis only.
	Spec AppRevisionSpec `json:"spec"`
}

// AppRevisionList is a list of AppRevisions.
//
// +kubebuilder:object:root=true
type AppRevisionList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []AppRevision `json:"items"`
}

// AppRevisionSpec is a spec that was in force.
type AppRevisionSpec struct {
	// Name of the App.
	App string `json:"app"`
	// The generation of the App that had the spec.
	Generation int64 `json:"generation"`
	// The spec, as it was.
	// +kubebuilder:pruning:PreserveUnknownFields
	Spec runtime.RawExtension `json:"spec"`
	// Who has put another one in its place.
	ReplacedBy string `json:"replacedBy"`
	// When that was.
	ReplacedAt metav1.Time `json:"replacedAt"`
	// The commit that says so, if a Sync has done it.
	// +optional
	Commit string `json:"commit,omitempty"`
}

// RevisionName is the name of the AppRevision of a generation of an App.
func RevisionName(app string, generation int64) string { return fmt.Sprintf("%s-%d", app, generation) }

// SortRevisions puts the newest first.
func SortRevisions(list []AppRevision) {
	slices.SortFunc(list, func(a, b AppRevision) int { return cmp.Compare(b.Spec.Generation, a.Spec.Generation) })
}
