package e2e

import (
	"strings"
	"testing"
)

// Stock kubectl and padis say the same about the same server.
func TestKubectlAndPadisAgree(t *testing.T) {
	s := newSpace(t)
	c := ctx(t)
	must(t, s.apply(c, web, webApp{2, "hello"}))
	_, err := cluster.WaitReady(c, s.name, "web", 2)
	must(t, err)
	for _, k := range []struct {
		args []string
		want []string
	}{
		{[]string{"get", "apps,instances", "-n", s.name}, []string{"web", "web-0", "web-1", "2/2", s.prefix + ".10"}},
		{[]string{"get", "instances", "-n", s.name, "--field-selector=metadata.name=web-1", "-o", "name"}, []string{"instance.runtime.padis.io/web-1"}},
		{[]string{"get", "instances", "-n", s.name, "-l", "padis.io/app=web", "-o", "jsonpath={.items[*].metadata.name}"}, []string{"web-0 web-1"}},
		{[]string{"get", "agents"}, []string{"host-1", "host-2", "host-3"}},
		{[]string{"get", "addresses"}, []string{s.prefix + ".10"}},
		{[]string{"get", "ippools,networks"}, []string{s.name, "e2e"}},
		{[]string{"describe", "app", "web", "-n", s.name}, []string{"Available", "True", "Events"}},
		{[]string{"explain", "app.spec.template.healthChecks"}, []string{"gracePeriod", "Failures are not counted"}},
		{[]string{"api-resources", "--api-group=padis.io"}, []string{"apps", "ippools", "networks", "tenants"}},
		{[]string{"wait", "--for=condition=Available", "app/web", "-n", s.name, "--timeout=10s"}, []string{"condition met"}},
		{[]string{"scale", "app/web", "-n", s.name, "--replicas=2"}, []string{"scaled"}},
		{[]string{"auth", "can-i", "create", "apps"}, []string{"yes"}},
		{[]string{"events", "-n", s.name}, []string{"web"}},
	} {
		t.Run(strings.Join(k.args[:2], " "), func(t *testing.T) {
			for _, program := range []func(...string) (string, error){
				func(a ...string) (string, error) { return cluster.Padis(c, a...) },
				func(a ...string) (string, error) { return cluster.Kubectl(c, a...) },
			} {
				out, err := program(k.args...)
				if err != nil {
					t.Error(err)
				}
				for _, w := range k.want {
					if !strings.Contains(out, w) {
						t.Errorf("%v does not print %q:\n%s", k.args, w, out)
					}
				}
			}
		})
	}
	// The projections cannot be written, and say what can.
	out, err := cluster.Kubectl(c, "delete", "instance", "web-0", "-n", s.name)
	if err == nil || !strings.Contains(out, "App") {
		t.Errorf("deleting an instance: %v\n%s", err, out)
	}
}
