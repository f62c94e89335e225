package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/api/why"
)

const whyExample = `  # Why are not all instances of the App web ready?
  padis why app/web -n shop

  # Why is this one not running?
  padis why instance/web-0 -n shop

  # Why is a VIP of the LoadBalancer web not announced, or an instance not in rotation?
  padis why lb/web -n shop

  # Why is the newest commit not applied, or not even fetched?
  padis why sync/shop -n shop
  padis why gitsource/shop -n shop`

func newWhyCommand(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	return &cobra.Command{
		Use:   "why (app/NAME | instance/NAME | lb/NAME | sync/NAME | gitsource/NAME)",
		Short: "Say why an App, an instance, a LoadBalancer or a Sync is not as it should be, and what to do",
		Long: "Say why an App or an instance is where it is: conditions, refusals of agents, the last failure, the next attempt, " +
			"address pools, agents and events, and what to do; of a LoadBalancer, why VIPs are not announced and real servers are not in " +
			"rotation; of a Sync or GitSource, why a commit is not in force, through all that it waits for.\n\n" + exitHelp,
		Example: whyExample,
		Args:    betweenArguments(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := parseWhy(strings.Join(args, "/"))
			if err != nil {
				return err
			}
			a, namespace, err := connect(f)
			if err != nil {
				return err
			}
			answer, err := askWhy(cmd.Context(), a, namespace, t)
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(streams.Out, answer.Render(painter(streams.Out)))
			return err
		},
	}
}

// askWhy reads what there is to know of the target.
func askWhy(ctx context.Context, a reader, namespace string, t target) (why.Node, error) {
	if t.balancer {
		s, err := readBalancer(ctx, a, namespace, t.name)
		if err != nil {
			return why.Node{}, err
		}
		return why.LoadBalancer(s), nil
	}
	if t.sync || t.source {
		return askGit(ctx, a, namespace, t)
	}
	s := why.Snapshot{Now: time.Now()}
	appName := t.name
	var instance runtime.Instance
	if !t.app {
		if err := a.get(ctx, runtimePath(namespace, "instances", t.name), &instance); err != nil {
			return why.Node{}, err
		}
		appName = instance.Status.App
	}
	var app v1alpha1.App
	err := a.get(ctx, declaredPath(namespace, "apps", appName), &app)
	switch {
	case err == nil:
		s.App = &app
	case t.app || !apierrors.IsNotFound(err):
		return why.Node{}, err
	default:
		if s.DirectorOf, err = balancerOf(ctx, a, namespace, appName); err != nil {
			return why.Node{}, err
		}
	}
	if s.Instances, err = a.instancesOf(ctx, namespace, appName); err != nil {
		return why.Node{}, err
	}
	var pools v1alpha1.IPPoolList
	var agents runtime.AgentList
	if err := a.get(ctx, declaredPath("", "ippools"), &pools); err != nil {
		return why.Node{}, err
	}
	if err := a.get(ctx, runtimePath("", "agents"), &agents); err != nil {
		return why.Node{}, err
	}
	s.Pools, s.Agents = pools.Items, agents.Items
	if s.Events, err = eventsOf(ctx, a, namespace, []string{"App/" + appName}, s.Instances); err != nil {
		return why.Node{}, err
	}
	if t.app {
		return why.App(s), nil
	}
	return why.Instance(s, instance), nil
}

// balancerOf is the LoadBalancer that instances of no App are the directors of; empty if there is none.
func balancerOf(ctx context.Context, a reader, namespace, app string) (string, error) {
	name := strings.TrimSuffix(app, directorsOf(""))
	if name == app {
		return "", nil
	}
	err := a.get(ctx, declaredPath(namespace, "loadbalancers", name), &v1alpha1.LoadBalancer{})
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	return name, err
}

// eventsOf lists the events of objects (KIND/NAME) and of instances.
func eventsOf(ctx context.Context, a reader, namespace string, objects []string, instances []runtime.Instance) ([]why.Event, error) {
	var list corev1.EventList
	if err := a.get(ctx, "/api/v1/namespaces/"+namespace+"/events", &list); err != nil {
		return nil, err
	}
	wanted := map[string]bool{}
	for _, o := range objects {
		wanted[o] = true
	}
	for _, i := range instances {
		wanted["Instance/"+i.Name] = true
	}
	var out []why.Event
	for _, e := range list.Items {
		object := e.InvolvedObject.Kind + "/" + e.InvolvedObject.Name
		if !wanted[object] {
			continue
		}
		out = append(out, why.Event{Object: object, Type: e.Type, Reason: e.Reason, Message: e.Message, Count: eventCount(e), Last: eventTime(e)})
	}
	return out, nil
}

// eventCount and eventTime look where the old and the new way of writing events put these.
func eventCount(e corev1.Event) int32 {
	if e.Series != nil {
		return e.Series.Count
	}
	return e.Count
}

func eventTime(e corev1.Event) time.Time {
	switch {
	case e.Series != nil && !e.Series.LastObservedTime.IsZero():
		return e.Series.LastObservedTime.Time
	case !e.LastTimestamp.IsZero():
		return e.LastTimestamp.Time
	case !e.EventTime.IsZero():
		return e.EventTime.Time
	default:
		return e.CreationTimestamp.Time
	}
}
