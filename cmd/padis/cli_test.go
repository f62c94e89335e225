package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math/rand"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"pgregory.net/rapid"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/server"
	"padis.io/padis/api/server/live"
	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/mesos/local/hosts"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// The tests that run a command line are not parallel: kubectl's packages have one place for the whole program where
// errors end.

// sharedAPI is a real API server that all tests share, with two instances and an agent in its memory.
var sharedAPI = sync.OnceValues(func() (*server.Server, error) {
	dir, err := os.MkdirTemp("", "padis-cli-")
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	views := live.NewStores(time.Now)
	views.Instances.Set(&runtime.Instance{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-0", Labels: map[string]string{v1alpha1.LabelApp: "web"}},
		Status:     runtime.InstanceStatus{App: "web", Phase: "Running", Ready: true, Host: "host-1", Agent: "A1", Addresses: []string{"10.44.0.2"}},
	})
	views.Instances.Set(&runtime.Instance{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-1", Labels: map[string]string{v1alpha1.LabelApp: "web"}},
		Status: runtime.InstanceStatus{
			App: "web", Slot: 1, Phase: "Pending", Reason: padisv1.ReasonNoOffers, Message: "no agent fits", Refusals: map[string]int32{padisv1.ReasonInsufficientCPU: 1},
		},
	})
	views.Instances.Set(&runtime.Instance{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "solo-0", Labels: map[string]string{v1alpha1.LabelApp: "solo"}},
		Status:     runtime.InstanceStatus{App: "solo", Phase: "Running", Ready: true, Host: "host-1", Agent: "A1"},
	})
	views.Agents.Set(&runtime.Agent{
		ObjectMeta: metav1.ObjectMeta{Name: "a1"},
		Status:     runtime.AgentStatus{ID: "A1", Hostname: "host-1", State: "Active", Total: runtime.Amounts{CPUMilli: 4000}},
	})
	showAddresses(views)
	plans := &door{}
	s, err := server.New(server.Config{DataDir: dir, Listener: listener, Live: views, Logs: fakeLogs{}, Access: fakeInside{}, Balances: fakeBalances{}, Plans: plans, Logger: zap.NewNop()})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- s.Run(ctx)
		close(ended)
	}()
	endSharedAPI = func() {
		cancel()
		<-ended
		_ = os.RemoveAll(dir)
	}
	select {
	case <-s.Ready():
		return s, letPlan(plans, s)
	case err := <-ended:
		return nil, err
	}
})

var endSharedAPI = func() {}

// fakeLogs prints what it is asked for.
type fakeLogs struct{}

func (fakeLogs) Log(_ context.Context, namespace, name string, o live.LogOptions) (io.ReadCloser, error) {
	if o.Previous && name == "web-1" {
		return nil, apierrors.NewBadRequest("there is no earlier run of web-1")
	}
	b, err := json.Marshal(o)
	return io.NopCloser(strings.NewReader(namespace + "/" + name + "\n" + string(b))), err
}

func useAPI(t *testing.T) {
	t.Helper()
	s, err := sharedAPI()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", s.Kubeconfig())
	t.Setenv("HOME", t.TempDir())
}

type result struct {
	out, err string
	status   int
}

func padis(args ...string) result {
	var out, errOut bytes.Buffer
	status := run(args, genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &errOut})
	return result{out.String(), errOut.String(), status}
}

func (r result) expect(t *testing.T, status int, parts ...string) {
	t.Helper()
	if r.status != status {
		t.Errorf("exit status %d, want %d", r.status, status)
	}
	for _, part := range parts {
		if !strings.Contains(r.out+r.err, part) {
			t.Errorf("%q is missing", part)
		}
	}
	if t.Failed() {
		t.Fatalf("stdout:\n%s\nstderr:\n%s", r.out, r.err)
	}
}

const webManifest = `
apiVersion: padis.io/v1alpha1
kind: App
metadata: {name: web}
spec:
  replicas: 2
  template: {command: [sleep, "3600"]}
`

