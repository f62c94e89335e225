package wanted

import (
	"strings"
	"testing"

	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/reconcile/declared"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func directorsView() *declared.View {
	pool := func(name, network, cidr string) v1alpha1.IPPool {
		return v1alpha1.IPPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.IPPoolSpec{Network: network, CIDR: cidr}}
	}
	return declared.Build(declared.Input{
		Networks: []v1alpha1.Network{
			{ObjectMeta: metav1.ObjectMeta{Name: "data"}, Spec: v1alpha1.NetworkSpec{Bridge: "padis0"}},
			{ObjectMeta: metav1.ObjectMeta{Name: "virtual"}, Spec: v1alpha1.NetworkSpec{Driver: v1alpha1.DriverVirtual}},
		},
		Pools:   []v1alpha1.IPPool{pool("shop", "data", "10.44.0.0/16"), pool("vips", "virtual", "198.51.100.0/24")},
		Tenants: []v1alpha1.Tenant{{ObjectMeta: metav1.ObjectMeta{Name: "retail"}, Spec: v1alpha1.TenantSpec{Namespaces: []string{"shop"}}}},
	})
}

func TestDirectors(t *testing.T) {
	v := directorsView()
	b := &v1alpha1.LoadBalancer{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "u1", Generation: 3, Labels: map[string]string{"tier": "web"}}}
	b.Spec.Directors.Networks = []v1alpha1.NetworkAttachment{{Pool: "shop", Addresses: []string{"10.44.0.5"}}}
	id, r, refusal := Directors(b, v, nil)
	if refusal != nil {
		t.Fatal(refusal)
	}
	if id.Uid != "u1" || id.Name != "web-director" || id.Tenant != "retail" || id.Generation != 3 || !id.Directors || len(id.Labels) != 0 {
		t.Errorf("directors are %v: no backend must take them for an App with its labels", id)
	}
	tpl := r.Template
	if !tpl.Director || strings.Join(tpl.Command, " ") != "/proc/self/exe director" || tpl.Stop.Signal != "SIGTERM" || tpl.Resources.CpuMilli != 100 || tpl.Resources.MemoryMib != 128 {
		t.Errorf("template is %v", tpl)
	}
	if len(r.Constraints) != 1 || r.Constraints[0].Operator != padisv1.Constraint_UNIQUE || r.Networks[0].Pool != "shop" || r.Networks[0].Addresses[0] != "10.44.0.5" {
		t.Errorf("revision is %v", r)
	}
	// One check restarts a director that does not answer, the other says whether it is ready, and never restarts it.
	for n, restarts := range []bool{false, true} {
		h := tpl.HealthChecks[n]
		if p := h.GetHttp(); p.GetPort() != v1alpha1.DirectorPort || p.GetPath() != "/ready" || (h.FailureThreshold < 100) != restarts || len(p.GetStatuses()) != n+1 {
			t.Errorf("check %d is %v", n, h)
		}
	}
	if named, other := r.Hash, name(&padisv1.Revision{Template: r.Template, Networks: r.Networks}); named != other {
		t.Errorf("the revision is called %s, its content %s", named, other)
	}
	// What is not of the directors restarts none of them.
	b.Spec.Listeners, b.Generation = []v1alpha1.Listener{{Name: "a", Port: 80}}, 4
	if _, again, _ := Directors(b, v, nil); again.Hash != r.Hash {
		t.Error("another listener is another revision of the directors")
	}
	b.Spec.Directors.Networks[0] = v1alpha1.NetworkAttachment{Pool: "vips"}
	if _, _, refusal := Directors(b, v, nil); refusal == nil || refusal.Reason != padisv1.ReasonPoolForbidden || !strings.HasPrefix(refusal.Message, "spec.directors.networks[0].pool: ") {
		t.Errorf("directors with VIPs: %+v", refusal)
	}
	a := &v1alpha1.App{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}, Spec: v1alpha1.AppSpec{
		Template: v1alpha1.Template{Command: []string{"x"}}, Networks: []v1alpha1.NetworkAttachment{{Pool: "vips"}}}}
	if _, _, refusal := App(a, v, nil, nil); refusal == nil || refusal.Reason != padisv1.ReasonPoolForbidden || !strings.Contains(refusal.Message, "LoadBalancers only") {
		t.Errorf("an App with VIPs: %+v", refusal)
	}
}

func TestChecksOfTheClientsPath(t *testing.T) {
	h, err := Check("spec.healthChecks[0]", &v1alpha1.PathCheck{TCP: &v1alpha1.TCPProbe{Port: 80}})
	if err != nil || h.GetTcp().GetPort() != 80 || h.IntervalMs != 2000 || h.TimeoutMs != 1000 || h.FailureThreshold != 3 || h.SuccessThreshold != 1 || h.GracePeriodMs != 0 {
		t.Errorf("%v, %v", h, err)
	}
	if _, err := Check("spec.healthChecks[0]", &v1alpha1.PathCheck{}); err == nil || !strings.Contains(err.Error(), "spec.healthChecks[0]") {
		t.Errorf("a check of nothing: %v", err)
	}
}
