package core

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// A clone holds what the core holds, gives the same addresses next, and what becomes of one does not touch the other.
func TestClonesDecideAlike(t *testing.T) {
	b := newBench(t, testConfig())
	pool := &padisv1.NetworkWish{Pool: "pool"}
	b.mesos(mesos.Subscribed{FrameworkID: "F"})
	b.step(Declare{testCluster()}, Want{testApp("web", 4, "r1", pool)})
	b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("o1", "a1", 8000, 8000)}})
	b.step(Want{testApp("old", 3, "r1", pool)})
	b.step(Forget{"old-uid-of-it"}) // Its addresses were given and are free again.

	s := b.core.Snapshot()
	s.Sort()
	c, err := Clone(s)
	if err != nil {
		t.Fatal(err)
	}
	twin := c.Snapshot()
	twin.Sort()
	if got, want := fmt.Sprint(twin.Records), fmt.Sprint(s.Records); got != want {
		t.Errorf("the clone holds\n%s\ninstead of\n%s", got, want)
	}
	if got, want := fmt.Sprint(twin.Rotations), fmt.Sprint(s.Rotations); got != want {
		t.Errorf("the clone goes on with %s instead of %s", got, want)
	}
	kept := make([]proto.Message, len(s.Records.Instances))
	for i, r := range s.Records.Instances {
		kept[i] = proto.Clone(r)
	}
	more := Want{testApp("more", 2, "r1", pool)}
	c.Step(b.now, FromMesos{mesos.Subscribed{FrameworkID: "F"}}, more)
	b.step(more)
	for i := range int32(2) {
		key := c.Instances("more-uid-of-it")[i].GetAddresses()
		if own := b.core.Instances("more-uid-of-it")[i].GetAddresses(); len(own) != 1 || fmt.Sprint(key) != fmt.Sprint(own) {
			t.Errorf("more-%d gets %v, and %v in the clone", i, own, key)
		}
	}
	c.Step(b.now, Forget{"web-uid-of-it"})
	for i, r := range s.Records.Instances {
		if !proto.Equal(kept[i], r) {
			t.Errorf("the clone changed a record that it shares: %v", r)
		}
	}
}
