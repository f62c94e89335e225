package wanted

import (
	"strings"
	"testing"

	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/reconcile/config"
	"padis.io/padis/reconcile/declared"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

const box = `
metadata: {name: box, namespace: shop, uid: u2, generation: 1}
spec:
  template:
    image: registry.example.com/shop:1
    command: [shop]
    args: [--listen, ":8080"]
    imagePullPolicy: Always
    imagePullSecrets: [{name: pull}]
    init: true
    user: "1000"
    env: [{name: PASSWORD, valueFrom: {secretKeyRef: {name: db, key: password}}}]
    resources: {cpu: 50m, pids: 10}
    security:
      capabilities: {add: [NET_BIND_SERVICE, CHOWN], drop: [ALL]}
      readOnlyRootFilesystem: true
      allowPrivilegeEscalation: true
      seccompProfile: Unconfined
    volumes:
    - {name: data, mountPath: /data, hostPath: {path: /srv/data}, readOnly: true}
    - {name: tmp, mountPath: /tmp, emptyDir: {size: 1500Ki, medium: Memory}}
    - {name: share, mountPath: /share, nfs: {server: nfs1, path: /exports, options: [vers=4.1]}}
    - {name: conf, mountPath: /etc/shop, configMap: {name: settings, items: [{key: shop.conf, path: main/shop.conf}], defaultMode: 0440, onChange: Restart}}
    - {name: keys, mountPath: /etc/keys, secret: {name: db, onChange: Signal, signal: SIGHUP}}
    - {name: logs, mountPath: /logs, addressLogs: {}}
`

func contents() config.Objects {
	return config.Objects{
		{Kind: config.Secret, Namespace: "shop", Name: "db"}:          {Data: map[string][]byte{"password": []byte("p")}},
		{Kind: config.ConfigMap, Namespace: "shop", Name: "settings"}: {Data: map[string][]byte{"shop.conf": []byte("a=1"), "other": []byte("b")}},
		{Kind: config.Secret, Namespace: "shop", Name: "pull"}: {Type: v1alpha1.DockerConfigType,
			Data: map[string][]byte{v1alpha1.DockerConfigKey: []byte(`{"auths":{"registry.example.com":{"username":"u","password":"p"}}}`)}},
	}
}

func retail(spec string) *declared.View {
	t := v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: "retail"}}
	if err := yaml.UnmarshalStrict([]byte(spec), &t.Spec); err != nil {
		panic(err)
	}
	t.Spec.Namespaces = []string{"shop"}
	return declared.Build(declared.Input{Tenants: []v1alpha1.Tenant{t}})
}

const granted = `{hostPaths: [/srv], privileges: {seccompUnconfined: true, privilegeEscalation: true}, defaultResources: {cpu: 200m, memory: 64Mi, disk: 1Gi, pids: 99}}`

