package e2e

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"padis.io/padis/api/runtime"
)

// planIt runs `padis plan` on a manifest, if one is given, and gives what it prints and its exit status.
func planIt(t *testing.T, c context.Context, manifest string, args ...string) (string, int) {
	t.Helper()
	if manifest != "" {
		args = append([]string{"-f", "-"}, args...)
	}
	cmd := exec.CommandContext(c, filepath.Join(cluster.Bin, "padis"), append([]string{"plan"}, args...)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+cluster.Kubeconfig(), "NO_COLOR=1")
	cmd.Stdin = strings.NewReader(manifest)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// What is planned is what happens, and a plan of a world that is no more is not applied.
func TestPlan(t *testing.T) {
	s := newSpace(t)
	c := ctx(t)
	app := func(replicas, address, pool string) string {
		return "apiVersion: padis.io/v1alpha1\nkind: App\nmetadata: {name: planned, namespace: " + s.name + "}\n" +
			"spec:\n  replicas: " + replicas + "\n  template: {command: [sleep, \"1000\"], resources: {cpu: 10m, memory: 16Mi}}\n" +
			"  networks: [{pool: " + pool + address + "}]\n"
	}
	expect := func(manifest string, code int, wants ...string) {
		t.Helper()
		out, got := planIt(t, c, manifest)
		if got != code {
			t.Errorf("exit status %d instead of %d:\n%s", got, code, out)
		}
		for _, w := range wants {
			if !strings.Contains(out, w) {
				t.Errorf("the plan does not contain %q:\n%s", w, out)
			}
		}
	}
	file := filepath.Join(t.TempDir(), "plan.json")

	// The first two: what the plan says comes true.
	first := app("2", "", s.name)
	out, code := planIt(t, c, first, "--out", file)
	if code != 2 || !strings.Contains(out, "+ App "+s.name+"/planned") {
		t.Fatalf("exit status %d:\n%s", code, out)
	}
	if is, err := cluster.Instances(c, s.name); err != nil || len(is) > 0 {
		t.Errorf("planning started %v, %v", is, err)
	}
	applied, err := cluster.Padis(c, "apply", "--plan", file)
	if err != nil {
		t.Fatalf("%v\n%s", err, applied)
	}
	is, err := cluster.WaitReady(c, s.name, "planned", 2)
	must(t, err)
	for _, i := range is {
		if want := "+ " + i.Name + " on " + i.Status.Host + " at " + strings.Join(i.Status.Addresses, ", ") + ":"; !strings.Contains(out, want) {
			t.Errorf("it was not foreseen that %q:\n%s", want, out)
		}
	}
	expect(first, 0, "Nothing would change.")

	// More of them.
	expect(app("3", "", s.name), 2, "spec.replicas: 2 -> 3", "+ planned-2 on ", "is leased to "+s.name+"/planned-2")

	// An address that moves.
	fixed := ", addresses: [" + s.prefix + ".40, " + s.prefix + ".41]"
	out, code = planIt(t, c, app("2", fixed, s.name), "--out", file)
	if code != 2 || !strings.Contains(out, s.prefix+".40 of pool "+s.name+" is leased to "+s.name+"/planned-0") {
		t.Errorf("exit status %d:\n%s", code, out)
	}
	if applied, err = cluster.Padis(c, "apply", "--plan", file); err != nil {
		t.Fatalf("%v\n%s", err, applied)
	}
	_, err = cluster.WaitInstances(c, s.name, "planned", func(is []runtime.Instance) bool {
		moved := 0
		for _, i := range is {
			if i.Status.Ready && strings.HasPrefix(strings.Join(i.Status.Addresses, ","), s.prefix+".4") {
				moved++
			}
		}
		return moved == 2 && len(is) == 2
	})
	must(t, err)

	// A pool that is too small for all of them.
	crowded := "apiVersion: padis.io/v1alpha1\nkind: IPPool\nmetadata: {name: " + s.name + "-tiny}\nspec: {network: e2e, cidr: 10.62." + strings.TrimPrefix(s.prefix, "10.60.") + ".0/30}\n---\n" +
		strings.ReplaceAll(app("3", "", s.name+"-tiny"), "name: planned", "name: crowd")
	expect(crowded, 2, "+ IPPool "+s.name+"-tiny", "PoolExhausted")

	// What has changed since the plan was made is in the way.
	if out, code := planIt(t, c, app("3", fixed, s.name), "--out", file); code != 2 {
		t.Fatalf("exit status %d:\n%s", code, out)
	}
	must(t, cluster.Scale(c, s.name, "planned", 1))
	_, err = cluster.WaitInstances(c, s.name, "planned", func(is []runtime.Instance) bool { return len(is) == 1 && is[0].Status.Ready })
	must(t, err)
	late, err := cluster.Padis(c, "apply", "--plan", file)
	for _, want := range []string{"nothing was applied", "Apps", "instances", "plan again"} {
		if err == nil || !strings.Contains(late+err.Error(), want) {
			t.Errorf("a plan of the past: %q is missing in %v\n%s", want, err, late)
		}
	}
	if a, err := cluster.App(c, s.name, "planned"); err != nil || a.Spec.Wanted() != 1 {
		t.Errorf("it was applied all the same: %+v, %v", a, err)
	}

	// A deletion: what it stops, and which address is free then.
	is, err = cluster.Instances(c, s.name)
	must(t, err)
	out, code = planIt(t, c, "", "--delete", "app/planned", "-n", s.name, "--out", file)
	for _, want := range []string{"- App " + s.name + "/planned", "1 to stop", "- planned-0 on " + is[0].Status.Host, s.prefix + ".40 of pool " + s.name + " is given back by " + s.name + "/planned-0"} {
		if code != 2 || !strings.Contains(out, want) {
			t.Errorf("exit status %d; %q is missing in\n%s", code, want, out)
		}
	}
	if applied, err = cluster.Padis(c, "apply", "--plan", file); err != nil || !strings.Contains(applied, "app.padis.io/planned deleted") {
		t.Fatalf("%v\n%s", err, applied)
	}
	_, err = cluster.WaitInstances(c, s.name, "planned", func(is []runtime.Instance) bool { return len(is) == 0 })
	must(t, err)
}
