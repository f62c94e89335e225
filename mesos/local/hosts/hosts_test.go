package hosts

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"pgregory.net/rapid"
)

func TestTree(t *testing.T) {
	for _, user := range []struct {
		name string
		uid  uint32
	}{{"root", 0}, {"without root", 65534}} {
		t.Run(user.name, func(t *testing.T) {
			t.Parallel()
			before := interfaces(t)
			tr := startTree(t, user.uid)
			one, two := tr.hosts["host-1"], tr.hosts["host-2"]

			if got := tr.ask(tr.network(one), "10.99.0.12"); !strings.HasPrefix(got, "host-2 ") {
				t.Errorf("host-1 asked host-2 over the switch and heard %q", got)
			}
			if got := tr.ask(tr.network(two), "10.99.0.11"); !strings.HasPrefix(got, "host-1 ") {
				t.Errorf("host-2 asked host-1 over the switch and heard %q", got)
			}
			client := fmt.Sprintf("/proc/%d/fd/%d", tr.middle, tr.client)
			if got := tr.ask(client, "10.99.0.11"); !strings.HasPrefix(got, "host-1 ") {
				t.Errorf("the client asked host-1 through the gateway and heard %q", got)
			}
			assertLinks(t, one, 1)
			if shared, err := SharesUserNamespace(one); err != nil || shared != (user.uid == 0) {
				t.Errorf("shares the user namespace: %v, %v", shared, err)
			}

			if err := tr.stdin.Close(); err != nil {
				t.Fatal(err)
			}
			if err := tr.launcher.Wait(); err != nil {
				t.Errorf("the tree ended with %v", err)
			}
			tr.waitGone()
			if after := interfaces(t); !slices.Equal(before, after) {
				t.Errorf("interfaces were %v and are %v", before, after)
			}
		})
	}
}

func TestKillAgentLeavesTheRest(t *testing.T) {
	t.Parallel()
	tr := startTree(t, 0)
	host := tr.hosts["host-1"]
	first := tr.ask(tr.network(host), "10.99.0.11")
	survivors := marked(tr.marker, host)
	agent := agentOf(t, host, first)
	if err := syscall.Kill(agent, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "new agent", func() error {
		if again := tr.ask(tr.network(host), "10.99.0.11"); again == first {
			return fmt.Errorf("the old agent answers")
		}
		return nil
	})
	left := marked(tr.marker, host)
	for _, pid := range survivors {
		if pid != agent && !slices.Contains(left, pid) {
			t.Errorf("process %d of the host ended with the agent", pid)
		}
	}
}

func TestKillHostEndsAllOnItAndItReturns(t *testing.T) {
	t.Parallel()
	tr := startTree(t, 0)
	host := tr.hosts["host-1"]
	tr.ask(tr.network(tr.hosts["host-2"]), "10.99.0.11")
	victims := marked(tr.marker, host)
	if len(victims) < 3 {
		t.Fatalf("the host runs %v; it should run itself, the agent and what the agent started", victims)
	}
	if err := syscall.Kill(host, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of all on the host", func() error {
		left := marked(tr.marker, 0)
		for _, pid := range victims {
			if slices.Contains(left, pid) {
				return fmt.Errorf("process %d lives", pid)
			}
		}
		return nil
	})
	n := tr.next()
	if n.Name != "host-1" {
		t.Fatalf("expected host-1 to return, got %+v", n)
	}
	tr.hosts["host-1"] = tr.outside(n.Pid)
	if got := tr.ask(tr.network(tr.hosts["host-2"]), "10.99.0.11"); !strings.HasPrefix(got, "host-1 ") {
		t.Errorf("after its return host-1 says %q", got)
	}
	assertLinks(t, tr.hosts["host-1"], 1)
}

func TestKillLauncherLeavesNothing(t *testing.T) {
	for _, uid := range []uint32{0, 65534} {
		t.Run(strconv.Itoa(int(uid)), func(t *testing.T) {
			t.Parallel()
			before := interfaces(t)
			tr := startTree(t, uid)
			tr.ask(tr.network(tr.hosts["host-1"]), "10.99.0.12")
			if err := tr.launcher.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			tr.waitGone()
			if after := interfaces(t); !slices.Equal(before, after) {
				t.Errorf("interfaces were %v and are %v", before, after)
			}
			mounts, err := os.ReadFile("/proc/self/mounts")
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(mounts), " /mnt tmpfs") {
				t.Error("a mount of a host is seen outside")
			}
		})
	}
}