func TestAContainer(t *testing.T) {
	id, r, refusal := App(read(t, box), retail(granted), contents(), nil)
	if refusal != nil {
		t.Fatal(refusal)
	}
	want := &padisv1.Template{}
	if err := protojson.Unmarshal([]byte(`{
		"image": "registry.example.com/shop:1", "command": ["shop"], "args": ["--listen", ":8080"], "alwaysPull": true, "init": true, "user": "1000",
		"env": [{"name": "PASSWORD", "value": "p"}],
		"resources": {"cpuMilli": 50, "memoryMib": 64, "diskMib": 1024, "pids": 10},
		"security": {"addCapabilities": ["CHOWN", "NET_BIND_SERVICE"], "dropCapabilities": ["ALL"], "readOnlyRoot": true, "allowPrivilegeEscalation": true, "seccompUnconfined": true},
		"volumes": [
			{"name": "data", "mountPath": "/data", "readOnly": true, "hostPath": {"path": "/srv/data"}},
			{"name": "tmp", "mountPath": "/tmp", "emptyDir": {"sizeMib": 2, "memory": true}},
			{"name": "share", "mountPath": "/share", "nfs": {"server": "nfs1", "path": "/exports", "options": ["vers=4.1"]}},
			{"name": "conf", "mountPath": "/etc/shop", "config": {"config": "configmap/settings", "items": [{"key": "shop.conf", "path": "main/shop.conf"}],
				"mode": 288, "onChange": "ON_CHANGE_RESTART", "hash": "`+id.Configs[0].Hash+`"}},
			{"name": "keys", "mountPath": "/etc/keys", "config": {"config": "secret/db", "onChange": "ON_CHANGE_SIGNAL", "signal": "SIGHUP"}},
			{"name": "logs", "mountPath": "/logs", "logs": {}}],
		"stop": {"signal": "SIGTERM", "gracePeriodMs": 10000}, "logs": {"maxBytes": 10485760, "maxFiles": 3}}`), want); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(r.Template, want) {
		t.Errorf("got\n%s\nwant\n%s", protojson.Format(r.Template), protojson.Format(want))
	}
	if len(id.Configs) != 2 || id.Configs[0].Name != "configmap/settings" || len(id.Configs[0].Data) != 1 || len(id.RegistryAuths) != 1 || id.RegistryAuths[0].Registry != "registry.example.com" {
		t.Errorf("beside it travel %v and %v", id.Configs, id.RegistryAuths)
	}
}

func TestArgumentsOfAProcessFollowItsCommand(t *testing.T) {
	r, err := revision(read(t, `{spec: {template: {command: [a, b], args: [c]}}}`))
	if err != nil {
		t.Fatal(err)
	}
	other, err := revision(read(t, `{spec: {template: {command: [a, b, c]}}}`))
	if err != nil || !proto.Equal(r, other) {
		t.Errorf("%v and %v, %v", r, other, err)
	}
}

// What an App does not say its Tenant does, and what neither says is the default.
func TestResourcesOfTheTenant(t *testing.T) {
	for _, c := range []struct{ app, tenant, want string }{
		{`{command: [x]}`, `{}`, "cpu_milli:100 memory_mib:32"},
		{`{command: [x]}`, `{defaultResources: {cpu: 200m, memory: 64Mi, disk: 1Gi, pids: 9}}`, "cpu_milli:200 memory_mib:64 disk_mib:1024"},
		{`{image: x}`, `{defaultResources: {pids: 9}}`, "cpu_milli:100 memory_mib:32 pids:9"},
		{`{image: x, resources: {cpu: 1, disk: 0, pids: 7}}`, `{defaultResources: {cpu: 200m, disk: 1Gi, pids: 9}}`, "cpu_milli:1000 memory_mib:32 pids:7"},
	} {
		_, r, refusal := App(read(t, `{metadata: {namespace: shop}, spec: {template: `+c.app+`}}`), retail(c.tenant), nil, nil)
		if refusal != nil {
			t.Fatal(refusal)
		}
		want := &padisv1.Resources{}
		for _, f := range strings.Fields(c.want) {
			name, value, _ := strings.Cut(f, ":")
			var n int64
			for _, d := range value {
				n = n*10 + int64(d-'0')
			}
			*map[string]*int64{"cpu_milli": &want.CpuMilli, "memory_mib": &want.MemoryMib, "disk_mib": &want.DiskMib, "pids": &want.Pids}[name] = n
		}
		if !proto.Equal(r.Template.Resources, want) {
			t.Errorf("%s with %s: %v, want %v", c.app, c.tenant, r.Template.Resources, want)
		}
	}
}

