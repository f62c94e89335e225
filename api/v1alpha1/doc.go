// Package v1alpha1 holds the kinds that users declare: App, LoadBalancer, Network, IPPool, BGPPeer, Tenant, Registry,
// ExecutorUpgrade, ImagePrepull, GitSource and Sync. Pure.
//
// +kubebuilder:object:generate=true
// +groupName=padis.io
package v1alpha1
