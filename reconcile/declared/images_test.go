package declared

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// One declaration that is too large must not keep all others from being in force.
func TestOneRecordHasRoomForAll(t *testing.T) {
	var in Input
	for n := range 4 {
		in.Registries = append(in.Registries, v1alpha1.Registry{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("r", n)},
			Spec: v1alpha1.RegistrySpec{Host: fmt.Sprint("host", n), CABundle: strings.Repeat("x", 100<<10)}})
	}
	for n := range 40 {
		in.Prepulls = append(in.Prepulls, v1alpha1.ImagePrepull{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: fmt.Sprintf("p%02d", n)},
			Spec: v1alpha1.ImagePrepullSpec{Images: []string{strings.Repeat("x", 10<<10)}}})
	}
	v := Build(in)
	if len(v.Cluster.Registries) != 2 || v.Registries["r3"].Accepted || !strings.Contains(v.Registries["r3"].Message, "shorten spec.caBundle") {
		t.Errorf("%d registries in force, r3: %+v", len(v.Cluster.Registries), v.Registries["r3"])
	}
	if len(v.Cluster.Prepulls) != 25 || v.Prepulls["shop/p39"].Accepted {
		t.Errorf("%d pulls in force", len(v.Cluster.Prepulls))
	}
	if _, err := padisv1.Encode(v.Cluster); err != nil {
		t.Error(err)
	}
}

// What Tenants grant is not handed to the scheduler, and still makes another view.
func TestGrantsMakeAnotherView(t *testing.T) {
	tenant := func(paths ...string) *View {
		return Build(Input{Tenants: []v1alpha1.Tenant{{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: v1alpha1.TenantSpec{Namespaces: []string{"shop"}, HostPaths: paths}}}})
	}
	if tenant("/srv").Same(tenant()) || !tenant("/srv").Same(tenant("/srv")) {
		t.Error("views are told apart wrongly")
	}
}

func TestHowFarAnUpgradeIs(t *testing.T) {
	for _, c := range []struct {
		name    string
		spec    v1alpha1.ExecutorUpgradeSpec
		upgrade runtime.Upgrade
		want    string
	}{
		{"nothing to do", v1alpha1.ExecutorUpgradeSpec{}, runtime.Upgrade{Total: 2, Updated: 2}, "False Complete: 2 of 2 executors are up to date"},
		{"under way", v1alpha1.ExecutorUpgradeSpec{}, runtime.Upgrade{Total: 3, Updated: 1, Upgrading: []string{"a"}}, "True Upgrading: 1 of 3 executors are up to date; now on a"},
		{"about to begin", v1alpha1.ExecutorUpgradeSpec{}, runtime.Upgrade{Total: 3, Message: "waits for offers"}, "True Upgrading: 0 of 3 executors are up to date; waits for offers"},
		{"paused", v1alpha1.ExecutorUpgradeSpec{Paused: true}, runtime.Upgrade{Total: 3}, "False Paused: 0 of 3 executors are up to date; set spec.paused to false to go on"},
		{"another executor", v1alpha1.ExecutorUpgradeSpec{ArtifactSHA256: "b"}, runtime.Upgrade{Target: "a", Total: 1},
			"False Invalid: 0 of 1 executors are up to date; the scheduler offers the executor a and not that of spec.artifactSHA256: start the scheduler with that executor, or correct the field"},
		{"the rest left alone", v1alpha1.ExecutorUpgradeSpec{}, runtime.Upgrade{Total: 2, Updated: 1, Skipped: map[string]string{"b": "runs processes"}},
			"False Complete: 1 of 2 executors are up to date; the others are left alone; left alone: b: runs processes"},
	} {
		got := UpgradeProgress(&c.spec, c.upgrade).Conditions[0]
		if text := fmt.Sprintf("%s %s: %s", got.Status, got.Reason, got.Message); text != c.want {
			t.Errorf("%s: %s, want %s", c.name, text, c.want)
		}
	}
}

func TestThePullsOfManyAgentsFitAStatus(t *testing.T) {
	var states []runtime.AgentImage
	for n := range 1000 {
		states = append(states, runtime.AgentImage{Agent: fmt.Sprintf("a%04d", n), Host: fmt.Sprintf("h%04d", n), Image: "x", Present: n != 999, Reason: padisv1.ReasonImageNotFound})
	}
	s := PrepullProgress(states)
	slices.Reverse(states)
	if again := PrepullProgress(states); fmt.Sprint(again) != fmt.Sprint(s) {
		t.Error("the order of the input matters")
	}
	if s.Wanted != 1000 || s.Present != 999 || s.Failed != 1 || len(s.Agents) != v1alpha1.MaxPrepullAgents || s.Agents[0].Host != "h0999" {
		t.Errorf("%d of %d present, %d failed, %d listed, first %+v", s.Present, s.Wanted, s.Failed, len(s.Agents), s.Agents[0])
	}
}
