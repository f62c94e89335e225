package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/cli-runtime/pkg/resource"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"

	"padis.io/padis/api/plan"
)

// deletionOf is one object that is there and shall be deleted.
type deletionOf struct {
	info *resource.Info
	uid  types.UID
}

type deletions []deletionOf

// doomed says what shall be deleted, as the flags do.
type doomed struct {
	names    []string
	prune    bool
	selector string
}

// prunable are the kinds that --prune looks at, those of namespaces first.
const prunable, prunableInCluster = "apps,loadbalancers,imageprepulls,syncs,gitsources,configmaps,secrets", "ippools,networks,bgppeers,registries,tenants"

// find gives the objects, in the order in which they can go: what needs others first.
func (d *doomed) find(f cmdutil.Factory, local manifests) (deletions, error) {
	var infos []*resource.Info
	if len(d.names) > 0 {
		for _, name := range d.names {
			if !strings.Contains(name, "/") {
				return nil, usagef("--delete %q: write it as TYPE/NAME, for example app/web", name)
			}
		}
		namespace, _, err := f.ToRawKubeConfigLoader().Namespace()
		if err != nil {
			return nil, err
		}
		if infos, err = f.NewBuilder().Unstructured().ContinueOnError().NamespaceParam(namespace).DefaultNamespace().
			ResourceTypeOrNameArgs(false, d.names...).Latest().Flatten().Do().Infos(); err != nil {
			return nil, fmt.Errorf("--delete: %w", err)
		}
	}
	if d.prune {
		more, err := d.pruned(f, local)
		if err != nil {
			return nil, fmt.Errorf("--prune: %w", err)
		}
		infos = append(infos, more...)
	}
	var out deletions
	for _, info := range infos {
		m, err := meta.Accessor(info.Object)
		if err != nil {
			return nil, err
		}
		same := func(o deletionOf) bool { return o.uid == m.GetUID() }
		if !slices.ContainsFunc(out, same) {
			out = append(out, deletionOf{info, m.GetUID()})
		}
	}
	slices.SortStableFunc(out, func(a, b deletionOf) int { return cmp.Compare(rank(b.info), rank(a.info)) })
	return out, nil
}

// pruned are the objects of a selector that padis apply has applied, and that are not among the manifests.
func (d *doomed) pruned(f cmdutil.Factory, local manifests) ([]*resource.Info, error) {
	type key struct {
		kind            schema.GroupKind
		namespace, name string
	}
	stays, namespaces := map[key]bool{}, map[string]bool{}
	for _, m := range local {
		stays[key{m.info.Mapping.GroupVersionKind.GroupKind(), m.info.Namespace, m.info.Name}] = true
		if m.info.Namespaced() {
			namespaces[m.info.Namespace] = true
		}
	}
	var all []*resource.Info
	list := func(kinds, namespace string) error {
		infos, err := f.NewBuilder().Unstructured().ContinueOnError().NamespaceParam(namespace).DefaultNamespace().LabelSelectorParam(d.selector).
			ResourceTypes(strings.Split(kinds, ",")...).Flatten().Do().Infos()
		all = append(all, infos...)
		return err
	}
	for namespace := range namespaces {
		if err := list(prunable, namespace); err != nil {
			return nil, err
		}
	}
	// Who may not see what is of no namespace has not applied any of it.
	if err := list(prunableInCluster, ""); err != nil && !apierrors.IsForbidden(err) {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(i *resource.Info) bool {
		m, err := meta.Accessor(i.Object)
		return err != nil || m.GetAnnotations()[lastApplied] == "" || stays[key{i.Mapping.GroupVersionKind.GroupKind(), i.Namespace, i.Name}]
	})
	slices.SortFunc(all, func(a, b *resource.Info) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Mapping.GroupVersionKind.Kind, b.Mapping.GroupVersionKind.Kind), cmp.Compare(a.Name, b.Name))
	})
	return all, nil
}

// lastApplied is the annotation by which kubectl knows what it has applied.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// findDeletions finds what a plan deletes. gone are those that are not there any more, or are others by now.
func findDeletions(f cmdutil.Factory, list []plan.Deletion) (out deletions, gone []string, err error) {
	mapper, err := f.ToRESTMapper()
	if err != nil {
		return nil, nil, err
	}
	for _, d := range list {
		kind := schema.FromAPIVersionAndKind(d.APIVersion, d.Kind)
		mapping, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
		if err != nil {
			return nil, nil, err
		}
		client, err := f.UnstructuredClientForMapping(mapping)
		if err != nil {
			return nil, nil, err
		}
		o := deletionOf{&resource.Info{Client: client, Mapping: mapping, Namespace: d.Namespace, Name: d.Name}, types.UID(d.UID)}
		if err := o.info.Get(); apierrors.IsNotFound(err) {
			gone = append(gone, o.name()+", which is deleted already")
			continue
		} else if err != nil {
			return nil, nil, err
		}
		if m, err := meta.Accessor(o.info.Object); err != nil || m.GetUID() != o.uid {
			gone = append(gone, o.name()+", which is another object by now")
			continue
		}
		out = append(out, o)
	}
	return out, gone, nil
}

func (d *deletionOf) name() string {
	return d.info.Mapping.GroupVersionKind.Kind + " " + strings.TrimPrefix(d.info.Namespace+"/"+d.info.Name, "/")
}

func (d *deletionOf) deletion() plan.Deletion {
	kind := d.info.Mapping.GroupVersionKind
	return plan.Deletion{APIVersion: kind.GroupVersion().String(), Kind: kind.Kind, Namespace: d.info.Namespace, Name: d.info.Name, UID: string(d.uid)}
}

// delete deletes the object unless it is another by now, or only tries to.
func (d *deletionOf) delete(dry bool) error {
	background := metav1.DeletePropagationBackground
	_, err := resource.NewHelper(d.info.Client, d.info.Mapping).DryRun(dry).DeleteWithOptions(d.info.Namespace, d.info.Name,
		&metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &d.uid}, PropagationPolicy: &background})
	return err
}

// propose asks the API, by a dry run, whether the object may be deleted.
func (d *deletionOf) propose() (plan.Proposal, error) {
	is := d.deletion()
	text, err := json.Marshal(map[string]any{"apiVersion": is.APIVersion, "kind": is.Kind,
		"metadata": map[string]any{"namespace": is.Namespace, "name": is.Name, "uid": is.UID}})
	if err != nil {
		return plan.Proposal{}, err
	}
	p := plan.Proposal{Object: text, Delete: true}
	if err := d.delete(true); err != nil {
		if p.Refusals = plan.RefusedBy(err); len(p.Refusals) == 0 {
			return p, fmt.Errorf("delete %s: %w", d.name(), err)
		}
	}
	return p, nil
}

// carryOut deletes all of them.
func (all deletions) carryOut(streams genericiooptions.IOStreams) error {
	for i := range all {
		d := &all[i]
		if err := d.delete(false); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete %s: %w; what comes before it in the plan is applied", d.name(), err)
		}
		kind := d.info.Mapping.Resource.GroupResource()
		kind.Resource = strings.ToLower(d.info.Mapping.GroupVersionKind.Kind)
		fmt.Fprintf(streams.Out, "%s/%s deleted\n", kind, d.info.Name)
	}
	return nil
}
