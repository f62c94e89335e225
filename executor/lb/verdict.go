package lb

import "fmt"

// Action is what happens to a frame.
type Action uint8

// Pass leaves the frame to the stack (director) or to the instance (relay). Forward writes both Ethernet addresses and sends
// it out of the interface that it came in by (director) or by the bridge (relay).
const (
	Pass Action = iota
	Forward
	Drop
)

func (a Action) String() string { return [...]string{"pass", "forward", "drop", "?"}[a&3] }

// Reason says why a verdict is what it is. Counters are kept by it; the numbers are shared with the C programs.
type Reason uint8

// Reasons of Parse, of directors and of relays.
const (
	Placed          Reason = iota // forward: to the owner of its slot
	NotForUs                      // pass: the destination MAC is another's, or a group's
	NotIP                         // pass: neither IPv4 nor IPv6, or tagged, or shorter than an Ethernet header
	Malformed                     // pass: shorter than it says, or headers that contradict each other
	Other                         // pass: no TCP, UDP or ICMP error that a flow can be read from
	NoService                     // pass: nobody listens on this address, protocol and port
	FragmentUnknown               // pass: a later fragment whose first one has not been seen
	NotAllowed                    // drop: the client is in none of the service's allowed prefixes
	NoServer                      // drop: the service has no real server
	NewFlow                       // relay, pass: SYN without ACK, to a server of the chain
	Datagram                      // relay, pass: UDP, or an ICMP error about it
	Held                          // relay, pass: the instance has the flow's socket
	LastInChain                   // relay, pass: nobody has it; the instance answers as a server without load balancer would
	Relayed                       // relay, forward: to the next former owner
	Disagreed                     // relay, drop: nobody has it, but hosts of different generations were asked; the client repeats it
)

func (r Reason) String() string {
	return [...]string{"placed", "not for us", "not IP", "malformed", "other", "no service", "fragment unknown", "not allowed", "no server",
		"new flow", "datagram", "held", "last in chain", "relayed", "disagreed", "?"}[min(r, 15)]
}

// Verdict is what a director or a relay does with a frame.
type Verdict struct {
	Action Action
	Reason Reason
	// DstMAC and SrcMAC are written into the frame if Action is Forward. Nothing else in a frame is changed, ever.
	DstMAC, SrcMAC MAC
	// Learn is set by first fragments of a service's packets: remember Fragment by FragmentKey until later ones are through
	// (a small map that forgets the oldest).
	Learn       bool
	FragmentKey FragmentKey
	Fragment    Fragment
}

func (v Verdict) String() string {
	if v.Action == Forward {
		return fmt.Sprintf("forward to %s as %s (%s)", v.DstMAC, v.SrcMAC, v.Reason)
	}
	return fmt.Sprintf("%s (%s)", v.Action, v.Reason)
}
