// Package crds holds the custom resource definitions that are generated from api/v1alpha1. Pure.
package crds

import "embed"

// Files are the definitions, one YAML file each.
//
//go:embed *.yaml
var Files embed.FS
