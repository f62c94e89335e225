package server

import (
	"strings"
	"testing"
)

func TestKubectlSeesTheServer(t *testing.T) {
	out := kc(t, "", "api-resources")
	for _, want := range []string{"apps", "ippools", "networks", "tenants", "instances", "agents", "addresses", "leases", "namespaces"} {
		if !strings.Contains(out, want) {
			t.Errorf("api-resources lacks %s:\n%s", want, out)
		}
	}
	t.Log(out)
	t.Log(kc(t, "", "version"))
	t.Log(kc(t, "", "get", "ns"))
	t.Log(kc(t, "", "auth", "whoami"))
}
