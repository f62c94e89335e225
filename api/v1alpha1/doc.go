// Package v1alpha1 holds the kinds that users declare: App, Network, IPPool and Tenant. Pure.
//
// +kubebuilder:object:generate=true
// +groupName=padis.io
package v1alpha1
