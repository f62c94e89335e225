package server

import (
	"errors"
	"strings"
	"testing"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/server/live"
)

// fakeBalances has a LoadBalancer in each of two namespaces. Nobody knows the way of UDP.
type fakeBalances struct{}

func (fakeBalances) Balances(namespace string) ([]*runtime.Balance, error) {
	var out []*runtime.Balance
	for _, ns := range []string{"lb-b", "lb-a"} {
		if namespace == "" || namespace == ns {
			out = append(out, &runtime.Balance{
				UID: "uid-" + ns, Namespace: ns, Name: "shop", Number: 7,
				VIPs:    []runtime.BalanceVIP{{Pool: "vips", Address: "192.0.2.1", Announcing: []string{"shop-director-0"}}, {Pool: "vips", Reason: "PoolExhausted"}},
				Servers: []runtime.BalanceServer{{Instance: "web-0", State: "serving"}, {Instance: "web-1", State: "draining"}},
				Directors: []runtime.BalanceDirector{
					{Instance: "shop-director-0", Number: 7, Sessions: []runtime.DirectorSession{{Peer: "tor", Established: true}, {Peer: "tor2"}}},
					{Instance: "shop-director-1", Number: 6},
				},
				Hosts: []runtime.BalanceHost{{Host: "host-1", Number: 7}},
			})
		}
	}
	return out, nil
}

func (fakeBalances) Trace(uid string, f live.Flow) (runtime.Trace, error) {
	if f.Protocol == "udp" {
		return runtime.Trace{}, errors.New("no way for udp")
	}
	return runtime.Trace{Listener: uid + " " + f.Client.String() + " " + f.VIP.String(), Slot: 3, Table: 4093}, nil
}

func TestBalancesAreAskedFor(t *testing.T) {
	out := kc(t, "", "get", "balances", "-A", "-o", "wide")
	var lines []string
	for line := range strings.Lines(out) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	want := []string{
		"NAMESPACE NAME VIPS SERVERS DIRECTORS SESSIONS NUMBER HOSTS ADDRESSES",
		"lb-a shop 1/2 1/2 1/2 1/2 7 1/1 192.0.2.1,<none>",
		"lb-b shop 1/2 1/2 1/2 1/2 7 1/1 192.0.2.1,<none>",
	}
	if strings.Join(lines, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s", out)
	}
	if got := kc(t, "", "get", "balance", "shop", "-n", "lb-a", "-o", "jsonpath={.kind} {.metadata.uid} {.status.directors[1].number} {.status.servers[1].state}"); got != "Balance uid-lb-a 6 draining" {
		t.Errorf("one is %q", got)
	}
	refused(t, "", []string{"not found"}, "get", "balance", "nobody", "-n", "lb-a")
	refused(t, "", []string{"cannot be selected"}, "get", "balances", "-A", "-l", "a=b")
	refused(t, "", []string{"balances only show what is: change the LoadBalancer"}, "delete", "balance", "shop", "-n", "lb-a")
}

func TestTraceOfFlows(t *testing.T) {
	path := func(name, query string) string {
		return "/apis/runtime.padis.io/v1alpha1/namespaces/lb-a/balances/" + name + "/trace" + query
	}
	got := kc(t, "", "get", "--raw", path("shop", "?client=198.51.100.7:40000&vip=192.0.2.1:80"))
	for _, want := range []string{`"kind":"Trace"`, `"listener":"uid-lb-a 198.51.100.7:40000 192.0.2.1:80"`, `"table":4093`} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is missing in %s", want, got)
		}
	}
	for query, want := range map[string]string{
		"":                                       "client is missing",
		"?client=198.51.100.7:1":                 "vip is missing",
		"?client=198.51.100.7":                   "use ADDRESS:PORT",
		"?client=198.51.100.7:1&vip=192.0.2.1:0": "port 0 is no listener's",
		"?client=[2001:db8::1]:1&vip=192.0.2.1:1": "different families",
		"?protocol=sctp": "use tcp or udp",
		"?port=1":        "unknown parameter",
		"?client=198.51.100.7:1&vip=192.0.2.1:1&protocol=udp": "no way for udp",
	} {
		refused(t, "", []string{want}, "get", "--raw", path("shop", query))
	}
	refused(t, "", []string{"not found"}, "get", "--raw", path("nobody", "?client=198.51.100.7:1&vip=192.0.2.1:1"))
}
