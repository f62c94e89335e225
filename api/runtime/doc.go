// Package runtime holds the read-only projections Instance, Agent and Address of the group runtime.padis.io: what the
// scheduler knows, shown as API objects, never stored. Pure.
//
// +kubebuilder:object:generate=true
// +k8s:openapi-gen=true
// +k8s:openapi-model-package=io.padis.runtime.v1alpha1
// +groupName=runtime.padis.io
package runtime
