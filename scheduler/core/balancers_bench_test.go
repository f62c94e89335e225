package core

import (
	"fmt"
	"testing"
	"time"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// fleet runs 1,000 instances on 50 agents.
func fleet(b *testing.B, vips int) *bench {
	x := newBench(b, testConfig())
	cluster := balancedCluster()
	cluster.Pools[0].Cidr, cluster.Pools[1].Cidr = "10.0.0.0/16", "192.0.0.0/20"
	x.step(Declare{cluster})
	if vips > 0 {
		w := testBalancer()
		w.Vips, w.TableSize = nil, 4093
		for range vips {
			w.Vips = append(w.Vips, &padisv1.VirtualAddress{Pool: "vips"})
		}
		began := time.Now()
		x.step(WantBalancer{w}, Want{testDirectors(2)})
		b.ReportMetric(float64(time.Since(began).Milliseconds()), "lease_ms")
	}
	x.mesos(mesos.Subscribed{FrameworkID: "F"})
	x.step(Want{testApp("web", 1000, "r1", &padisv1.NetworkWish{Pool: "pool"})})
	var offers []mesos.Offer
	for i := range 50 {
		offers = append(offers, testOffer(fmt.Sprintf("o%d", i), fmt.Sprintf("a%d", i), 20000, 64096))
	}
	x.mesos(mesos.Offers{Offers: offers})
	for i := range int32(1000) {
		r := x.rec("web", i)
		data, _ := padisv1.Encode(&padisv1.InstanceReport{Ready: true, Reason: padisv1.ReasonReady})
		x.mesos(mesos.Update{Status: mesos.Status{TaskID: r.GetTaskId(), AgentID: r.GetAgentId(), State: mesos.TaskRunning, Source: "SOURCE_EXECUTOR", UUID: []byte("u"), Data: data}})
	}
	return x
}

// What one word of an executor costs, without a LoadBalancer, and with one for all of 1,000 instances.
func BenchmarkWord(b *testing.B) {
	for _, vips := range []int{0, 1, 1000} {
		b.Run(fmt.Sprintf("vips=%d", vips), func(b *testing.B) {
			x := fleet(b, vips)
			for b.Loop() {
				x.word("a7", &padisv1.FromExecutor{Generation: 1})
			}
		})
	}
}
