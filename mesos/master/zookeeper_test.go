package master

import (
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"go.uber.org/zap"

	"padis.io/padis/mesos"
)

const zookeeperJar = "/usr/share/java/zookeeper.jar" // Debian's package zookeeper

// ensemble is a real ZooKeeper server of this test.
type ensemble struct {
	t    *testing.T
	dir  string
	port int
	cmd  *exec.Cmd
}

func newEnsemble(t *testing.T) *ensemble {
	if _, err := os.Stat(zookeeperJar); err != nil {
		t.Skip("no ZooKeeper here (Debian package zookeeper): ", err)
	}
	if _, err := exec.LookPath("java"); err != nil {
		t.Skip("ZooKeeper needs java: ", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &ensemble{t: t, dir: t.TempDir(), port: l.Addr().(*net.TCPAddr).Port}
	l.Close()
	e.start()
	t.Cleanup(e.stop)
	return e
}

func (e *ensemble) start() {
	conf := filepath.Join(e.dir, "zoo.cfg")
	text := fmt.Sprintf("tickTime=500\ndataDir=%s\nclientPort=%d\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n", e.dir, e.port)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		e.t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(e.dir, "log"))
	if err != nil {
		e.t.Fatal(err)
	}
	defer log.Close()
	e.cmd = exec.Command("java", "-Xmx64m", "-XX:TieredStopAtLevel=1", "-cp", zookeeperJar, "org.apache.zookeeper.server.ZooKeeperServerMain", conf)
	e.cmd.Stdout, e.cmd.Stderr = log, log
	if err := e.cmd.Start(); err != nil {
		e.t.Fatal(err)
	}
}

func (e *ensemble) stop() {
	if e.cmd == nil {
		return
	}
	e.cmd.Process.Kill()
	e.cmd.Wait()
	e.cmd = nil
}

func (e *ensemble) addr() string { return fmt.Sprintf("127.0.0.1:%d", e.port) }

// session is a connection of a master's own; it ends with the test.
func (e *ensemble) session() *zk.Conn {
	conn, events, err := zk.Connect([]string{e.addr()}, 5*time.Second, zk.WithLogger(zkLog{zap.NewNop()}))
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(conn.Close)
	deadline := time.After(time.Minute)
	for {
		select {
		case ev := <-events:
			if ev.State == zk.StateHasSession {
				return conn
			}
		case <-deadline:
			log, _ := os.ReadFile(filepath.Join(e.dir, "log"))
			e.t.Fatalf("no session with ZooKeeper within a minute; it says:\n%s", log)
		}
	}
}

// contend makes the node of a master that stands for election.
func contend(t *testing.T, conn *zk.Conn, path, addr string, acl []zk.ACL) string {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	info := fmt.Sprintf(`{"address":{"hostname":"localhost","ip":%q,"port":%s},"hostname":"localhost","id":"x","ip":16777343,"pid":"master@%s","port":%s,"version":"1.11.0"}`,
		host, port, addr, port)
	node, err := conn.Create(path+"/"+infoPrefix, []byte(info), zk.FlagEphemeralSequential, acl)
	if err != nil {
		t.Fatal(err)
	}
	return node
}

// within gets the next event of a real client.
func within[E mesos.Event](t *testing.T, r *runner) E {
	t.Helper()
	var zero E
	select {
	case e := <-r.events:
		got, ok := e.(E)
		if !ok {
			t.Fatalf("got %T %+v, want %T", e, e, zero)
		}
		return got
	case <-time.After(time.Minute):
		t.Fatalf("no %T within a minute", zero)
		return zero
	}
}

func TestLeaderDetectionByZooKeeper(t *testing.T) {
	e := newEnsemble(t)
	doubles := map[string]*double{}
	master := func(name string) string {
		d := newDouble(t, name)
		s := httptest.NewServer(d)
		t.Cleanup(s.CloseClientConnections)
		t.Cleanup(s.Close)
		doubles[name] = d
		return s.Listener.Addr().String()
	}
	a, b := master("a"), master("b")

	cfg := Config{
		Masters: "zk://" + e.addr() + "/cell/mesos", Framework: Framework{Name: "padis"}, Logger: zap.NewNop(),
		Rand: func() float64 { return 0 },
	}
	r := start(t, cfg, "")
	defer r.stop(t)

	// Nobody leads: the group does not even exist.
	conn := e.session()
	acl := zk.WorldACL(zk.PermAll)
	for _, path := range []string{"/cell", "/cell/mesos"} {
		if _, err := conn.Create(path, nil, 0, acl); err != nil {
			t.Fatal(err)
		}
	}
	// What else lies in the group is not a master: the log of the replicated registry, for one.
	if _, err := conn.Create("/cell/mesos/log_replicas", nil, 0, acl); err != nil {
		t.Fatal(err)
	}
	sessionA := e.session()
	contend(t, sessionA, "/cell/mesos", a, acl)
	within[mesos.Subscribed](t, r)
	if got := doubles["a"].seen(); got != "SUBSCRIBE" {
		t.Fatal(got)
	}

	// A second one waits. When the first loses its session, we leave it although it still talks to us.
	contend(t, e.session(), "/cell/mesos", b, acl)
	sessionA.Close()
	if got := within[mesos.Disconnected](t, r); !errors.Is(got.Err, errLeaderChanged) {
		t.Fatal(got.Err)
	}
	within[mesos.Subscribed](t, r)
	if got := doubles["b"].call(0); got.GetFrameworkID().GetValue() != "fw-1" {
		t.Fatalf("%+v", got)
	}

	// Without ZooKeeper there is no news of leaders, but the one we have still serves.
	e.stop()
	if err := r.Send(t.Context(), mesos.Revive{}); err != nil {
		t.Fatal(err)
	}
	// When it is back with another leader, we hear of it.
	e.start()
	again := e.session()
	names, _, err := again.Children("/cell/mesos")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if strings.HasPrefix(n, infoPrefix) {
			if err := again.Delete("/cell/mesos/"+n, -1); err != nil && !errors.Is(err, zk.ErrNoNode) {
				t.Fatal(err)
			}
		}
	}
	contend(t, again, "/cell/mesos", a, acl)
	within[mesos.Disconnected](t, r)
	within[mesos.Subscribed](t, r)
	if got := doubles["a"].seen(); got != "SUBSCRIBE SUBSCRIBE" {
		t.Fatal(got)
	}
}

func TestZooKeeperCredentials(t *testing.T) {
	e := newEnsemble(t)
	d := newDouble(t, "m")
	s := httptest.NewServer(d)
	t.Cleanup(s.Close)
	t.Cleanup(s.CloseClientConnections)
	conn := e.session()
	if err := conn.AddAuth("digest", []byte("mesos:s3:cret@x")); err != nil {
		t.Fatal(err)
	}
	acl := zk.DigestACL(zk.PermAll, "mesos", "s3:cret@x")
	if _, err := conn.Create("/mesos", nil, 0, acl); err != nil {
		t.Fatal(err)
	}
	contend(t, conn, "/mesos", s.Listener.Addr().String(), acl)
	cfg := Config{
		Masters: "zk://mesos:s3:cret@x@" + e.addr() + "/mesos", Framework: Framework{Name: "padis"}, Logger: zap.NewNop(),
		Rand: func() float64 { return 0 },
	}
	r := start(t, cfg, "")
	within[mesos.Subscribed](t, r)
	r.stop(t)
}
