package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion of the declared kinds.
var GroupVersion = schema.GroupVersion{Group: "padis.io", Version: "v1alpha1"}

// AddToScheme registers the declared kinds.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion,
		&App{}, &AppList{},
		&AppRevision{}, &AppRevisionList{},
		&Network{}, &NetworkList{},
		&IPPool{}, &IPPoolList{},
		&Tenant{}, &TenantList{},
		&Registry{}, &RegistryList{},
		&ExecutorUpgrade{}, &ExecutorUpgradeList{},
		&ImagePrepull{}, &ImagePrepullList{},
		&LoadBalancer{}, &LoadBalancerList{},
		&BGPPeer{}, &BGPPeerList{},
		&GitSource{}, &GitSourceList{},
		&Sync{}, &SyncList{},
	)
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
