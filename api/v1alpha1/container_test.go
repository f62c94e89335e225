package v1alpha1

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	padisv1 "padis.io/padis/proto/padis/v1"
)

func TestCredentialsAreRead(t *testing.T) {
	auth := base64.StdEncoding.EncodeToString([]byte("bob:a:b"))
	for _, c := range []struct{ file, want string }{
		{`{"auths":{"registry.example.com:5000":{"username":"u","password":"p"}}}`, "[{registry.example.com:5000 u p }]"},
		{`{"auths":{"https://index.docker.io/v1/":{"auth":"` + auth + `"}}}`, "[{docker.io bob a:b }]"},
		{`{"auths":{"https://index.docker.io/v1/":{"username":"1"},"registry-1.docker.io":{"username":"2"},"b/c":{"identitytoken":"t"}}}`, "[{b   t} {docker.io 1  }]"},
		{`{"auths":{}}`, "has no auths"},
		{`{}`, "has no auths"},
		{`hunter2`, "is not JSON"},
		{`{"auths":{"a":{"auth":"hunter2!"}}}`, `auths["a"].auth: is not base64 of USER:PASSWORD`},
		{`{"auths":{"a":{"auth":"aHVudGVyMg=="}}}`, `auths["a"].auth: is not base64 of USER:PASSWORD`},
		{`{"auths":{"/":{}}}`, `auths["/"]: names no registry`},
	} {
		credentials, err := ParseDockerConfig([]byte(c.file))
		got := fmt.Sprint(credentials)
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, c.want) || strings.Contains(fmt.Sprint(err), "hunter2") {
			t.Errorf("%s: %s, want %s", c.file, got, c.want)
		}
	}
}

func FuzzParseDockerConfig(f *testing.F) {
	f.Add([]byte(`{"auths":{"https://index.docker.io/v1/":{"auth":"Ym9iOmE="}}}`))
	f.Add([]byte(`{"auths":{"[::1]:5000":{"username":"\u0000","identitytoken":"x"}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		credentials, err := ParseDockerConfig(b)
		if (err == nil) == (len(credentials) == 0) {
			t.Fatalf("%v and %v", credentials, err)
		}
		seen := map[string]bool{}
		for _, c := range credentials {
			if c.Registry == "" || seen[c.Registry] || strings.ContainsAny(c.Registry, "/@") {
				t.Fatalf("registry %q", c.Registry)
			}
			seen[c.Registry] = true
		}
	})
}

func TestPrivilegesAreTheTenants(t *testing.T) {
	asks := App{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}, Spec: AppSpec{Template: Template{
		Volumes: []Volume{
			{Name: "a", HostPath: &HostPathVolume{Path: "/srv/data/web"}},
			{Name: "b", EmptyDir: &EmptyDirVolume{}},
			{Name: "c", NFS: &NFSVolume{Server: "nfs1", Path: "/x"}},
		},
		Security: &Security{Capabilities: Capabilities{Add: []string{"NET_BIND_SERVICE", "NET_ADMIN"}, Drop: []string{"ALL"}}},
	}}}
	tenant := func(s TenantSpec) *Tenant { return &Tenant{ObjectMeta: metav1.ObjectMeta{Name: "retail"}, Spec: s} }
	all := TenantSpec{HostPaths: []string{"/srv/data"}, NFSServers: []string{"nfs0", "nfs1"}, Privileges: TenantPrivileges{Capabilities: []string{"NET_ADMIN"}}}
	for _, c := range []struct {
		name   string
		tenant *Tenant
		want   []string
	}{
		{"all granted", tenant(all), nil},
		{"the root", tenant(TenantSpec{HostPaths: []string{"/"}, Privileges: all.Privileges}), nil},
		{"the path itself", tenant(TenantSpec{HostPaths: []string{"/srv/data/web"}, Privileges: all.Privileges}), nil},
		{"no tenant", nil, []string{
			`app/shop/web: spec.template.volumes[0].hostPath.path: "/srv/data/web" is not below a path that namespace shop may use: use another kind of volume, or add the path to spec.hostPaths of the namespace's Tenant, which there is none of: declare one`,
			`app/shop/web: spec.template.security.capabilities.add[1]: "NET_ADMIN" is not granted to namespace shop: do without it, or add it to spec.privileges.capabilities of the namespace's Tenant, which there is none of: declare one`,
		}},
		{"a name that begins alike", tenant(TenantSpec{HostPaths: []string{"/srv/dat"}, Privileges: all.Privileges}), []string{
			`app/shop/web: spec.template.volumes[0].hostPath.path: "/srv/data/web" is not below a path that namespace shop may use: use another kind of volume, or add the path to spec.hostPaths of Tenant retail`}},
		{"other servers", tenant(TenantSpec{HostPaths: all.HostPaths, NFSServers: []string{"nfs2"}, Privileges: all.Privileges}), []string{
			`app/shop/web: spec.template.volumes[2].nfs.server: "nfs1" is no NFS server that namespace shop may use: use one of nfs2, or add it to spec.nfsServers of Tenant retail`}},
	} {
		var got []string
		for _, p := range ValidatePrivileges(&asks, c.tenant) {
			got = append(got, p.String())
			if want := map[bool]string{true: padisv1.ReasonVolumeForbidden, false: padisv1.ReasonPrivilegeForbidden}[strings.Contains(p.Field, "volumes")]; p.Reason != want {
				t.Errorf("%s: reason %s, want %s", c.name, p.Reason, want)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s:\n got %q\nwant %q", c.name, got, c.want)
		}
	}
	climbs := asks
	climbs.Spec.Template.Volumes = []Volume{{Name: "a", HostPath: &HostPathVolume{Path: "/srv/data/../../etc"}}}
	if len(ValidatePrivileges(&climbs, tenant(all))) != 1 {
		t.Error("a path climbed out of what is allowed")
	}
	free := App{Spec: AppSpec{Template: Template{Security: &Security{SeccompProfile: SeccompUnconfined, AllowPrivilegeEscalation: true}}}}
	if !AsksPrivileges(&free) || len(ValidatePrivileges(&free, tenant(all))) != 2 ||
		len(ValidatePrivileges(&free, tenant(TenantSpec{Privileges: TenantPrivileges{SeccompUnconfined: true, PrivilegeEscalation: true}}))) != 0 {
		t.Errorf("no filter and setuid bits need a Tenant's leave: %v", ValidatePrivileges(&free, tenant(all)))
	}
	if !AsksPrivileges(&asks) || AsksPrivileges(&App{}) {
		t.Error("AsksPrivileges is wrong")
	}
}

