package server

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"padis.io/padis/api/v1alpha1"
)

// wroteFor is how long it is remembered that an App was let pass after the request has ended, if the watch does not tell of it:
// its write has failed then.
const wroteFor = 10 * time.Minute

// claimed are the fixed addresses that Apps ask for: those that are stored, as a watch tells, and those of writes that were let
// pass and that it has not told of yet. It may be behind, so that whoever has an address by it is asked again; but it misses
// nobody, if all writes of Apps go through this process. It holds addresses and names, and no Apps.
type claimed struct {
	mu     sync.Mutex
	synced bool
	stored map[types.NamespacedName][]netip.Addr
	writes map[types.NamespacedName][]*appWrite
	by     map[netip.Addr][]types.NamespacedName
}

// appWrite is one that was let pass.
type appWrite struct {
	// app has the name and the addresses only.
	app       *v1alpha1.App
	addresses []netip.Addr
	// ended: the request is over, and what came of it can be read.
	ended bool
}

func newClaimed() *claimed {
	return &claimed{stored: map[types.NamespacedName][]netip.Addr{}, writes: map[types.NamespacedName][]*appWrite{}, by: map[netip.Addr][]types.NamespacedName{}}
}

func keyOf(a *v1alpha1.App) types.NamespacedName {
	return types.NamespacedName{Namespace: a.Namespace, Name: a.Name}
}

func addressesOf(a *v1alpha1.App) []netip.Addr {
	var out []netip.Addr
	for _, f := range v1alpha1.FixedAddresses(a) {
		if ip, err := v1alpha1.ParseAddress(f.Address); err == nil {
			out = append(out, ip)
		}
	}
	return out
}

// has are all addresses of an App, stored and to be.
func (c *claimed) has(key types.NamespacedName) []netip.Addr {
	out := slices.Clone(c.stored[key])
	for _, w := range c.writes[key] {
		out = append(out, w.addresses...)
	}
	return out
}

// change changes what is known of one App.
func (c *claimed) change(key types.NamespacedName, f func()) {
	for _, ip := range c.has(key) {
		if left := slices.DeleteFunc(c.by[ip], func(k types.NamespacedName) bool { return k == key }); len(left) > 0 {
			c.by[ip] = left
		} else {
			delete(c.by, ip)
		}
	}
	f()
	for _, ip := range c.has(key) {
		if !slices.Contains(c.by[ip], key) {
			c.by[ip] = append(c.by[ip], key)
		}
	}
}

// claim notes that an App is about to be written, and gives who asks for the same addresses: nil for those who have to be read.
// drop takes it back. It is false if nothing can be said yet.
func (c *claimed) claim(ctx context.Context, app *v1alpha1.App, dry bool) (others map[types.NamespacedName]*v1alpha1.App, drop func(), ok bool) {
	key, w := keyOf(app), &appWrite{addresses: addressesOf(app), app: &v1alpha1.App{}}
	w.app.Namespace, w.app.Name = app.Namespace, app.Name
	for _, n := range app.Spec.Networks {
		w.app.Spec.Networks = append(w.app.Spec.Networks, v1alpha1.NetworkAttachment{Pool: n.Pool, Addresses: slices.Clone(n.Addresses)})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.synced {
		return nil, nil, false
	}
	others = map[types.NamespacedName]*v1alpha1.App{}
	for _, ip := range w.addresses {
		for _, k := range c.by[ip] {
			if k == key {
				continue
			}
			if _, known := others[k]; !known {
				others[k] = nil
			}
			for _, o := range c.writes[k] {
				if !o.ended && slices.Contains(o.addresses, ip) {
					others[k] = o.app
				}
			}
		}
	}
	if dry {
		return others, func() {}, true
	}
	c.change(key, func() { c.writes[key] = append(c.writes[key], w) })
	forget := func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.change(key, func() { c.written(key, func(o *appWrite) bool { return o == w }) })
	}
	context.AfterFunc(ctx, func() {
		c.mu.Lock()
		w.ended = true
		c.mu.Unlock()
		time.AfterFunc(wroteFor, forget)
	})
	return others, forget, true
}

