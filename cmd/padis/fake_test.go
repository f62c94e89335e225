package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/zap"

	"padis.io/padis/mesos/local/hosts"
	"padis.io/padis/mesos/local/hosts/supervise"
	"padis.io/padis/reconcile/gitops/render/helm/child"
)

// The test binary plays the programs that `padis up` starts, under their names: padis itself is the real one, but for
// its scheduler; padis-mesos has a real host, and a master and an agent that do nothing but exist.
const playVariable = "PADIS_TEST_PLAY"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == child.Verb {
		// It knows no environment.
		os.Exit(run(os.Args[1:], standardStreams()))
	}
	if os.Getenv(playVariable) == "" {
		status := m.Run()
		endSharedAPI()
		os.Exit(status)
	}
	name, verb := filepath.Base(os.Args[0]), ""
	if len(os.Args) > 1 {
		verb = os.Args[1]
	}
	var err error
	switch name + " " + verb {
	case "padis scheduler":
		err = playScheduler(os.Args[2:])
	case "padis-mesos master":
		err = playListener(flagValue(os.Args, "--listen"))
	case "padis-mesos agent":
		err = playListener("0.0.0.0:" + flagValue(os.Args, "--port"))
	case "padis-mesos host":
		err = playHost(os.Args)
	default:
		os.Exit(run(os.Args[1:], standardStreams()))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// fakeBinaries is a directory that every user may read, with the test binary under the names of ours.
func fakeBinaries(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "padis-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"padis", "padis-mesos"} {
		if err := linkOrCopy(executable, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func linkOrCopy(from, to string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func flagValue(args []string, name string) string {
	for i, a := range args[:len(args)-1] {
		if a == name {
			return args[i+1]
		}
	}
	return ""
}

// playListener tells everyone who connects the host's name.
func playListener(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		name, err := os.Hostname()
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(conn, "%s \n", name)
		if err := errors.Join(err, conn.Close()); err != nil {
			return err
		}
	}
}

func playHost(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return hosts.Run(ctx, hosts.HostConfig{
		Name: flagValue(args, "--name"),
		Link: os.NewFile(3, "link"),
		Keep: []string{flagValue(args, "--keep")},
		Agent: func() (supervise.Command, error) {
			return supervise.Command{Path: args[0], Args: []string{"agent", "--port", "5051"}, Env: os.Environ(), Output: os.Stdout}, nil
		},
	}, zap.NewExample())
}

type fakePool struct {
	Name, CIDR, Gateway, Network string
}

func (p fakePool) object(version int) map[string]any {
	return map[string]any{
		"apiVersion": "padis.io/v1alpha1", "kind": "IPPool",
		"metadata": map[string]any{"name": p.Name, "resourceVersion": strconv.Itoa(version)},
		"spec":     map[string]any{"cidr": p.CIDR, "gateway": p.Gateway, "network": p.Network},
	}
}

// fakeControlPlane serves Apps (none) and IPPools, which it keeps in a file. It remembers no past: who watches from an
// earlier version is sent back to list again.
type fakeControlPlane struct {
	file    string
	mu      sync.Mutex
	pools   map[string]fakePool
	version int
	changed chan struct{}
}

func playScheduler(args []string) error {
	flags := flag.NewFlagSet("scheduler", flag.ContinueOnError)
	dataDir := flags.String("data-dir", "", "")
	descriptor := flags.Int("listen-fd", 0, "")
	for _, other := range []string{"master", "executor-binary", "artifact-listen", "artifact-url", "outside", "git-file-roots"} {
		_ = flags.String(other, "", "")
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	listener, err := net.FileListener(os.NewFile(uintptr(*descriptor), "listener"))
	if err != nil {
		return err
	}
	kubeconfig := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","clusters":[{"name":"c","cluster":{"server":"http://%s"}}],
		"contexts":[{"name":"c","context":{"cluster":"c","user":""}}],"current-context":"c"}`, listener.Addr())
	if err := os.WriteFile(kubeconfigPath(*dataDir), []byte(kubeconfig), 0o600); err != nil {
		return err
	}
	s := &fakeControlPlane{file: filepath.Join(*dataDir, "pools.json"), pools: map[string]fakePool{}, version: 1, changed: make(chan struct{})}
	if b, err := os.ReadFile(s.file); err == nil {
		if err := json.Unmarshal(b, &s.pools); err != nil {
			return err
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /apis/padis.io/v1alpha1/apps", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, map[string]any{"apiVersion": "padis.io/v1alpha1", "kind": "AppList", "metadata": map[string]any{}, "items": []any{}})
	})
	mux.HandleFunc("GET /apis/padis.io/v1alpha1/networks", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, map[string]any{"apiVersion": "padis.io/v1alpha1", "kind": "NetworkList", "metadata": map[string]any{}, "items": []any{
			map[string]any{"apiVersion": "padis.io/v1alpha1", "kind": "Network", "metadata": map[string]any{"name": "tunnels"}, "spec": map[string]any{"driver": "vxlan"}},
		}})
	})
	mux.HandleFunc("GET /apis/padis.io/v1alpha1/ippools", s.get)
	mux.HandleFunc("POST /test/pools", s.set)
	server := &http.Server{Handler: mux}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() {
		<-stop
		_ = server.Close()
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func (s *fakeControlPlane) get(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	known, version, changed := s.pools, s.version, s.changed
	s.mu.Unlock()
	if r.URL.Query().Get("watch") == "" {
		items := []any{}
		for _, p := range known {
			items = append(items, p.object(version))
		}
		reply(w, map[string]any{"apiVersion": "padis.io/v1alpha1", "kind": "IPPoolList", "metadata": map[string]any{"resourceVersion": strconv.Itoa(version)}, "items": items})
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if r.URL.Query().Get("resourceVersion") != strconv.Itoa(version) {
		_ = json.NewEncoder(w).Encode(map[string]any{"type": "ERROR", "object": map[string]any{"kind": "Status", "apiVersion": "v1", "code": http.StatusGone}})
		return
	}
	for {
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		}
		s.mu.Lock()
		next := s.pools
		version, changed = s.version, s.changed
		s.mu.Unlock()
		for name, p := range known {
			if _, stays := next[name]; !stays {
				_ = json.NewEncoder(w).Encode(map[string]any{"type": "DELETED", "object": p.object(version)})
			}
		}
		for name, p := range next {
			if known[name] != p {
				_ = json.NewEncoder(w).Encode(map[string]any{"type": "MODIFIED", "object": p.object(version)})
			}
		}
		known = next
	}
}

func (s *fakeControlPlane) set(w http.ResponseWriter, r *http.Request) {
	var pools []fakePool
	if err := json.NewDecoder(r.Body).Decode(&pools); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pools = map[string]fakePool{}
	for _, p := range pools {
		s.pools[p.Name] = p
	}
	b, err := json.Marshal(s.pools)
	if err == nil {
		err = os.WriteFile(s.file, b, 0o600)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.version++
	close(s.changed)
	s.changed = make(chan struct{})
	reply(w, "ok")
}
