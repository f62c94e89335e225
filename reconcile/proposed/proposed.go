// Package proposed understands what would be declared if changes were applied: what is refused of them, in the words of
// admission, and what would be wanted then, by the code that decides it when they are. Pure.
package proposed

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"padis.io/padis/api/plan"
	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/reconcile/config"
	"padis.io/padis/reconcile/declared"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

// Change is what would happen to one object.
type Change struct {
	// Before is the object as it is, nil if there is none; After what it would become, nil if it is deleted. What the API
	// server answers to a dry run is best: Merge does not know what others own. They are not mutated.
	Before, After *unstructured.Unstructured
	// Refusals of a dry run, if the API server was asked; those that are found here are added.
	Refusals []plan.Refusal
}

// object is the one of the two that is there.
func (c *Change) object() *unstructured.Unstructured {
	if c.After != nil {
		return c.After
	}
	return c.Before
}

// State is all that is declared.
type State struct {
	// Cluster is what is declared for the whole cluster; Secrets of it are not read, Objects holds them.
	Cluster   declared.Input
	Apps      []v1alpha1.App
	Balancers []v1alpha1.LoadBalancer
	// Objects are the contents of all ConfigMaps and Secrets.
	Objects config.Objects
}

// Input is what package declared decides by.
func (s *State) Input() declared.Input {
	in := s.Cluster
	in.Secrets = s.Objects
	return in
}

