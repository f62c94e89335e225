package gitops_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"padis.io/padis/api/server"
	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/reconcile/gitops"
	"padis.io/padis/reconcile/gitops/notify/post"
	"padis.io/padis/reconcile/gitops/render/helm/child"

	"github.com/go-logr/logr"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// patience bounds how long a test waits for something that should happen at once.
const patience = 60 * time.Second

var (
	cfg, writer *rest.Config
	api         client.Client
	scheme      = apiruntime.NewScheme()
	repos       string
	apiURL      string
	// restart ends the reconcilers, and begins anew with what is stored.
	restart  func() error
	seen     = &sightings{}
	auditLog string
)

// sightings are the events of all Syncs and GitSources.
type sightings struct {
	mu    sync.Mutex
	lines []string
}

func (s *sightings) Event(o apiruntime.Object, kind, reason, message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := o.(client.Object)
	s.lines = append(s.lines, fmt.Sprintf("%s/%s %s %s %s", m.GetNamespace(), m.GetName(), kind, reason, message))
}

// of gives the events of a reason in a namespace.
func (s *sightings) of(namespace, reason string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.lines), func(l string) bool {
		return !strings.HasPrefix(l, namespace+"/") || !strings.Contains(l, " "+reason+" ")
	})
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == child.Verb {
		os.Exit(child.Main(os.Args[2:], os.Stdin, os.Stdout, os.Stderr))
	}
	code, err := withServer(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func withServer(m *testing.M) (int, error) {
	ctrllog.SetLogger(logr.Discard())
	dir, err := os.MkdirTemp("", "padis-gitops-test-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s, ended, err := serve(ctx, filepath.Join(dir, "api"))
	if err != nil {
		return 0, err
	}
	cfg, writer, apiURL, auditLog = loopback(s), s.SyncConfig(), s.URL(), filepath.Join(dir, "api", "audit.log")
	if err := errors.Join(v1alpha1.AddToScheme(scheme), corev1.AddToScheme(scheme)); err != nil {
		return 0, err
	}
	if api, err = client.New(cfg, client.Options{Scheme: scheme}); err != nil {
		return 0, err
	}
	repos = filepath.Join(dir, "repos")
	if err := os.Mkdir(repos, 0o700); err != nil {
		return 0, err
	}
	begin := func() (func() error, error) {
		ctx, cancel := context.WithCancel(ctx)
		managing, err := manage(ctx, cfg, gitops.Config{Dir: filepath.Join(dir, "cache"), FileRoots: []string{repos}, Writer: writer, Charts: child.New(child.Bounds{CPU: 2 * time.Second}).Render, DialReceivers: post.Dialer(true).DialContext})
		return func() error { cancel(); return <-managing }, err
	}
	end, err := begin()
	if err != nil {
		return 0, err
	}
	restart = func() error {
		if err := end(); err != nil {
			return err
		}
		end, err = begin()
		return err
	}
	code := m.Run()
	err = end()
	cancel()
	return code, errors.Join(err, <-ended)
}

// serve starts an API server.
func serve(ctx context.Context, dir string) (*server.Server, chan error, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	s, err := server.New(server.Config{DataDir: dir, Listener: l, Version: "0.0.0-test", Logger: logger()})
	if err != nil {
		return nil, nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	select {
	case <-s.Ready():
		return s, ended, nil
	case err := <-ended:
		return nil, nil, fmt.Errorf("the API server ended before it was ready: %w", err)
	}
}

func loopback(s *server.Server) *rest.Config {
	c := s.LoopbackConfig()
	c.QPS = -1
	c.ContentType, c.AcceptContentTypes = apiruntime.ContentTypeJSON, apiruntime.ContentTypeJSON
	return c
}

// manage has an API server's GitSources and Syncs reconciled.
func manage(ctx context.Context, c *rest.Config, git gitops.Config) (chan error, error) {
	yes := true
	mgr, err := manager.New(c, manager.Options{Scheme: scheme, Logger: logr.Discard(), Metrics: metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: &yes}})
	if err != nil {
		return nil, err
	}
	if err := gitops.Add(mgr, git, seen, logger()); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	return ended, nil
}

func logger() *zap.Logger {
	if os.Getenv("PADIS_TEST_LOG") == "" {
		return zap.NewNop()
	}
	return zap.Must(zap.NewDevelopment())
}

func meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

func typeMeta(kind string) metav1.TypeMeta { return metav1.TypeMeta{APIVersion: "v1", Kind: kind} }

// bed is a namespace with a repository, a GitSource and a Sync.
type bed struct {
	testing.TB
	ns, dir string
}

func newBed(t testing.TB, files map[string]string, spec v1alpha1.SyncSpec) *bed {
	t.Helper()
	ns := "t" + fmt.Sprint(time.Now().UnixNano())
	b := &bed{t, ns, filepath.Join(repos, ns)}
	if err := os.Mkdir(b.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	b.git("init", "-q", "-b", "main")
	b.push(files)
	b.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}})
	b.create(&v1alpha1.GitSource{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "shop"}, Spec: v1alpha1.GitSourceSpec{URL: "file://" + b.dir, Interval: &metav1.Duration{Duration: 5 * time.Second}}})
	spec.SourceRef.Name = "shop"
	b.create(&v1alpha1.Sync{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "shop"}, Spec: spec})
	return b
}