func manifest(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "manifest.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestKubectlVerbs(t *testing.T) {
	useAPI(t)
	file := manifest(t, webManifest)
	padis("diff", "-f", file).expect(t, 1, "+kind: App")
	padis("apply", "-f", file).expect(t, exitOK, "app.padis.io/web created")
	padis("apply", "-f", file).expect(t, exitOK, "app.padis.io/web unchanged")
	padis("diff", "-f", file).expect(t, exitOK)
	padis("get", "apps").expect(t, exitOK, "web")
	padis("get", "apps,instances").expect(t, exitOK, "app.padis.io/web", "instance.runtime.padis.io/web-0", "host-1")
	padis("get", "agents").expect(t, exitOK, "host-1")
	padis("describe", "app", "web").expect(t, exitOK, "Replicas:")
	padis("scale", "app/web", "--replicas", "5").expect(t, exitOK, "scaled")
	padis("get", "app", "web", "-o", "jsonpath={.spec.replicas}").expect(t, exitOK, "5")
	padis("patch", "app", "web", "--type", "merge", "-p", `{"spec":{"replicas":2}}`).expect(t, exitOK, "patched")
	padis("label", "app", "web", "tier=front").expect(t, exitOK, "labeled")
	padis("annotate", "app", "web", "note=x").expect(t, exitOK, "annotated")
	padis("wait", "app/web", "--for", "jsonpath={.spec.replicas}=2", "--timeout", "5s").expect(t, exitOK, "condition met")
	padis("explain", "app.spec.replicas").expect(t, exitOK, "Number of instances")
	padis("api-resources", "--api-group", "padis.io").expect(t, exitOK, "ippools")
	padis("events").expect(t, exitOK)
	padis("create", "namespace", "more").expect(t, exitOK, "created")
	padis("auth", "whoami").expect(t, exitOK, "Username")
	padis("version", "--server").expect(t, exitOK, "server v")
	t.Setenv("KUBE_EDITOR", "sed -i s/3600/7200/")
	padis("edit", "app", "web").expect(t, exitOK, "edited")
	padis("get", "app", "web", "-o", "yaml").expect(t, exitOK, "7200")

	padis("get", "app", "nobody").expect(t, exitError, `"nobody" not found`)
	padis("apply", "-f", manifest(t, "kind: App")).expect(t, exitError)
	padis("delete", "app", "web").expect(t, exitOK, "deleted")
}

func TestWhy(t *testing.T) {
	useAPI(t)
	padis("apply", "-f", manifest(t, webManifest)).expect(t, exitOK)
	t.Cleanup(func() { padis("delete", "app", "web") })
	padis("why", "app/web").expect(t, exitOK, "App default/web: 1 of 2 ready, 1 pending", "web-1: Pending (NoOffers)", "agents refused it: 1 InsufficientCPU", "agent host-1: Active, free 4 CPUs")
	padis("why", "instance/web-1").expect(t, exitOK, "Instance default/web-1: Pending", "app/web: 1 of 2 ready")
	padis("why", "instance/web-0").expect(t, exitOK, "Instance default/web-0: Running, ready", "10.44.0.2", "agent host-1")
	padis("why", "app/nobody").expect(t, exitError, `"nobody" not found`)
	padis("why", "instance/nobody-0").expect(t, exitError, `"nobody-0" not found`)
	padis("why", "app/web", "-n", "elsewhere").expect(t, exitError, "not found")
	if out := padis("why", "app/web").out; strings.Contains(out, "\x1b") {
		t.Errorf("colour where there is no terminal: %q", out)
	}
}

func TestLogs(t *testing.T) {
	useAPI(t)
	padis("apply", "-f", manifest(t, webManifest)).expect(t, exitOK)
	padis("apply", "-f", manifest(t, strings.ReplaceAll(webManifest, "web", "solo"))).expect(t, exitOK)
	t.Cleanup(func() { padis("delete", "app", "web", "solo") })
	padis("logs", "web-0").expect(t, exitOK, "default/web-0\n", `"Stream":"stdout","TailLines":-1`, `"Follow":false,"Previous":false`)
	padis("logs", "instance/web-0", "--stderr", "--tail", "3", "-f").expect(t, exitOK, `"Stream":"stderr","TailLines":3`, `"Follow":true`)
	for _, follow := range []string{"--follow=false", "--follow=true"} {
		r := padis("logs", "app/web", follow)
		r.expect(t, exitOK, "[web-0] default/web-0\n", "[web-1] default/web-1\n")
		if n := strings.Count(r.out, "\n"); n != 4 {
			t.Errorf("%d lines, want 4:\n%s", n, r.out)
		}
	}
	// Lines of one instance are as they were printed, unless it is asked for.
	for _, args := range [][]string{{"app/solo"}, {"app/solo", "-f"}, {"solo-0", "--all-instances"}} {
		if r := padis(append([]string{"logs"}, args...)...); r.status != exitOK || !strings.HasPrefix(r.out, "default/solo-0\n{") || !strings.HasSuffix(r.out, "}") {
			t.Errorf("%v: exit status %d, %q, %q", args, r.status, r.out, r.err)
		}
	}
	for _, name := range []string{"app/solo", "solo-0"} {
		padis("logs", name, "--prefix").expect(t, exitOK, "[solo-0] default/solo-0\n[solo-0] {")
	}
	if r := padis("logs", "app/web", "--prefix=false"); r.status != exitOK || strings.Contains(r.out, "[web-") {
		t.Errorf("exit status %d, %q, %q", r.status, r.out, r.err)
	}
	padis("logs", "app/web", "--previous").expect(t, exitError, "web-1: there is no earlier run of web-1", `[web-0] {"Stream"`)
	padis("logs", "web-0", "--all-streams", "--since", "5m").expect(t, exitOK, `"Stream":"all"`, `"Since":"2`)
	padis("logs", "web-0", "--since-time", "2024-01-01T00:00:00Z").expect(t, exitOK, `"Since":"2024-01-01T00:00:00Z"`)
	padis("logs", "nobody-0").expect(t, exitError, `"nobody-0" not found`)
	padis("logs", "app/nobody").expect(t, exitError, `"nobody" not found`)
}