// Read understands all objects of the kinds that matter, in whatever order; others are left out.
func Read(objects []*unstructured.Unstructured) (*State, error) {
	s := &State{Objects: config.Objects{}}
	objects = slices.Clone(objects)
	slices.SortStableFunc(objects, func(a, b *unstructured.Unstructured) int {
		return cmp.Or(strings.Compare(a.GetNamespace(), b.GetNamespace()), strings.Compare(a.GetName(), b.GetName()))
	})
	for _, o := range objects {
		if err := s.put(o); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// put adds an object.
func (s *State) put(o *unstructured.Unstructured) error {
	switch kindOf(o) {
	case "App":
		return put(&s.Apps, o)
	case "LoadBalancer":
		return put(&s.Balancers, o)
	case "Network":
		return put(&s.Cluster.Networks, o)
	case "IPPool":
		return put(&s.Cluster.Pools, o)
	case "Tenant":
		return put(&s.Cluster.Tenants, o)
	case "Registry":
		return put(&s.Cluster.Registries, o)
	case "ExecutorUpgrade":
		return put(&s.Cluster.Upgrades, o)
	case "BGPPeer":
		return put(&s.Cluster.Peers, o)
	case "ImagePrepull":
		return put(&s.Cluster.Prepulls, o)
	case string(config.ConfigMap):
		var c corev1.ConfigMap
		if err := convert(o, &c); err != nil {
			return err
		}
		s.Objects[refOf(o)] = config.OfConfigMap(&c)
	case string(config.Secret):
		var c corev1.Secret
		if err := convert(o, &c); err != nil {
			return err
		}
		for k, v := range c.StringData { // As the API server does on a write.
			if c.Data == nil {
				c.Data = map[string][]byte{}
			}
			c.Data[k] = []byte(v)
		}
		s.Objects[refOf(o)] = config.OfSecret(&c)
	}
	return nil
}

// kindOf is the kind of an object of ours, or ConfigMap or Secret; empty for all others.
func kindOf(o *unstructured.Unstructured) string {
	switch group := o.GroupVersionKind().Group; {
	case group == v1alpha1.GroupVersion.Group:
		return o.GetKind()
	case group == "" && (o.GetKind() == string(config.ConfigMap) || o.GetKind() == string(config.Secret)):
		return o.GetKind()
	}
	return ""
}

func refOf(o *unstructured.Unstructured) config.Ref {
	return config.Ref{Kind: config.Kind(o.GetKind()), Namespace: o.GetNamespace(), Name: o.GetName()}
}

func convert(o *unstructured.Unstructured, into any) error {
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, into); err != nil {
		return fmt.Errorf("%s: %w: correct the field, or see padis explain %s", title(o), err, strings.ToLower(o.GetKind()))
	}
	return nil
}

func title(o *unstructured.Unstructured) string {
	name := o.GetName()
	if o.GetNamespace() != "" {
		name = o.GetNamespace() + "/" + name
	}
	return o.GetKind() + " " + name
}

// named is a declared object.
type named[T any] interface {
	*T
	GetNamespace() string
	GetName() string
}

func put[T any, P named[T]](list *[]T, o *unstructured.Unstructured) error {
	var v T
	if err := convert(o, &v); err != nil {
		return err
	}
	*list = append(*list, v)
	return nil
}

// key names an object of one kind.
type key struct{ kind, namespace, name string }

func keyOf(o *unstructured.Unstructured) key { return key{kindOf(o), o.GetNamespace(), o.GetName()} }

// with gives what would be declared. Objects that cannot be read are refused, and stay as they are.
func (s *State) with(changes []Change) *State {
	touched := map[key]bool{}
	for i := range changes {
		if len(changes[i].Refusals) == 0 {
			touched[keyOf(changes[i].object())] = true
		}
	}
	n := &State{Cluster: s.Cluster, Objects: make(config.Objects, len(s.Objects))}
	n.Apps = without(s.Apps, "App", touched)
	n.Balancers = without(s.Balancers, "LoadBalancer", touched)
	n.Cluster.Networks = without(s.Cluster.Networks, "Network", touched)
	n.Cluster.Pools = without(s.Cluster.Pools, "IPPool", touched)
	n.Cluster.Tenants = without(s.Cluster.Tenants, "Tenant", touched)
	n.Cluster.Registries = without(s.Cluster.Registries, "Registry", touched)
	n.Cluster.Upgrades = without(s.Cluster.Upgrades, "ExecutorUpgrade", touched)
	n.Cluster.Peers = without(s.Cluster.Peers, "BGPPeer", touched)
	n.Cluster.Prepulls = without(s.Cluster.Prepulls, "ImagePrepull", touched)
	for ref, o := range s.Objects {
		if !touched[key{string(ref.Kind), ref.Namespace, ref.Name}] {
			n.Objects[ref] = o
		}
	}
	for i := range changes {
		c := &changes[i]
		if len(c.Refusals) > 0 || c.After == nil {
			continue
		}
		if err := n.put(identified(c)); err != nil {
			c.Refusals = append(c.Refusals, plan.Refusal{Reason: "Invalid", Message: err.Error()})
			if c.Before != nil {
				_ = n.put(c.Before) // It was read before.
			}
		}
	}
	return n
}

func without[T any, P named[T]](list []T, kind string, touched map[key]bool) []T {
	return slices.DeleteFunc(slices.Clone(list), func(v T) bool {
		p := P(&v)
		return touched[key{kind, p.GetNamespace(), p.GetName()}]
	})
}

// identified gives what is new a uid, and what changes the generation and the age that it has or gets: who came first
// decides between objects that contradict each other, so what is new comes last.
func identified(c *Change) *unstructured.Unstructured {
	o := c.After
	if c.Before != nil {
		if o.GetUID() == c.Before.GetUID() && o.GetGeneration() > 0 && o.GetGeneration() != c.Before.GetGeneration() {
			return o
		}
		o = shallow(o)
		o.SetUID(c.Before.GetUID())
		o.SetCreationTimestamp(c.Before.GetCreationTimestamp())
		o.SetGeneration(c.Before.GetGeneration())
		if !sameSpec(c.Before, o) {
			o.SetGeneration(c.Before.GetGeneration() + 1)
		}
		return o
	}
	o = shallow(o)
	o.SetUID(types.UID(uidOf(o)))
	o.SetGeneration(1)
	o.SetCreationTimestamp(youngest)
	return o
}
