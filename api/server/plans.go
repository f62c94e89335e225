package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	apiextserver "k8s.io/apiextensions-apiserver/pkg/apiserver"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"padis.io/padis/api/plan"
	"padis.io/padis/api/runtime"
	"padis.io/padis/api/v1alpha1"
)

// Planner knows what would happen if objects were applied. Errors of the class APIStatus reach the client as they are.
type Planner interface {
	Plan(ctx context.Context, changes []PlannedChange) (*plan.Plan, error)
}

// PlannedChange is an object as it is, nil if there is none, and what it would become, nil if it is deleted; its manifest if
// the API refused that, with why.
type PlannedChange struct {
	Before, After *unstructured.Unstructured
	Refusals      []plan.Refusal
}

// object is the one of the two that is there.
func (c *PlannedChange) object() *unstructured.Unstructured {
	if c.After != nil {
		return c.After
	}
	return c.Before
}

const (
	// planPath is where it is asked what would happen. Whoever is known may ask, but only for what he may apply or delete.
	planPath = "/plan"
	// parallelReads is how many objects are read at a time.
	parallelReads = 16
)

// plans answers questions for plans. Nothing is written.
type plans struct {
	planner Planner
	may     authorizer.Authorizer
	// open connects to the server itself, once it serves.
	open func() (*planSource, error)
}

// planSource is where objects are, as they are.
type planSource struct {
	objects dynamic.Interface
	kinds   meta.RESTMapper
}

func newPlans(planner Planner, may authorizer.Authorizer, loopback *rest.Config) *plans {
	return &plans{planner: planner, may: may, open: sync.OnceValues(func() (*planSource, error) {
		objects, err := dynamic.NewForConfig(loopback)
		if err != nil {
			return nil, err
		}
		kinds, err := discovery.NewDiscoveryClientForConfig(loopback)
		if err != nil {
			return nil, err
		}
		return &planSource{objects, restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(kinds))}, nil
	})}
}

func (p *plans) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	out, err := p.answer(w, r)
	if err != nil {
		if _, known := err.(apierrors.APIStatus); !known {
			err = apierrors.NewInternalError(err)
		}
		responsewriters.ErrorNegotiated(err, apiextserver.Codecs, schema.GroupVersion{Version: "v1"}, w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	// The client that has gone needs no answer.
	_, _ = w.Write(out)
}

func (p *plans) answer(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.Method != http.MethodPost {
		return nil, apierrors.NewGenericServerResponse(http.StatusMethodNotAllowed, r.Method, schema.GroupResource{}, "", "plans are asked for with POST: use padis plan", 0, true)
	}
	if p.planner == nil {
		return nil, apierrors.NewServiceUnavailable("this server makes no plans: ask the one that runs the scheduler")
	}
	u, ok := request.UserFrom(r.Context())
	if !ok {
		return nil, errNoUser
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, plan.MaxBytes))
	if err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("plan: %v: plan fewer objects at a time", err))
	}
	proposals, err := plan.DecodeQuestion(body)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	changes, err := p.changes(r.Context(), u, proposals)
	if err != nil {
		return nil, err
	}
	out, err := p.planner.Plan(r.Context(), changes)
	if err != nil {
		return nil, err
	}
	p.conceal(r.Context(), u, out)
	return json.Marshal(out)
}

