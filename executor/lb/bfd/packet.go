package bfd

import (
	"encoding/binary"
	"errors"
	"time"
)

// Packet is a control packet without authentication (RFC 5880, section 4.1). Times are whole microseconds below 2^32.
type Packet struct {
	State      State
	Diag       Diag
	Poll       bool
	Final      bool
	Multiplier uint8
	// Control plane independent: the sender's BFD goes on when its control plane restarts.
	Independent bool
	Demand      bool
	// Mine names the sender's session, Yours the receiver's; 0 if the sender does not know it.
	Mine, Yours uint32

	DesiredTx, RequiredRx, RequiredEchoRx time.Duration
}

// Size of a packet without authentication, in bytes.
const Size = 24

const version = 1

// The second byte, after the two bits of the state.
const (
	bitPoll = 1 << (5 - iota)
	bitFinal
	bitIndependent
	bitAuthentication
	bitDemand
	bitMultipoint
)

// Why Parse refuses a packet. Each is a reason to discard in RFC 5880, section 6.8.6.
var (
	ErrShort          = errors.New("the packet is shorter than it says, or than 24 bytes")
	ErrVersion        = errors.New("the packet is not of BFD version 1")
	ErrMultiplier     = errors.New("the packet has a detection multiplier of 0")
	ErrMultipoint     = errors.New("the packet is of a multipoint session")
	ErrDiscriminator  = errors.New("the packet names no session")
	ErrAuthentication = errors.New("the packet is authenticated; this side knows no keys: configure the router's BFD without authentication")
)

// Parse reads a UDP payload. Bytes after the packet are allowed, as the RFC has it.
func Parse(b []byte) (Packet, error) {
	if len(b) < Size || int(b[3]) < Size || int(b[3]) > len(b) {
		return Packet{}, ErrShort
	}
	p := Packet{
		State: State(b[1] >> 6), Diag: Diag(b[0] & 31), Multiplier: b[2],
		Poll: b[1]&bitPoll != 0, Final: b[1]&bitFinal != 0, Independent: b[1]&bitIndependent != 0, Demand: b[1]&bitDemand != 0,
		Mine: binary.BigEndian.Uint32(b[4:]), Yours: binary.BigEndian.Uint32(b[8:]),
		DesiredTx: micros(b[12:]), RequiredRx: micros(b[16:]), RequiredEchoRx: micros(b[20:]),
	}
	switch {
	case b[0]>>5 != version:
		return Packet{}, ErrVersion
	case p.Multiplier == 0:
		return Packet{}, ErrMultiplier
	case b[1]&bitMultipoint != 0:
		return Packet{}, ErrMultipoint
	case p.Mine == 0 || p.Yours == 0 && p.State > Down:
		return Packet{}, ErrDiscriminator
	case b[1]&bitAuthentication != 0:
		return Packet{}, ErrAuthentication
	}
	return p, nil
}

// Append writes the packet behind b: Size bytes.
func (p Packet) Append(b []byte) []byte {
	flags := byte(p.State) << 6
	for _, f := range [...]struct {
		is  bool
		bit byte
	}{{p.Poll, bitPoll}, {p.Final, bitFinal}, {p.Independent, bitIndependent}, {p.Demand, bitDemand}} {
		if f.is {
			flags |= f.bit
		}
	}
	b = append(b, version<<5|byte(p.Diag)&31, flags, p.Multiplier, Size)
	b = binary.BigEndian.AppendUint32(b, p.Mine)
	b = binary.BigEndian.AppendUint32(b, p.Yours)
	b = binary.BigEndian.AppendUint32(b, uint32(p.DesiredTx.Microseconds()))
	b = binary.BigEndian.AppendUint32(b, uint32(p.RequiredRx.Microseconds()))
	return binary.BigEndian.AppendUint32(b, uint32(p.RequiredEchoRx.Microseconds()))
}

func micros(b []byte) time.Duration {
	return time.Duration(binary.BigEndian.Uint32(b)) * time.Microsecond
}