// When a second instance comes while the only one is followed, lines say from then on whose they are.
func TestLinesTellTheirInstanceOnceThereAreSeveral(t *testing.T) {
	var out bytes.Buffer
	m := &manyLogs{to: &out, names: map[string]bool{}}
	writer := func(name string) *lineWriter {
		return &lineWriter{mu: &m.lines, to: &out, prefix: func() string { return m.prefix(name) }}
	}
	know := func(name string) {
		m.know([]runtime.Instance{{ObjectMeta: metav1.ObjectMeta{Name: name}}})
	}
	print := func(w *lineWriter, text string) {
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	know("web-0")
	first := writer("web-0")
	print(first, "alone\r\nalo")
	know("web-1")
	print(writer("web-1"), "another\r\n")
	print(first, "ng\nend")
	if err := first.flush(); err != nil {
		t.Fatal(err)
	}
	if want := "alone\r\n[web-1] another\n[web-0] along\n[web-0] end\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}

func TestSecretsKeyFile(t *testing.T) {
	scheduler := func(more ...string) result {
		return padis(append([]string{"scheduler", "--data-dir", t.TempDir(), "--master", "http://127.0.0.1:1", "--artifact-url", "http://127.0.0.1:1", "--etcd-servers", "http://127.0.0.1:1"}, more...)...)
	}
	absent := filepath.Join(t.TempDir(), "absent")
	scheduler("--secrets-key-file", absent).expect(t, exitError, "--secrets-key-file: open "+absent, "no such file", "head -c 32 /dev/urandom")
	// What is in it is judged before the etcd is needed.
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"words":  {"hello there", 0o600, "is not base64 of 32 bytes"},
		"public": {strings.Repeat("A", 43) + "=", 0o644, "can be read by others"},
	} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(c.text), c.mode); err != nil {
			t.Fatal(err)
		}
		scheduler("--listen", "127.0.0.1:0", "--secrets-key-file", path).expect(t, exitError, path, c.want)
	}
}