// changes finds what is there, and makes sure that the user may do all that is proposed.
func (p *plans) changes(ctx context.Context, u user.Info, proposals []plan.Proposal) ([]PlannedChange, error) {
	source, err := p.open()
	if err != nil {
		return nil, err
	}
	out := make([]PlannedChange, len(proposals))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelReads)
	for i := range proposals {
		group.Go(func() (err error) {
			if out[i], err = p.change(ctx, u, source, &proposals[i]); err != nil {
				if _, known := err.(apierrors.APIStatus); !known {
					err = apierrors.NewBadRequest(fmt.Sprintf("plan: proposals[%d].object: %v", i, err))
				}
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	seen := map[[3]string]bool{}
	for i := range out {
		o := out[i].object()
		key := [3]string{o.GroupVersionKind().GroupKind().String(), o.GetNamespace(), o.GetName()}
		if seen[key] {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("plan: %s %s is proposed twice: give it once", key[0], strings.TrimPrefix(key[1]+"/"+key[2], "/")))
		}
		seen[key] = true
	}
	return out, nil
}

func (p *plans) change(ctx context.Context, u user.Info, source *planSource, proposal *plan.Proposal) (PlannedChange, error) {
	o := &unstructured.Unstructured{}
	if err := o.UnmarshalJSON(proposal.Object); err != nil {
		return PlannedChange{}, fmt.Errorf("%w: give a manifest with apiVersion and kind", err)
	}
	gvk := o.GroupVersionKind()
	mapping, err := source.kinds.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return PlannedChange{}, fmt.Errorf("%w: see padis api-resources", err)
	}
	switch namespaced := mapping.Scope.Name() == meta.RESTScopeNameNamespace; {
	case o.GetName() == "":
		return PlannedChange{}, errors.New("metadata.name is empty: only objects with names can be planned")
	case namespaced && o.GetNamespace() == "":
		return PlannedChange{}, fmt.Errorf("metadata.namespace of %s %s is empty: name one", gvk.Kind, o.GetName())
	case !namespaced && o.GetNamespace() != "":
		return PlannedChange{}, fmt.Errorf("metadata.namespace of %s %s is %q: the kind is in none, leave it away", gvk.Kind, o.GetName(), o.GetNamespace())
	case gvk.Group == runtime.GroupVersion.Group:
		return PlannedChange{}, fmt.Errorf("kind %s only shows what is: %s", gvk.Kind, insteadOf(mapping.Resource.Resource))
	}
	if err := p.allowed(ctx, u, "get", mapping.Resource, o); err != nil {
		return PlannedChange{}, err
	}
	before, err := source.objects.Resource(mapping.Resource).Namespace(o.GetNamespace()).Get(ctx, o.GetName(), metav1.GetOptions{})
	if proposal.Delete {
		if err == nil {
			err = p.allowed(ctx, u, "delete", mapping.Resource, o)
		}
		if uid := o.GetUID(); err == nil && uid != "" && uid != before.GetUID() {
			err = apierrors.NewConflict(mapping.Resource.GroupResource(), o.GetName(), errors.New("it is another object by now: plan again"))
		}
		return PlannedChange{Before: before, Refusals: proposal.Refusals}, err
	}
	verb := "patch"
	if apierrors.IsNotFound(err) {
		before, err, verb = nil, nil, "create"
	}
	if err == nil {
		err = p.allowed(ctx, u, verb, mapping.Resource, o)
	}
	return PlannedChange{Before: before, After: o, Refusals: proposal.Refusals}, err
}

// allowed is nil if the user may.
func (p *plans) allowed(ctx context.Context, u user.Info, verb string, r schema.GroupVersionResource, o *unstructured.Unstructured) error {
	decision, reason, err := p.may.Authorize(ctx, authorizer.AttributesRecord{
		User: u, Verb: verb, Namespace: o.GetNamespace(), APIGroup: r.Group, APIVersion: r.Version, Resource: r.Resource, Name: o.GetName(), ResourceRequest: true,
	})
	if err == nil && decision == authorizer.DecisionAllow {
		return nil
	}
	if err != nil {
		reason = err.Error()
	}
	return apierrors.NewForbidden(r.GroupResource(), o.GetName(), fmt.Errorf("to plan it, %s must be allowed in namespace %q: %s", verb, o.GetNamespace(), reason))
}

// conceal leaves out what happens in namespaces of which the user may not see the instances, and what is deleted with
// something else and that he may not see.
func (p *plans) conceal(ctx context.Context, u user.Info, out *plan.Plan) {
	type question struct{ verb, namespace, group, resource, name string }
	known := map[question]bool{}
	may := func(q question) bool {
		ok, asked := known[q]
		if !asked {
			decision, _, err := p.may.Authorize(ctx, authorizer.AttributesRecord{
				User: u, Verb: q.verb, Namespace: q.namespace, APIGroup: q.group, APIVersion: "*", Resource: q.resource, Name: q.name, ResourceRequest: true,
			})
			ok = err == nil && decision == authorizer.DecisionAllow
			known[q] = ok
		}
		return ok
	}
	out.Only(func(namespace string) bool {
		return may(question{"list", namespace, runtime.GroupVersion.Group, "instances", ""})
	}, func(tenant string) bool {
		return may(question{"get", "", v1alpha1.GroupVersion.Group, "tenants", tenant})
	})
	out.Objects = slices.DeleteFunc(out.Objects, func(o plan.Object) bool {
		if o.Because == "" {
			return false
		}
		group := v1alpha1.GroupVersion
		if o.Kind == "ConfigMap" || o.Kind == "Secret" {
			group = schema.GroupVersion{Version: "v1"}
		}
		plural, _ := meta.UnsafeGuessKindToResource(group.WithKind(o.Kind))
		return !may(question{"get", o.Namespace, group.Group, plural.Resource, o.Name})
	})
}