func (b *bed) create(o client.Object) {
	b.Helper()
	b.wait("created "+o.GetName(), func() string {
		if err := api.Create(context.Background(), o); err != nil {
			return err.Error()
		}
		return ""
	})
}

func (b *bed) git(args ...string) string {
	b.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=Test", "GIT_AUTHOR_EMAIL=test@example.com", "GIT_COMMITTER_NAME=Test", "GIT_COMMITTER_EMAIL=test@example.com")
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// push commits files; those without content are removed. It has the source fetched, as a webhook would.
func (b *bed) push(files map[string]string) string {
	b.Helper()
	for name, text := range files {
		path := filepath.Join(b.dir, name)
		var err error
		if text == "" {
			err = os.Remove(path)
		} else {
			err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600))
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	b.git("add", "-A")
	b.git("commit", "-q", "-m", "change")
	s := &v1alpha1.GitSource{ObjectMeta: metav1.ObjectMeta{Namespace: b.ns, Name: "shop"}}
	_ = api.Patch(context.Background(), s, client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"metadata":{"annotations":{"test":"%d"}}}`, time.Now().UnixNano())))
	return b.git("rev-parse", "HEAD")
}

func (b *bed) sync() *v1alpha1.Sync {
	y := &v1alpha1.Sync{}
	if err := api.Get(context.Background(), client.ObjectKey{Namespace: b.ns, Name: "shop"}, y); err != nil {
		b.Fatal(err)
	}
	return y
}

func ready(y *v1alpha1.Sync) metav1.Condition {
	for _, c := range y.Status.Conditions {
		if c.Type == v1alpha1.ConditionReady {
			return c
		}
	}
	return metav1.Condition{}
}

// applied waits until a commit is applied.
func (b *bed) applied(commit string) *v1alpha1.Sync {
	b.Helper()
	return b.until("commit "+commit+" is applied", func(y *v1alpha1.Sync) bool {
		return y.Status.LastAppliedCommit == commit && ready(y).Status == metav1.ConditionTrue
	})
}

// until waits for something of the Sync.
func (b *bed) until(what string, f func(y *v1alpha1.Sync) bool) *v1alpha1.Sync {
	b.Helper()
	var y *v1alpha1.Sync
	b.wait(what, func() string {
		if y = b.sync(); f(y) {
			return ""
		}
		return fmt.Sprintf("%+v", y.Status)
	})
	return y
}

func (b *bed) wait(what string, f func() string) {
	b.Helper()
	end := time.Now().Add(patience)
	for {
		why := f()
		if why == "" {
			return
		}
		if time.Now().After(end) {
			b.Fatalf("not %s: %s", what, why)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (b *bed) config(name string) (*corev1.ConfigMap, error) {
	m := &corev1.ConfigMap{}
	return m, api.Get(context.Background(), client.ObjectKey{Namespace: b.ns, Name: name}, m)
}

func configMap(name, value string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {key: %q}\n", name, value)
}
