// Package crds holds the custom resource definitions that are generated from api/v1alpha1. Pure.
package crds

import "embed"

// Files are the definitions that the API server serves, one YAML file each.
//
//go:embed padis.io_apprevisions.yaml padis.io_apps.yaml padis.io_bgppeers.yaml padis.io_executorupgrades.yaml padis.io_imageprepulls.yaml
//go:embed padis.io_gitsources.yaml padis.io_syncs.yaml
//go:embed padis.io_ippools.yaml padis.io_loadbalancers.yaml padis.io_networks.yaml padis.io_registries.yaml padis.io_tenants.yaml
var Files embed.FS