func TestSetGateways(t *testing.T) {
	t.Parallel()
	needRoot(t)
	ns, err := newNamespace()
	if err != nil {
		t.Fatal(err)
	}
	fabric, err := openIn(ns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fabric.Close)
	prefixes := func(list ...string) (out []netip.Prefix) {
		for _, p := range list {
			out = append(out, netip.MustParsePrefix(p))
		}
		return out
	}
	for _, step := range []struct {
		want, have []netip.Prefix
		err        string
	}{
		{want: prefixes("10.1.0.1/24", "10.2.0.1/16"), have: prefixes("10.1.0.1/24", "10.2.0.1/16")},
		{want: prefixes("10.1.0.1/24", "10.2.0.1/16"), have: prefixes("10.1.0.1/24", "10.2.0.1/16")},
		// The first address of a subnet goes, the second one stays.
		{want: prefixes("10.1.0.1/24", "10.1.0.2/24"), have: prefixes("10.1.0.1/24", "10.1.0.2/24")},
		{want: prefixes("10.1.0.2/24"), have: prefixes("10.1.0.2/24")},
		{want: prefixes("10.1.0.2/25"), have: prefixes("10.1.0.2/25")},
		{want: prefixes("172.31.0.9/24", "10.3.0.1/24"), have: prefixes("10.3.0.1/24"), err: "overlaps 172.31.0.0/24"},
		{want: prefixes("10.3.0.1/24", "fd00:3::1/64", "fd00:3::2/64"), have: prefixes("10.3.0.1/24", "fd00:3::1/64", "fd00:3::2/64")},
		{want: prefixes("fd00:3::2/64", "fd31:0:0:1::9/64"), have: prefixes("fd00:3::2/64"), err: "overlaps fd31:0:0:1::/64"},
		{want: nil, have: nil},
	} {
		err := fabric.SetGateways(step.want)
		if (err == nil) != (step.err == "") || (err != nil && !strings.Contains(err.Error(), step.err)) {
			t.Errorf("SetGateways(%v): %v, want %q", step.want, err, step.err)
		}
		have, err := fabric.Gateways()
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(have, netip.Prefix.Compare)
		if !slices.Equal(have, step.have) {
			t.Errorf("SetGateways(%v) made %v, want %v", step.want, have, step.have)
		}
	}
}

// Whoever looks for the namespaces of a process looks at its main thread.
func TestMainThreadStays(t *testing.T) {
	t.Parallel()
	needRoot(t)
	const main, self = "/proc/self/ns/net", "/proc/thread-self/ns/net"
	before, err := os.Readlink(main)
	if err != nil {
		t.Fatal(err)
	}
	for range 200 {
		ns, err := newNamespace()
		if err != nil {
			t.Fatal(err)
		}
		err = inNamespace(ns, func() error {
			inside, err := os.Readlink(self)
			if err == nil && inside == before {
				err = fmt.Errorf("the function runs outside, in %s", inside)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := ns.Close(); err != nil {
			t.Fatal(err)
		}
		if after, err := os.Readlink(main); err != nil || after != before {
			t.Fatalf("the main thread was in %s and is in %s, %v", before, after, err)
		}
	}
}

func TestAttachTwice(t *testing.T) {
	t.Parallel()
	needRoot(t)
	middle, err := newNamespace()
	if err != nil {
		t.Fatal(err)
	}
	fabric, err := openIn(middle)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fabric.Close)
	spec, err := Host(7)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		ns, err := newNamespace()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ns.Close() })
		if err := fabric.attach(spec, ns); err != nil {
			t.Fatal(err)
		}
	}
}

// The gateways that result from the changes are those wanted, but for refused ones, and nothing is added twice.
func TestGatewayChanges(t *testing.T) {
	t.Parallel()
	prefix := rapid.Custom(func(t *rapid.T) netip.Prefix {
		addr := netip.AddrFrom4([4]byte{byte(rapid.SampledFrom([]int{10, 172}).Draw(t, "a")), 31, byte(rapid.IntRange(0, 2).Draw(t, "c")), 1})
		return netip.PrefixFrom(addr, rapid.IntRange(23, 25).Draw(t, "bits"))
	})
	rapid.Check(t, func(t *rapid.T) {
		have := rapid.SliceOfDistinct(prefix, func(p netip.Prefix) netip.Prefix { return p }).Draw(t, "have")
		want := rapid.SliceOf(prefix).Draw(t, "want")
		add, del, err := gatewayChanges(have, want)
		result := map[netip.Prefix]bool{}
		for _, p := range have {
			result[p] = true
		}
		for _, p := range add {
			if result[p] {
				t.Fatalf("%v is added though it is there", p)
			}
			result[p] = true
		}
		for _, p := range del {
			if !result[p] {
				t.Fatalf("%v is deleted though it is not there", p)
			}
			delete(result, p)
		}
		refused := false
		for _, p := range want {
			if checkGateway(p) != nil {
				refused = true
				continue
			}
			if !result[p] {
				t.Fatalf("%v is missing", p)
			}
			delete(result, p)
			for _, q := range want {
				if q == p {
					result[p] = true
				}
			}
		}
		if refused != (err != nil) {
			t.Fatalf("refused: %v, error: %v", refused, err)
		}
		for p := range result {
			if !slices.Contains(want, p) {
				t.Fatalf("%v stays though it is not wanted", p)
			}
		}
	})
}

