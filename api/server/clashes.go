package server

import (
	"context"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/client-go/rest"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/v1alpha1"
)

type addressObject = *runtime.Address

// declared reads what is declared, newest state, from the server itself.
type declared struct {
	client  rest.Interface
	claimed *claimed
}

func newDeclared(loopback *rest.Config) (*declared, error) {
	scheme := kruntime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	cfg := rest.CopyConfig(loopback)
	cfg.APIPath = "/apis"
	cfg.GroupVersion = &v1alpha1.GroupVersion
	cfg.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	client, err := rest.RESTClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("admission: %w", err)
	}
	return &declared{client, newClaimed()}, nil
}

func (d *declared) list(ctx context.Context, resource string, into kruntime.Object) error {
	if err := d.client.Get().Resource(resource).Do(ctx).Into(into); err != nil {
		return fmt.Errorf("list %s: %w", resource, err)
	}
	return nil
}

func (d *declared) apps(ctx context.Context) ([]v1alpha1.App, error) {
	var l v1alpha1.AppList
	err := d.list(ctx, "apps", &l)
	return l.Items, err
}

// checkWrite judges an object that is created or changed. A change that leaves the spec alone is never refused, nor is
// one of an object that is being deleted.
func (c *admissionChain) checkWrite(ctx context.Context, resource schema.GroupResource, a admission.Attributes) error {
	var errs field.ErrorList
	var err error
	switch resource.Resource {
	case "apps":
		errs, err = judge(ctx, a, newApp, func(o *v1alpha1.App) any { return o.Spec }, func(ctx context.Context, old, app *v1alpha1.App) (field.ErrorList, error) {
			if errs, err := c.judgeApp(ctx, old, app, a.IsDryRun()); len(errs) > 0 || err != nil {
				return errs, err
			}
			return nil, c.remember(ctx, a, old, app)
		})
	case revisions:
		return checkRevision(a)
	case "gitsources":
		errs, err = judge(ctx, a, newSource, func(o *v1alpha1.GitSource) any { return o.Spec }, judgeSource)
	case "syncs":
		errs, err = judge(ctx, a, newSync, func(o *v1alpha1.Sync) any { return o.Spec }, judgeSync)
	case "networks":
		errs, err = judge(ctx, a, newNetwork, func(o *v1alpha1.Network) any { return o.Spec }, c.judgeNetwork)
	case "ippools":
		errs, err = judge(ctx, a, newPool, func(o *v1alpha1.IPPool) any { return o.Spec }, c.judgePool)
	case "tenants":
		errs, err = judge(ctx, a, newTenant, func(o *v1alpha1.Tenant) any { return o.Spec }, c.judgeTenant)
	case "registries":
		errs, err = judge(ctx, a, newRegistry, func(o *v1alpha1.Registry) any { return o.Spec }, c.judgeRegistry)
	case "loadbalancers":
		errs, err = judge(ctx, a, newBalancer, func(o *v1alpha1.LoadBalancer) any { return o.Spec }, c.judgeBalancer)
	case "bgppeers":
		errs, err = judge(ctx, a, newPeer, func(o *v1alpha1.BGPPeer) any { return o.Spec }, c.judgePeer)
	}
	if err != nil {
		return err
	}
	if len(errs) > 0 {
		return apierrors.NewInvalid(a.GetKind().GroupKind(), a.GetName(), errs)
	}
	return nil
}

func newApp() *v1alpha1.App           { return &v1alpha1.App{} }
func newNetwork() *v1alpha1.Network   { return &v1alpha1.Network{} }
func newPool() *v1alpha1.IPPool       { return &v1alpha1.IPPool{} }
func newTenant() *v1alpha1.Tenant     { return &v1alpha1.Tenant{} }
func newRegistry() *v1alpha1.Registry { return &v1alpha1.Registry{} }
func newSource() *v1alpha1.GitSource  { return &v1alpha1.GitSource{} }
func newSync() *v1alpha1.Sync         { return &v1alpha1.Sync{} }

func judgeSource(_ context.Context, _, s *v1alpha1.GitSource) (field.ErrorList, error) {
	return v1alpha1.ValidateGitSource(s), nil
}

func judgeSync(_ context.Context, _, y *v1alpha1.Sync) (field.ErrorList, error) {
	return v1alpha1.ValidateSync(y, time.LoadLocation), nil
}

// judge calls check with what is declared now and what was until now, which is nil if the object is new.
func judge[T any, P interface {
	*T
	metav1.Object
}](ctx context.Context, a admission.Attributes, empty func() P, spec func(P) any, check func(context.Context, P, P) (field.ErrorList, error)) (field.ErrorList, error) {
	obj := empty()
	var old P
	if err := decode(a.GetObject(), obj); err != nil {
		return nil, err
	}
	if obj.GetDeletionTimestamp() != nil {
		return nil, nil
	}
	if a.GetOperation() == admission.Update {
		old = empty()
		if err := decode(a.GetOldObject(), old); err != nil {
			return nil, err
		}
		if equality.Semantic.DeepEqual(spec(obj), spec(old)) {
			return nil, nil
		}
	}
	return check(ctx, old, obj)
}

func decode(in kruntime.Object, out any) error {
	u, ok := in.(*unstructured.Unstructured)
	if !ok {
		return apierrors.NewInternalError(fmt.Errorf("%T is not a custom resource", in))
	}
	if err := kruntime.DefaultUnstructuredConverter.FromUnstructured(u.Object, out); err != nil {
		return apierrors.NewBadRequest(fmt.Sprintf("%s %s: %v", u.GetKind(), u.GetName(), err))
	}
	return nil
}

