package project

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/balance"
)

// A trace tells where a flow goes only if directors place it by the table.
func TestATraceIsOfWhatDirectorsDo(t *testing.T) {
	w := &padisv1.WantedBalancer{Uid: "u", Namespace: "shop", Name: "web", Scheduler: "maglev", TableSize: 4093, MinServers: 1,
		Vips:      []*padisv1.VirtualAddress{{Pool: "vips"}},
		Listeners: []*padisv1.Listener{{Name: "http", Protocol: "tcp", FirstPort: 80, LastPort: 80}},
		Backends:  []*padisv1.Backend{{App: "web", Weight: 100}}}
	d := balance.Decide(balance.Snapshot{Now: time.Unix(1, 0), Wanted: w, VIPs: []string{"192.0.2.1"}, Candidates: []balance.Candidate{
		{ID: "shop.web-0.1", Namespace: "shop", Instance: "web-0", Agent: "a", Host: "host-1", Phase: padisv1.Phase_RUNNING, Ready: true, Address: "10.0.0.1", VIPs: []string{"192.0.2.1"}},
	}})
	client, vip := netip.MustParseAddrPort("203.0.113.7:40000"), netip.MustParseAddrPort("192.0.2.1:80")
	for dataplane, refusal := range map[string]string{"tcx": "", "xdp": "", "ipvs": "web-director-0 forwards by ipvs", "nft": "web-director-0 forwards by nft"} {
		v := balance.View{Wanted: w, Record: d.Record, Tables: d.Tables, Servers: d.Servers, Directors: []balance.Director{
			{Instance: "web-director-0", State: &padisv1.DirectorState{Dataplane: dataplane, Announced: []string{"192.0.2.1"}}}}}
		tr, err := Trace(v, client, vip, "tcp")
		if err != nil || len(tr.Chain) != 1 || tr.Chain[0].Instance != "web-0" || fmt.Sprint(tr.Directors) != "[web-director-0]" {
			t.Errorf("%s: %+v, %v", dataplane, tr, err)
		}
		if (tr.Refusal == "") != (refusal == "") || !strings.Contains(tr.Refusal, refusal) {
			t.Errorf("%s: %q", dataplane, tr.Refusal)
		}
	}
}