func TestTheOldestTenantOwnsANamespace(t *testing.T) {
	at := func(name string, created int64, namespaces ...string) Tenant {
		return Tenant{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.Unix(created, 0)}, Spec: TenantSpec{Namespaces: namespaces}}
	}
	tenants := []Tenant{at("young", 9, "shop"), at("other", 1, "bank"), at("old", 2, "shop")}
	if got := TenantOf("shop", tenants); got == nil || got.Name != "old" {
		t.Errorf("shop belongs to %v", got)
	}
	if got := TenantOf("nobody", tenants); got != nil {
		t.Errorf("nobody belongs to %v", got)
	}
}

func TestCapabilitiesThatThereAreNot(t *testing.T) {
	if n := len(usual) + len(others); n != 41 {
		t.Errorf("Linux has 41 capabilities, not %d", n)
	}
	a := App{Spec: AppSpec{Template: Template{Security: &Security{Capabilities: Capabilities{Add: []string{"NET_ADMIN", "NET_ADMINN", "ALL"}, Drop: []string{"ALL", "FLY"}}}}}}
	errs := ValidateApp(&a)
	if got := fmt.Sprint(errs.ToAggregate()); len(errs) != 3 || !strings.Contains(got, "add[1]") || !strings.Contains(got, "add[2]") || !strings.Contains(got, "drop[1]") {
		t.Error(got)
	}
}

func TestOneRegistryForAllAgents(t *testing.T) {
	registry := func(name, host string, created int64, agents ...AgentSelector) Registry {
		return Registry{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.Unix(created, 0)}, Spec: RegistrySpec{Host: host, Agents: agents}}
	}
	got := ValidateRegistries([]Registry{
		registry("late", "a", 9), registry("early", "a", 1), registry("rack", "a", 1, AgentSelector{Attribute: "rack", Value: "r1"}), registry("other", "b", 1),
	})
	if len(got) != 1 || got[0].Object != "registry/late" || !strings.Contains(got[0].Message, "Registry early") {
		t.Error(got)
	}
}