func TestUsageErrors(t *testing.T) {
	t.Setenv("KUBECONFIG", "/dev/null")
	for _, args := range [][]string{
		{"nonsense"},
		{"get", "--nonsense"},
		{"get"},
		{"why"},
		{"why", "web"},
		{"why", "pod/web"},
		{"why", "app/"},
		{"why", "app/a/b"},
		{"logs"},
		{"logs", "web-0", "web-1"},
		{"logs", "web-0", "--tail", "-3"},
		{"logs", "web-0", "--tail", "x"},
		{"logs", "web-0", "-f", "-p"},
		{"logs", "web-0", "--since", "-5m"},
		{"logs", "web-0", "--since", "5m", "--since-time", "2024-01-01T00:00:00Z"},
		{"logs", "web-0", "--since-time", "today"},
		{"exec", "web-0"},
		{"exec", "app/web", "--", "ls"},
		{"cp", "a", "b"},
		{"cp", "web-0:/a", "web-1:/b"},
		{"port-forward", "web-0"},
		{"top", "agents"},
		{"ip", "list", "--free", "3"},
		{"ip", "list", "--pool", "a", "--free", "0"},
		{"ip", "show", "10.44.0"},
		{"ip", "show", "fe80::1%eth0"},
		{"ip", "reserve", "a"},
		{"ip", "reserve", "a", "10.44.0.9-10.44.0.1"},
		{"ip", "release", "a", "10.44.0.1-fd00::1"},
		{"why", "pod", "web"},
		{"why", "lb/"},
		{"logs", "lb/web"},
		{"lb", "show"},
		{"lb", "trace", "192.0.2.1"},
		{"lb", "trace", "192.0.2.1", "192.0.2.2"},
		{"lb", "trace", "192.0.2.1:0", "192.0.2.2:80"},
		{"lb", "trace", "client", "192.0.2.2:80"},
		{"lb", "trace", "2001:db8::1", "192.0.2.2:80"},
		{"rollback", "sync"},
		{"rollback", "sync", "a", "b"},
		{"rollback", "sync", "a", "--resume", "--pin"},
		{"rollback", "app"},
		{"rollback", "app", "web", "--to", "x"},
		{"rollback", "app", "web", "--list", "--to", "3"},
		{"on"},
		{"up", "more"},
		{"up", "--hosts", "-1"},
		{"up", "--inner"},
		{"apply", "--plan", "plan.json", "-f", "a.yaml"},
		{"apply", "--plan", "plan.json", "--server-side"},
		{"apply", "--plan", "plan.json", "more"},
		{"version", "more"},
		{"version", "-o", "xml"},
	} {
		r := padis(args...)
		if r.status != exitUsage || r.err == "" || strings.Contains(r.err, "kubectl") {
			t.Errorf("padis %s: exit status %d, %q", strings.Join(args, " "), r.status, r.err)
		}
	}
}

func TestErrors(t *testing.T) {
	t.Setenv("KUBECONFIG", "/does/not/exist")
	dir := t.TempDir()
	padis("on", "--data-dir", dir, "host-1", "--", "true").expect(t, exitCannotRun, "no `padis up` runs on "+dir)
	padis("why", "app/web").expect(t, exitError)
	padis("get", "apps", "--kubeconfig", "/does/not/exist").expect(t, exitError)
}

func TestVersion(t *testing.T) {
	padis("version").expect(t, exitOK, "padis unknown (go1.")
	r := padis("version", "-o", "json")
	var v versions
	if err := json.Unmarshal([]byte(r.out), &v); err != nil || v.Version != "unknown" || v.Go == "" {
		t.Errorf("%v: %s", err, r.out)
	}
}

// Help of every verb names padis, has an example where it is ours, and the exit statuses are documented.
func TestHelp(t *testing.T) {
	padis("help").expect(t, exitOK, "Exit status:", "padis up")
	padis("completion", "bash").expect(t, exitOK, "__start_padis")
	root := newRoot(standardStreams())
	verbs := []string{
		"apply", "get", "describe", "delete", "diff", "wait", "explain", "edit", "scale", "events", "api-resources", "completion", "create",
		"patch", "label", "annotate", "auth", "version", "why", "logs", "up", "on", "scheduler", "exec", "cp", "port-forward", "top",
		"ip", "lb", "plan", "rollback",
	}
	for _, verb := range verbs {
		cmd, _, err := root.Find([]string{verb})
		if err != nil || cmd.Name() != verb {
			t.Errorf("%s: %v", verb, err)
			continue
		}
		if text := cmd.Long + cmd.Example + cmd.Use; strings.Contains(text, "kubectl ") {
			t.Errorf("%s speaks of kubectl:\n%s", verb, text)
		}
		if slices.Contains([]string{"version", "why", "logs", "up", "on", "exec", "cp", "port-forward", "top", "plan", "rollback"}, verb) && (cmd.Example == "" || !strings.Contains(cmd.Long, "Exit status:")) {
			t.Errorf("%s has no example, or no exit status", verb)
		}
	}
}