// written forgets writes of an App.
func (c *claimed) written(key types.NamespacedName, which func(*appWrite) bool) {
	if left := slices.DeleteFunc(c.writes[key], which); len(left) > 0 {
		c.writes[key] = left
	} else {
		delete(c.writes, key)
	}
}

// tell takes what is stored of an App: nothing if it is gone.
func (c *claimed) tell(key types.NamespacedName, now []netip.Addr) {
	if len(now)+len(c.stored[key])+len(c.writes[key]) == 0 {
		return
	}
	c.change(key, func() {
		c.written(key, func(w *appWrite) bool { return slices.Equal(w.addresses, now) })
		if len(now) > 0 {
			c.stored[key] = now
		} else {
			delete(c.stored, key)
		}
	})
}

// Add, Update, Delete, Replace and Resync are what a cache.Reflector wants.
func (c *claimed) Add(o any) error {
	if a, ok := o.(*v1alpha1.App); ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.tell(keyOf(a), addressesOf(a))
	}
	return nil
}

// Update is the same as Add.
func (c *claimed) Update(o any) error { return c.Add(o) }

// Delete forgets an App.
func (c *claimed) Delete(o any) error {
	if gone, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = gone.Obj
	}
	if a, ok := o.(*v1alpha1.App); ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.tell(keyOf(a), nil)
	}
	return nil
}

// Replace takes all Apps.
func (c *claimed) Replace(all []any, _ string) error {
	now := make(map[types.NamespacedName][]netip.Addr)
	for _, o := range all {
		if a, ok := o.(*v1alpha1.App); ok {
			now[keyOf(a)] = addressesOf(a)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.stored {
		if _, there := now[key]; !there {
			c.tell(key, nil)
		}
	}
	for key, addresses := range now {
		c.tell(key, addresses)
	}
	c.synced = true
	return nil
}

// Resync does nothing.
func (c *claimed) Resync() error { return nil }

// addressClash finds a fixed address of an App that another one asks for too; nil if there is none. The App is about to be
// written, unless it is a trial.
func (d *declared) addressClash(ctx context.Context, app *v1alpha1.App, dry bool) (*v1alpha1.Problem, error) {
	balancers, err := d.balancers(ctx)
	if err != nil {
		return nil, err
	}
	var directors []v1alpha1.App
	for i := range balancers {
		directors = append(directors, *v1alpha1.DirectorsApp(&balancers[i]))
	}
	if p := v1alpha1.AddressClash(app, directors); p != nil {
		return p, nil
	}
	others, drop, ok := d.claimed.claim(ctx, app, dry)
	if !ok {
		apps, err := d.apps(ctx)
		if err != nil {
			return nil, err
		}
		return v1alpha1.AddressClash(app, apps), nil
	}
	p, err := d.clashWith(ctx, app, others)
	if p != nil || err != nil {
		drop()
	}
	return p, err
}

// clashWith reads those Apps of which it is not certain what they ask for by now.
func (d *declared) clashWith(ctx context.Context, app *v1alpha1.App, others map[types.NamespacedName]*v1alpha1.App) (*v1alpha1.Problem, error) {
	names := make([]types.NamespacedName, 0, len(others))
	for key := range others {
		names = append(names, key)
	}
	slices.SortFunc(names, func(a, b types.NamespacedName) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	for _, key := range names {
		o := others[key]
		if o == nil {
			o = &v1alpha1.App{}
			err := d.client.Get().Namespace(key.Namespace).Resource("apps").Name(key.Name).Do(ctx).Into(o)
			if apierrors.IsNotFound(err) {
				continue
			} else if err != nil {
				return nil, err
			}
		}
		if p := v1alpha1.AddressClash(app, []v1alpha1.App{*o}); p != nil {
			return p, nil
		}
	}
	return nil, nil
}

// follow keeps the claimed addresses until ctx ends.
func (d *declared) follow(ctx context.Context) {
	cache.NewReflectorWithOptions(cache.NewListWatchFromClient(d.client, "apps", "", fields.Everything()), &v1alpha1.App{}, d.claimed, cache.ReflectorOptions{Name: "fixed addresses"}).RunWithContext(ctx)
}