func (c *admissionChain) judgeApp(ctx context.Context, old, app *v1alpha1.App, dry bool) (field.ErrorList, error) {
	errs := v1alpha1.ValidateApp(app)
	if old == nil && strings.HasSuffix(app.Name, v1alpha1.DirectorsName("")) {
		balancers, err := c.declared.balancers(ctx)
		if err != nil {
			return nil, err
		}
		if p := v1alpha1.AppNameClash(app, balancers); p != nil {
			errs = append(errs, p.Err())
		}
	}
	if len(errs) == 0 && v1alpha1.AsksPrivileges(app) {
		var tenants v1alpha1.TenantList
		if err := c.declared.list(ctx, "tenants", &tenants); err != nil {
			return nil, err
		}
		for _, p := range v1alpha1.ValidatePrivileges(app, v1alpha1.TenantOf(app.Namespace, tenants.Items)) {
			errs = append(errs, p.Err())
		}
	}
	if len(errs) > 0 || len(app.Spec.Networks)+len(app.Spec.LoopbackAddresses) == 0 {
		return errs, nil
	}
	if v1alpha1.HostNetwork(app) != "" {
		var networks v1alpha1.NetworkList
		if err := c.declared.list(ctx, "networks", &networks); err != nil {
			return nil, err
		}
		if p := v1alpha1.ValidateHostNetwork(app, networks.Items); p != nil {
			errs = append(errs, p.Err())
		}
		return errs, nil
	}
	pools, networks, err := c.declared.poolsAndNetworks(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range append(v1alpha1.ValidateAddresses(app, pools), v1alpha1.VirtualPools(app, pools, networks)...) {
		errs = append(errs, p.Err())
	}
	if len(errs) > 0 || len(v1alpha1.FixedAddresses(app)) == 0 {
		return errs, nil
	}
	p, err := c.declared.addressClash(ctx, app, dry)
	if p != nil {
		errs = append(errs, p.Err())
	}
	return errs, err
}

func (c *admissionChain) judgeNetwork(ctx context.Context, old, network *v1alpha1.Network) (field.ErrorList, error) {
	errs := v1alpha1.ValidateNetwork(network)
	if len(errs) > 0 {
		return errs, nil
	}
	var pools v1alpha1.IPPoolList
	if err := c.declared.list(ctx, "ippools", &pools); err != nil {
		return nil, err
	}
	return v1alpha1.NetworkChange(old, network, pools.Items), nil
}

func (c *admissionChain) judgePool(ctx context.Context, old, pool *v1alpha1.IPPool) (field.ErrorList, error) {
	errs := v1alpha1.ValidatePool(pool)
	if len(errs) > 0 {
		return errs, nil
	}
	if old != nil {
		errs = append(errs, v1alpha1.Shrinkage(old, pool, c.holders(pool.Name))...)
	}
	var networks v1alpha1.NetworkList
	if err := c.declared.list(ctx, "networks", &networks); err != nil {
		return nil, err
	}
	for i := range networks.Items {
		if n := &networks.Items[i]; n.Name == pool.Spec.Network {
			if p := v1alpha1.PoolOnNetwork(pool, n); p != nil {
				errs = append(errs, p.Err())
			}
		}
	}
	var pools v1alpha1.IPPoolList
	if err := c.declared.list(ctx, "ippools", &pools); err != nil {
		return nil, err
	}
	for i := range pools.Items {
		if p := v1alpha1.PoolClash(pool, &pools.Items[i]); p != nil {
			errs = append(errs, p.Err())
		}
	}
	return errs, nil
}

// holders gives the instances that hold addresses of a pool, by address.
func (c *admissionChain) holders(pool string) map[string]string {
	out := map[string]string{}
	for _, a := range c.addresses.List("") {
		if a.Status.Pool == pool && a.Status.Held() {
			out[a.Status.Address] = a.Status.Namespace + "/" + a.Status.Instance
		}
	}
	return out
}

func (c *admissionChain) judgeTenant(ctx context.Context, _, tenant *v1alpha1.Tenant) (field.ErrorList, error) {
	var tenants v1alpha1.TenantList
	if err := c.declared.list(ctx, "tenants", &tenants); err != nil {
		return nil, err
	}
	var errs field.ErrorList
	for i := range tenants.Items {
		if p := v1alpha1.TenantClash(tenant, &tenants.Items[i]); p != nil {
			errs = append(errs, p.Err())
		}
	}
	return errs, nil
}

func (c *admissionChain) judgeRegistry(ctx context.Context, _, registry *v1alpha1.Registry) (field.ErrorList, error) {
	var registries v1alpha1.RegistryList
	if err := c.declared.list(ctx, "registries", &registries); err != nil {
		return nil, err
	}
	var errs field.ErrorList
	for i := range registries.Items {
		if p := v1alpha1.RegistryClash(registry, &registries.Items[i]); p != nil {
			errs = append(errs, p.Err())
		}
	}
	return errs, nil
}

// poolUsers says who needs a pool; empty if nobody does.
func (c *admissionChain) poolUsers(ctx context.Context, pool string) (string, error) {
	apps, err := c.declared.apps(ctx)
	if err != nil {
		return "", err
	}
	balancers, err := c.declared.balancers(ctx)
	if err != nil {
		return "", err
	}
	return v1alpha1.PoolUsers(pool, apps, balancers, c.holders(pool)), nil
}

// networkUsers says which pools, or Apps with the network of their hosts, need a network; empty if none does.
func (c *admissionChain) networkUsers(ctx context.Context, network string) (string, error) {
	var pools v1alpha1.IPPoolList
	if err := c.declared.list(ctx, "ippools", &pools); err != nil {
		return "", err
	}
	apps, err := c.declared.apps(ctx)
	if err != nil {
		return "", err
	}
	return v1alpha1.NetworkUsers(network, pools.Items, apps), nil
}
