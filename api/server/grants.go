package server

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corev1listers "k8s.io/client-go/listers/core/v1"
	rbacv1listers "k8s.io/client-go/listers/rbac/v1"
	"k8s.io/client-go/tools/cache"

	"padis.io/padis/api/server/roles"
)

// grants keeps what is granted to whom at hand, and the service accounts that there are.
type grants struct {
	// Set by connect, before connected is closed.
	connected    chan struct{}
	client       kubernetes.Interface
	roles        rbacv1listers.RoleLister
	bindings     rbacv1listers.RoleBindingLister
	clusterRoles rbacv1listers.ClusterRoleLister
	clusterwide  rbacv1listers.ClusterRoleBindingLister
	accounts     corev1listers.ServiceAccountLister

	// changes counts what the watches told. A policy holds as long as its number is this one.
	changes  atomic.Uint64
	mu       sync.Mutex
	built    *roles.Policy
	builtFor uint64
}

func newGrants() *grants { return &grants{connected: make(chan struct{})} }

func (g *grants) isConnected() bool {
	select {
	case <-g.connected:
		return true
	default:
		return false
	}
}

// connect watches roles, bindings and service accounts until ctx ends, and returns when all that were there before are
// known. Until then only masters may do anything, and no service account is known.
func (g *grants) connect(ctx context.Context, client kubernetes.Interface) error {
	all := informers.NewSharedInformerFactory(client, 0)
	rbac := all.Rbac().V1()
	g.client = client
	g.roles, g.bindings = rbac.Roles().Lister(), rbac.RoleBindings().Lister()
	g.clusterRoles, g.clusterwide = rbac.ClusterRoles().Lister(), rbac.ClusterRoleBindings().Lister()
	g.accounts = all.Core().V1().ServiceAccounts().Lister()
	changed := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { g.changes.Add(1) },
		UpdateFunc: func(any, any) { g.changes.Add(1) },
		DeleteFunc: func(any) { g.changes.Add(1) },
	}
	synced := []cache.InformerSynced{all.Core().V1().ServiceAccounts().Informer().HasSynced}
	for _, i := range []cache.SharedIndexInformer{rbac.Roles().Informer(), rbac.RoleBindings().Informer(), rbac.ClusterRoles().Informer(), rbac.ClusterRoleBindings().Informer()} {
		handler, err := i.AddEventHandler(changed)
		if err != nil {
			return err
		}
		synced = append(synced, handler.HasSynced)
	}
	all.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), synced...) {
		return ctx.Err()
	}
	close(g.connected)
	return nil
}

// policy is what is granted now.
func (g *grants) policy() (*roles.Policy, error) {
	if !g.isConnected() {
		return roles.New(roles.Objects{}), nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	// Read before the lists: what changes while they are read makes the policy one of the past.
	at := g.changes.Load()
	if g.built != nil && g.builtFor == at {
		return g.built, nil
	}
	var (
		o    roles.Objects
		errs [4]error
	)
	o.Roles, errs[0] = g.roles.List(labels.Everything())
	o.ClusterRoles, errs[1] = g.clusterRoles.List(labels.Everything())
	o.RoleBindings, errs[2] = g.bindings.List(labels.Everything())
	o.ClusterRoleBindings, errs[3] = g.clusterwide.List(labels.Everything())
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	g.built, g.builtFor = roles.New(o), at
	return g.built, nil
}
