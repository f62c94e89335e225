package main

import (
	"os"
	"path/filepath"
)

const dataDirVariable = "PADIS_DATA_DIR"

// defaultDataDir is where a local Padis keeps its state: $PADIS_DATA_DIR, else /var/lib/padis for root, else
// ~/.local/share/padis.
func defaultDataDir(getenv func(string) string, uid int) string {
	if dir := getenv(dataDirVariable); dir != "" {
		return dir
	}
	if uid == 0 {
		return "/var/lib/padis"
	}
	return filepath.Join(getenv("HOME"), ".local", "share", "padis")
}

// defaultKubeconfig is the --kubeconfig that is used when none is given: that of the local Padis if there is one and
// $KUBECONFIG does not name another; empty leaves the choice to kubectl's rules ($KUBECONFIG, ~/.kube/config).
func defaultKubeconfig(getenv func(string) string, exists func(string) bool) string {
	if getenv("KUBECONFIG") != "" {
		return ""
	}
	if path := kubeconfigPath(defaultDataDir(getenv, os.Geteuid())); exists(path) {
		return path
	}
	return ""
}

func kubeconfigPath(dataDir string) string { return filepath.Join(dataDir, "kubeconfig") }

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
