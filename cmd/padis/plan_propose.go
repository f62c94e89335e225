package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/cli-runtime/pkg/resource"
	"k8s.io/client-go/openapi3"
	"k8s.io/kubectl/pkg/cmd/diff"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
	"k8s.io/kubectl/pkg/scheme"

	"padis.io/padis/api/plan"
	"padis.io/padis/reconcile/gitops/render/helm"
)

// manifestOf is one object that was given, and where it is in the API.
type manifestOf struct {
	info *resource.Info
	text json.RawMessage
}

type manifests []manifestOf

func (m manifests) manifests() []json.RawMessage {
	out := make([]json.RawMessage, len(m))
	for i := range m {
		out[i] = m[i].text
	}
	return out
}

// noCharts refuses Helm charts, whose files are no manifests.
func noCharts(files *resource.FilenameOptions) error {
	for _, name := range files.Filenames {
		dir := name
		if filepath.Base(name) == helm.ChartFile {
			dir = filepath.Dir(name)
		}
		if _, err := os.Stat(filepath.Join(dir, helm.ChartFile)); err == nil {
			return fmt.Errorf("-f %s: it is a Helm chart, which padis apply does not render: plan its commit with --git REPOSITORY --path DIR, or what a Sync would do with it with --sync NAME -f REPOSITORY", name)
		}
	}
	return nil
}

// readManifests reads what was given, in the order in which it can be applied.
func readManifests(f cmdutil.Factory, files *resource.FilenameOptions) (manifests, error) {
	if err := noCharts(files); err != nil {
		return nil, err
	}
	namespace, enforce, err := f.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return nil, err
	}
	infos, err := f.NewBuilder().Unstructured().ContinueOnError().NamespaceParam(namespace).DefaultNamespace().
		FilenameParam(enforce, files).Flatten().Do().Infos()
	if err != nil {
		return nil, err
	}
	if len(infos) == 0 {
		return nil, errors.New("there are no manifests in what was given: name other files with -f")
	}
	out := make(manifests, len(infos))
	for i, info := range infos {
		text, err := kruntime.Encode(unstructured.UnstructuredJSONScheme, info.Object)
		if err != nil {
			return nil, err
		}
		out[i] = manifestOf{info, text}
	}
	slices.SortStableFunc(out, func(a, b manifestOf) int { return cmp.Compare(rank(a.info), rank(b.info)) })
	return out, nil
}

// ranks say which kinds others need.
var ranks = map[string]int{
	"Namespace": -7, "CustomResourceDefinition": -6, "Network": -5, "IPPool": -4, "Tenant": -3, "Registry": -3, "BGPPeer": -3,
	"ConfigMap": -2, "Secret": -2, "ServiceAccount": -2, "App": 1, "LoadBalancer": 2,
}

func rank(info *resource.Info) int { return ranks[info.Mapping.GroupVersionKind.Kind] }

// propose asks the API, by dry runs, what would become of each object if padis apply applied it.
func propose(f cmdutil.Factory, w wish, streams genericiooptions.IOStreams) ([]plan.Proposal, error) {
	local := w.manifests
	p := proposer{openAPI: f, streams: streams, how: w.how}
	if c, err := f.OpenAPIV3Client(); err == nil {
		p.openAPI3 = openapi3.NewRoot(c)
	}
	out := make([]plan.Proposal, len(local))
	for i := range local {
		var err error
		if out[i], err = p.propose(&local[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

type proposer struct {
	openAPI  cmdutil.Factory
	openAPI3 openapi3.Root
	streams  genericiooptions.IOStreams
	// how is nil unless it is server-side apply.
	how *plan.ServerSide
}

func (p *proposer) propose(m *manifestOf) (plan.Proposal, error) {
	local, err := kruntime.Decode(unstructured.UnstructuredJSONScheme, m.text)
	if err != nil {
		return plan.Proposal{}, err
	}
	for n := 1; ; n++ {
		if err := m.info.Get(); apierrors.IsNotFound(err) {
			m.info.Object = nil
		} else if err != nil {
			return plan.Proposal{}, err
		}
		tried := diff.InfoObject{
			LocalObj: local.DeepCopyObject(), Info: m.info, Encoder: scheme.DefaultJSONEncoder(), OpenAPIGetter: p.openAPI, OpenAPIV3Root: p.openAPI3,
			Force: n == planTries, FieldManager: "kubectl-client-side-apply", IOStreams: p.streams,
		}
		if p.how != nil {
			tried.ServerSideApply, tried.FieldManager, tried.ForceConflicts = true, p.how.FieldManager, p.how.Force
		}
		merged, err := tried.Merged()
		switch {
		case n < planTries && p.how == nil && apierrors.IsConflict(err):
			continue
		case err == nil:
			text, err := kruntime.Encode(unstructured.UnstructuredJSONScheme, merged)
			return plan.Proposal{Object: text}, err
		}
		if why := plan.RefusedBy(err); len(why) > 0 {
			return plan.Proposal{Object: m.text, Refusals: why}, nil
		}
		return plan.Proposal{}, fmt.Errorf("%s %s: %w", m.info.Mapping.GroupVersionKind.Kind, m.info.Name, err)
	}
}