func TestDefaultKubeconfig(t *testing.T) {
	t.Parallel()
	env := func(pairs ...string) func(string) string {
		return func(name string) string {
			for i := 0; i < len(pairs); i += 2 {
				if pairs[i] == name {
					return pairs[i+1]
				}
			}
			return ""
		}
	}
	yes, no := func(string) bool { return true }, func(string) bool { return false }
	if got := defaultKubeconfig(env(dataDirVariable, "/d"), yes); got != "/d/kubeconfig" {
		t.Errorf("local Padis: %q", got)
	}
	if got := defaultKubeconfig(env(dataDirVariable, "/d"), no); got != "" {
		t.Errorf("no local Padis: %q", got)
	}
	if got := defaultKubeconfig(env(dataDirVariable, "/d", "KUBECONFIG", "/k"), yes); got != "" {
		t.Errorf("KUBECONFIG is overruled by %q", got)
	}
	if got := defaultDataDir(env("HOME", "/home/u"), 1000); got != "/home/u/.local/share/padis" {
		t.Errorf("user: %s", got)
	}
	if got := defaultDataDir(env("HOME", "/root"), 0); got != "/var/lib/padis" {
		t.Errorf("root: %s", got)
	}
}

func TestNsenter(t *testing.T) {
	t.Parallel()
	host := hosts.Entry{Name: "host-1", Kind: hosts.KindHost, Pid: 7}
	client := hosts.Entry{Name: "client", Kind: hosts.KindClient, Pid: 3, Network: "/proc/3/fd/9"}
	for _, c := range []struct {
		entry        hosts.Entry
		shares, root bool
		want         string
	}{
		{host, true, true, "nsenter --target=7 --mount --pid --wdns=/w --net --uts --ipc -- ip a"},
		{client, true, true, "nsenter --target=3 --mount --pid --wdns=/w --net=/proc/3/fd/9 -- ip a"},
		{host, false, false, "nsenter --target=7 --mount --pid --wdns=/w --net --uts --ipc --user --preserve-credentials -- ip a"},
		{host, false, true, "nsenter --target=7 --mount --pid --wdns=/w --net --uts --ipc --user -- ip a"},
	} {
		if got := strings.Join(nsenter("nsenter", c.entry, c.shares, c.root, "/w", []string{"ip", "a"}), " "); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

// However the output is cut into pieces, each line is printed once, whole, with the prefix; without one, as it came.
func TestLineWriter(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		prefix := rapid.SampledFrom([]string{"", "> "}).Draw(t, "prefix")
		text := rapid.StringMatching(`([a-z]{0,5}\r?\n){0,20}[a-z]{0,3}`).Draw(t, "text")
		seed := rapid.Int64().Draw(t, "seed")
		var out bytes.Buffer
		w := &lineWriter{mu: &sync.Mutex{}, to: &out, prefix: func() string { return prefix }}
		random := rand.New(rand.NewSource(seed))
		for rest := text; rest != ""; {
			n := 1 + random.Intn(len(rest))
			if _, err := w.Write([]byte(rest[:n])); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := w.flush(); err != nil {
			t.Fatal(err)
		}
		want := ""
		for line := range strings.Lines(text) {
			want += prefix + strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r") + "\n"
		}
		if prefix == "" {
			want = text
		}
		if out.String() != want {
			t.Fatalf("got %q, want %q", out.String(), want)
		}
	})
}

func TestLineWriterBoundsLines(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	w := &lineWriter{mu: &sync.Mutex{}, to: &out, prefix: func() string { return "> " }}
	for range 3 {
		if _, err := w.Write(bytes.Repeat([]byte("x"), maxLine)); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(out.String(), "\n"); n != 3 || len(w.rest) > 0 {
		t.Errorf("%d lines printed, %d bytes kept", n, len(w.rest))
	}
}

func TestGatewayOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ cidr, gateway, want string }{
		{"10.44.0.0/16", "10.44.0.1", "10.44.0.1/16"},
		{"10.44.0.0/16", "", ""},
		{"10.44.0.0/16", "10.45.0.1", ""},
		{"nonsense", "10.45.0.1", ""},
	} {
		got, err := gatewayOf(c.cidr, c.gateway)
		if (err == nil) != (c.want != "") || (err == nil && got.String() != c.want) {
			t.Errorf("gatewayOf(%q, %q) = %v, %v", c.cidr, c.gateway, got, err)
		}
	}
}

func FuzzControl(f *testing.F) {
	f.Add([]byte(`{"gateways":["10.44.0.1/16"]}` + "\n" + `{"stop":true}` + "\n"))
	f.Add([]byte(`{"name":"host-1","kind":"started","pid":3,"retryIn":5}` + "\n"))
	f.Add([]byte("null\n[]\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		count := 0
		_ = receive(bytes.NewReader(b), func(order) { count++ })
		_ = receive(bytes.NewReader(b), func(news) {})
		if count > bytes.Count(b, []byte("\n"))+1 {
			t.Errorf("%d messages in %q", count, b)
		}
	})
}