func TestHost(t *testing.T) {
	t.Parallel()
	for _, index := range []int{0, -1, MaxHosts + 1} {
		if _, err := Host(index); err == nil {
			t.Errorf("Host(%d) is accepted", index)
		}
	}
	seen := map[netip.Prefix]bool{ManagementPrefix(): true}
	for i := 1; i <= MaxHosts; i++ {
		spec, err := Host(i)
		if err != nil {
			t.Fatal(err)
		}
		if p := spec.Address(); seen[p] || p.Masked() != ManagementPrefix().Masked() {
			t.Errorf("host %d has address %v", i, p)
		}
		seen[spec.Address()] = true
		if named, ok := Named(spec.Name); !ok || named != spec {
			t.Errorf("Named(%q) = %v, %v", spec.Name, named, ok)
		}
	}
}

func TestNamed(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "client", "host-", "host-0", "host-01", "host-201", "3", "host-x"} {
		if spec, ok := Named(name); ok {
			t.Errorf("Named(%q) = %v", name, spec)
		}
	}
}

func TestExpandAttributes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ template, want string }{
		{"rack:r{i};zone:z{i}", "rack:r3;zone:z3"},
		{"", ""},
		{"disk:ssd", "disk:ssd"},
	} {
		if got, err := ExpandAttributes(c.template, 3); err != nil || got != c.want {
			t.Errorf("ExpandAttributes(%q) = %q, %v; want %q", c.template, got, err, c.want)
		}
	}
	for _, bad := range []string{"rack", "rack:", ":r", "a:b;", "a b:c"} {
		if got, err := ExpandAttributes(bad, 1); err == nil {
			t.Errorf("ExpandAttributes(%q) = %q, want an error", bad, got)
		}
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces in the test process need root")
	}
}

// interfaces lists the names in the test's own network namespace.
func interfaces(t *testing.T) []string {
	t.Helper()
	list, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, i := range list {
		names = append(names, i.Name)
	}
	return names
}

// assertLinks checks what a host sees: the management address on eth0, none on eth1, and fixed hardware addresses.
func assertLinks(t *testing.T, host, index int) {
	t.Helper()
	ns, err := netns.GetFromPid(host)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	links, err := netlink.NewHandleAt(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer links.Close()
	spec, err := Host(index)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]struct {
		addresses []netip.Prefix
		mac       string
	}{
		ManagementLink: {[]netip.Prefix{spec.Address()}, hardwareAddress(macManagement, index).String()},
		DataLink:       {nil, hardwareAddress(macData, index).String()},
	} {
		link, err := links.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := addresses(links, link)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want.addresses) || link.Attrs().HardwareAddr.String() != want.mac {
			t.Errorf("%s has addresses %v and %v, want %v and %s", name, got, link.Attrs().HardwareAddr, want.addresses, want.mac)
		}
	}
}

// agentOf finds, among the children of host, the process whose answer ("NAME PID") gave its id on the host.
func agentOf(t *testing.T, host int, answer string) int {
	t.Helper()
	fields := strings.Fields(answer)
	paths, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		parent, _ := statusField(string(b), "PPid")
		pids, _ := statusField(string(b), "NSpid")
		all := strings.Fields(pids)
		if parent == strconv.Itoa(host) && len(all) > 0 && all[len(all)-1] == fields[1] {
			pid, err := strconv.Atoi(all[0])
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	t.Fatalf("no agent for %q", answer)
	return 0
}

// However often an agent is killed, it is back before the embedded master calls it unreachable.
func TestAgentsAreBackBeforeTheyAreMissed(t *testing.T) {
	t.Parallel()
	const missed = 3 * time.Second // the default of mesos/local/master
	for failures := range 20 {
		if _, delay := agentBackoff().Next(failures, 0); delay > missed/2 {
			t.Errorf("after %d failures an agent waits for %s", failures, delay)
		}
	}
}
