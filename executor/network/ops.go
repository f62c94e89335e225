package network

import (
	"fmt"
	"net/netip"
	"time"
)

// Op is one operation. String prints it as the command that a network engineer would type; INSTANCE stands for the
// instance's network namespace.
type Op interface {
	fmt.Stringer
	op()
}

// AddBridge makes a Linux bridge without spanning tree and with multicast snooping as the kernel has it, up at once.
type AddBridge struct {
	Name string
	MAC  MAC
	MTU  int
}

// AddVLAN makes the parent's sub-interface of a tag, up at once.
type AddVLAN struct {
	Name, Parent string
	Tag, MTU     int
}

// AddVXLAN makes a tunnel without learning, up at once. Parent may be empty.
type AddVXLAN struct {
	Name, Parent   string
	VNI, Port, MTU int
	Local          netip.Addr
	MAC            MAC
}

// SetPort sets what a port of a Linux bridge does.
type SetPort struct {
	Link  string
	Flags PortFlags
}

// AddForward and DelForward change a vxlan's forwarding table.
type AddForward struct {
	Link    string
	Forward Forward
}
type DelForward struct {
	Link    string
	Forward Forward
}

// AddNeighbour and DelNeighbour change the permanent neighbours of a link of the host.
type AddNeighbour struct {
	Link      string
	Neighbour Neighbour
}
type DelNeighbour struct {
	Link      string
	Neighbour Neighbour
}

// MoveAddresses makes the parent a port of the bridge, which exists, and takes its addresses and its routes over, at
// once; if Gateway is valid and does not answer on the bridge within a second though it did before, all is put back and
// the operation fails.
type MoveAddresses struct {
	Parent, Bridge string
	Addresses      []netip.Prefix
	// Routes have the parent as Link.
	Routes  []Route
	Gateway netip.Addr
}

// SetMaster makes a link of the host a port of a Linux bridge.
type SetMaster struct{ Link, Bridge string }

// SetUp brings a link up, SetDown silences it; Inside tells on which side.
type SetUp struct {
	Link   string
	Inside bool
}
type SetDown struct {
	Link   string
	Inside bool
}

// DelLink removes a link of the host, or of the instance.
type DelLink struct {
	Link   string
	Inside bool
}

// AddVeth makes a pair: the host end up, as a port of the Linux bridge if Bridge is set and the driver is not ovs, the
// other end in place in the instance's namespace.
type AddVeth struct{ Interface Interface }

// AddRelay makes a relay pair, which is not up: Out answers no ARP, and nothing that the bridge floods leaves by Port.
type AddRelay struct {
	Out, Port, Bridge string
	MTU               int
	MAC               MAC
}

// WholeChecksums makes the instance compute the checksums of what it sends on a link. Between two ends of one host the
// kernel leaves them to hardware that there is not, and a switch in user space passes such packets on as they are.
type WholeChecksums struct{ Link string }

// AddMACVLAN makes a child of the parent (mode bridge) in place in the instance's namespace.
type AddMACVLAN struct{ Interface Interface }

// Set writes a sysctl.
type Set struct {
	Setting Setting
	Inside  bool
}

// AddAddress configures an address, or renews how long it is valid; 0 is for ever. IPv6 without duplicate address
// detection: who must be asked was asked before, and hosts share the addresses of gateways.
type AddAddress struct {
	Link    string
	Address netip.Prefix
	Valid   time.Duration
	Inside  bool
}

// DelAddress takes an address away.
type DelAddress struct {
	Link    string
	Address netip.Prefix
	Inside  bool
}

// AddRoute adds or replaces a route, DelRoute removes one.
type AddRoute struct {
	Route  Route
	Inside bool
}
type DelRoute struct {
	Route  Route
	Inside bool
}

// SetRate shapes what leaves by a link with a token bucket (Burst deep), in bits per second; 0 removes it.
type SetRate struct {
	Link   string
	Rate   int64
	Inside bool
}

// AddSwitch makes an Open vSwitch.
type AddSwitch struct{ Name, Datapath string }

// AddSwitchPort makes a link of the host a port of an Open vSwitch, or corrects its tag; DelSwitchPort takes it out.
type AddSwitchPort struct {
	Switch string
	Port   SwitchPort
}
type DelSwitchPort struct{ Switch, Port string }

// Guard lets only this from a port; Unguard forgets the port.
type Guard struct{ Port GuardedPort }
type Unguard struct{ Link string }

// KeepApart forbids the host to route between the bridge's network and others with host gateways, but those of Peers.
type KeepApart struct {
	Bridge string
	Peers  []string
}
