package main

import (
	"strings"

	"k8s.io/apimachinery/pkg/api/validate/content"
)

// target is an App or an instance on the command line.
type target struct {
	app  bool
	name string
}

// parseTarget reads app/NAME or instance/NAME; NAME alone is an instance if bare is set.
func parseTarget(text string, bare bool) (target, error) {
	kind, name, found := strings.Cut(text, "/")
	if !found && bare {
		kind, name = "instance", text
	}
	t := target{name: name}
	switch kind {
	case "app", "apps", "apps.padis.io":
		t.app = true
	case "instance", "instances", "instances.runtime.padis.io":
	default:
		return target{}, usagef("%q: write app/NAME or instance/NAME", text)
	}
	if name == "" {
		return target{}, usagef("%q: the name is missing", text)
	}
	if bad := content.IsPathSegmentName(name); len(bad) > 0 {
		return target{}, usagef("name %q: %s", name, strings.Join(bad, ", "))
	}
	return t, nil
}
