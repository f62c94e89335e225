package lb

// stampPrefix begins the source addresses that directors and relays write: locally administered, and no prefix that interfaces
// of Padis have (02:42 and 06).
const stampPrefix = 0x0e

const (
	// fromDirector is the mark of a director: the whole chain is still to come.
	fromDirector = 15
	// disagreed is the mark of a packet that was relayed by somebody with another generation than its sender's.
	disagreed = 0
)

// mark is what a stamped source address tells the next relay.
type mark struct {
	// left is the number of servers in the chain behind the one that the packet was sent to, fromDirector if it may have any.
	// Counted from the end, because changes insert servers at the chain's beginning.
	left uint8
	// generation is 1 + the number modulo 15 of the generation whose chain is being asked, or disagreed.
	generation uint8
}

func generationMark(number uint64) uint8 { return 1 + uint8(number%15) }

// stamp is the source address 0e:LG:xx:xx:xx:xx: the mark (L left, G generation), and four bytes of the sender's own address,
// so that bridges learn each where it is. Bridges see at most 15 addresses of a director: its L is always 15.
func (m mark) stamp(own MAC) MAC {
	return MAC{stampPrefix, m.left<<4 | m.generation, own[2], own[3], own[4], own[5]}
}

// markOf reads a source address. Who does not stamp (IPVS) counts as a director of another generation: what it places by is not
// known here, so the server that it has chosen may be behind the one that has the flow.
func markOf(src MAC) mark {
	if src[0] != stampPrefix {
		return mark{fromDirector, disagreed}
	}
	return mark{src[1] >> 4, src[1] & 15}
}

// Unplaced is the source address that a director writes whose slots are not those of this package: whoever gets the packet asks
// the whole chain of its own generation. Relays need not be told of a generation 0, because it differs from any.
func Unplaced(own MAC) MAC { return mark{fromDirector, disagreed}.stamp(own) }