// A value of a variable, and a file that asks for it, make another revision; other files and credentials do not.
func TestWhatChangesOfContents(t *testing.T) {
	view := retail(granted)
	base, first, refusal := App(read(t, box), view, contents(), nil)
	if refusal != nil {
		t.Fatal(refusal)
	}
	for _, c := range []struct {
		name            string
		object          config.Ref
		key, value      string
		restarts, moves bool
	}{
		{"a variable", config.Ref{Kind: config.Secret, Namespace: "shop", Name: "db"}, "password", "q", true, true},
		{"a file that is signalled", config.Ref{Kind: config.Secret, Namespace: "shop", Name: "db"}, "more", "q", false, true},
		{"a file that restarts", config.Ref{Kind: config.ConfigMap, Namespace: "shop", Name: "settings"}, "shop.conf", "a=2", true, true},
		{"a key that is not shown", config.Ref{Kind: config.ConfigMap, Namespace: "shop", Name: "settings"}, "other", "c", false, false},
		{"credentials", config.Ref{Kind: config.Secret, Namespace: "shop", Name: "pull"}, v1alpha1.DockerConfigKey, `{"auths":{"registry.example.com":{"username":"v"}}}`, false, true},
	} {
		objects := contents()
		objects[c.object].Data[c.key] = []byte(c.value)
		id, r, refusal := App(read(t, box), view, objects, nil)
		if refusal != nil {
			t.Fatal(refusal)
		}
		if restarts, moves := r.Hash != first.Hash, !proto.Equal(id, base); restarts != c.restarts || moves != c.moves && !restarts {
			t.Errorf("%s: restarts %v, travels %v", c.name, restarts, moves)
		}
	}
}

func TestRefusalsOfContainers(t *testing.T) {
	for _, c := range []struct {
		from, to, tenant, reason, message string
		revoked                           bool
	}{
		{"", "", `{}`, "VolumeForbidden", `spec.template.volumes[0].hostPath.path: "/srv/data" is not below a path that namespace shop may use: use another kind of volume, or add the path to spec.hostPaths of Tenant retail`, true},
		{"add: [NET_BIND_SERVICE, CHOWN]", "add: [SYS_ADMIN]", granted, "PrivilegeForbidden", `spec.template.security.capabilities.add[0]: "SYS_ADMIN" is not granted to namespace shop: do without it, or add it to spec.privileges.capabilities of Tenant retail`, true},
		{"add: [NET_BIND_SERVICE, CHOWN]", "add: [FLY]", granted, "Invalid", `spec.template.security.capabilities.add[0]: "FLY" is no capability of Linux: write it as capabilities(7) does, without CAP_, for example NET_ADMIN`, false},
		{"name: settings", "name: none", granted, "ConfigNotFound", `spec.template.volumes[3].configMap.name: there is no ConfigMap "none" in namespace shop: create it, or name another`, false},
		{"image: registry.example.com/shop:1", "", granted, "Invalid", `spec.template.volumes: only containers have it: set image`, false},
		{"emptyDir: {size: 1500Ki, medium: Memory}", "readOnly: true", granted, "Invalid", `spec.template.volumes[1]: has 0 of hostPath, emptyDir, nfs, configMap, secret and addressLogs: set exactly one`, false},
		{"size: 1500Ki", "size: -1", granted, "Invalid", `spec.template.volumes[1].emptyDir.size: -1 is negative`, false},
		{"size: 1500Ki", "size: 1", granted, "Invalid", `spec.template.volumes[1].emptyDir.size: "1" must be at least 1Mi`, false},
		{"", "", `{hostPaths: [/srv], privileges: {seccompUnconfined: true, privilegeEscalation: true}, defaultResources: {memory: 9E}}`, "Invalid", `spec.defaultResources.memory of the Tenant: 9E is more than any host has`, false},
	} {
		_, _, refusal := App(read(t, strings.Replace(box, c.from, c.to, 1)), retail(c.tenant), contents(), nil)
		if refusal == nil || refusal.Reason != c.reason || refusal.Message != c.message || refusal.Revoked != c.revoked {
			t.Errorf("%s -> %s: %+v", c.from, c.to, refusal)
		}
	}
	large := contents()
	large[config.Ref{Kind: config.Secret, Namespace: "shop", Name: "db"}].Data["large"] = make([]byte, padisv1.MaxSize)
	if _, _, refusal := App(read(t, box), retail(granted), large, nil); refusal == nil || !strings.Contains(refusal.Message, "show fewer keys with items") {
		t.Errorf("too large: %+v", refusal)
	}
}
