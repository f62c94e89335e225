package main

import (
	"errors"
	"strings"

	"k8s.io/apimachinery/pkg/api/validate/content"
)

// target is an App, an instance or, for `padis why`, a LoadBalancer, Sync or GitSource on the command line.
type target struct {
	app, balancer, sync, source bool
	name                        string
}

// parseTarget reads app/NAME or instance/NAME; NAME alone is an instance if bare is set.
func parseTarget(text string, bare bool) (target, error) {
	if !strings.Contains(text, "/") && bare {
		text = "instance/" + text
	}
	t, err := parseKind(text)
	if t.balancer || t.sync || t.source || errors.Is(err, errKind) {
		return target{}, usagef("%q: write app/NAME or instance/NAME", text)
	}
	return t, err
}

// parseWhy reads app/NAME, instance/NAME, lb/NAME, sync/NAME or gitsource/NAME.
func parseWhy(text string) (target, error) {
	t, err := parseKind(text)
	if errors.Is(err, errKind) {
		return target{}, usagef("%q: write app/NAME, instance/NAME, lb/NAME, sync/NAME or gitsource/NAME", text)
	}
	return t, err
}

var errKind = errors.New("unknown kind")

func parseKind(text string) (target, error) {
	kind, name, _ := strings.Cut(text, "/")
	t := target{name: name}
	switch kind {
	case "lb", "loadbalancer", "loadbalancers", "loadbalancers.padis.io":
		t.balancer = true
	case "sync", "syncs", "syncs.padis.io":
		t.sync = true
	case "gitsource", "gitsources", "gitsrc", "gitsources.padis.io":
		t.source = true
	case "app", "apps", "apps.padis.io":
		t.app = true
	case "instance", "instances", "instances.runtime.padis.io":
	default:
		return target{}, errKind
	}
	if name == "" {
		return target{}, usagef("%q: the name is missing", text)
	}
	if bad := content.IsPathSegmentName(name); len(bad) > 0 {
		return target{}, usagef("name %q: %s", name, strings.Join(bad, ", "))
	}
	return t, nil
}
