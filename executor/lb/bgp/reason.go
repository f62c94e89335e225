package bgp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"

	"github.com/osrg/gobgp/v3/pkg/log"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
	"go.uber.org/zap"
)

// ear is GoBGP's logger. Why a session is not established is said nowhere else, so it listens, and it passes on what is
// worth a line.
type ear struct {
	log  *zap.Logger
	tell func(peer netip.Addr, why cause)
}

// Messages of GoBGP that say why.
const (
	logConnect = "failed to connect"
	logSent    = "sent notification"
	logState   = "state changed"
	logRefused = "received notification"
)

// cause is why a session ended or did not begin.
type cause struct {
	kind kind
	// What GoBGP says of it.
	err  error
	text string
	// State of the session when it ended.
	state string
}

type kind int

const (
	causeConnect kind = iota // err says why there is no connection
	causeOpen                // what the router says of itself is not what the State says: err
	causeEnd                 // text says how it ended
)

func (e ear) listen(msg string, fields log.Fields) {
	key, _ := fields["Key"].(string)
	peer, err := netip.ParseAddr(key)
	if err != nil {
		return
	}
	switch msg {
	case logConnect:
		if err, ok := fields["Error"].(error); ok {
			e.tell(peer, cause{kind: causeConnect, err: err})
		}
	case logSent:
		if err, ok := fields["Data"].(*bgp.MessageError); ok {
			e.tell(peer, cause{kind: causeOpen, err: err})
		}
	case logState:
		if fields["new"] == bgp.BGP_FSM_IDLE.String() {
			e.tell(peer, cause{kind: causeEnd, text: fmt.Sprint(fields["reason"]), state: fmt.Sprint(fields["old"])})
		}
	}
}

// explain turns a cause into a sentence with its remedy. Precise means that a vaguer one must not replace it: routers
// that refused an OPEN close the next connections without a word for a while.
func (c cause) explain(p Peer) (message string, precise bool) {
	target := netip.AddrPortFrom(p.Address, uint16(p.Port))
	switch c.kind {
	case causeConnect:
		return explainConnect(c.err, p, target), true
	case causeOpen:
		var m *bgp.MessageError
		if errors.As(c.err, &m) && m.TypeCode == bgp.BGP_ERROR_OPEN_MESSAGE_ERROR {
			switch m.SubTypeCode {
			case bgp.BGP_ERROR_SUB_BAD_PEER_AS:
				return fmt.Sprintf("wrong ASN: the router is not of AS %d (%s): correct the peer's asn", p.ASN, m.Message), true
			case bgp.BGP_ERROR_SUB_BAD_BGP_IDENTIFIER:
				return fmt.Sprintf("the router has the same router id as this host (%s): change one", m.Message), true
			}
		}
		return fmt.Sprintf("the router said what is no BGP: %v", c.err), true
	}
	opening := strings.HasSuffix(c.state, "OPENSENT") || strings.HasSuffix(c.state, "OPENCONFIRM")
	switch {
	case strings.HasPrefix(c.text, "invalid-msg") && opening:
		// GoBGP reads the router's NOTIFICATION here but does not say what is in it.
		return fmt.Sprintf("the router refused this host's OPEN. Usually wrong ASN: it expects another AS than %d of this host; "+
			"else the hold time %v or the router id does not suit it: its log says which", p.LocalASN, p.Hold), true
	case strings.HasPrefix(c.text, "read-failed") && opening:
		return "the router closes the connection without a word: it has no neighbour of this address, or waits after an error", false
	case strings.HasPrefix(c.text, "notification-received"):
		return "the router ended the session: " + strings.TrimPrefix(c.text, "notification-received "), true
	case strings.HasPrefix(c.text, "notification-sent"):
		return "this host ended the session: " + strings.TrimPrefix(c.text, "notification-sent "), false
	case strings.HasPrefix(c.text, "hold-timer-expired"):
		return fmt.Sprintf("the router was silent for longer than the hold time (at most %v)", p.Hold), false
	case strings.HasPrefix(c.text, "read-failed"), strings.HasPrefix(c.text, "write-failed"), strings.HasPrefix(c.text, "graceful-restart"):
		return "the connection to the router broke", false
	}
	return c.text, false
}

func explainConnect(err error, p Peer, target netip.AddrPort) string {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("%v refuses the connection: no BGP runs there, or on another port", target)
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return fmt.Sprintf("%v cannot be reached (%v): the router is down, or the host has no route to it", target, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Sprintf("%v cannot be reached from the local address declared (%v)", target, err)
	case errors.Is(err, syscall.ENOPROTOOPT) && p.Password != "":
		return "password: this kernel has no TCP MD5 (CONFIG_TCP_MD5SIG)"
	case errors.As(err, &timeout) && timeout.Timeout() && p.Password != "":
		return fmt.Sprintf("%v does not answer. Usually wrong password (TCP MD5): a router drops in silence what is signed with "+
			"another, or signed where it expects none; else a firewall", target)
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Sprintf("%v does not answer: a firewall drops it, or the router demands a password (TCP MD5) and none is declared", target)
	}
	return fmt.Sprintf("%v: %v", target, err)
}

func (e ear) fields(f log.Fields) []zap.Field {
	out := make([]zap.Field, 0, len(f))
	for k, v := range f {
		out = append(out, zap.String(k, fmt.Sprint(v)))
	}
	return out
}

func (e ear) Debug(msg string, f log.Fields) { e.listen(msg, f) }
func (e ear) Info(msg string, f log.Fields)  { e.listen(msg, f) }
func (e ear) Warn(msg string, f log.Fields) {
	e.listen(msg, f)
	if msg != logSent && msg != logRefused { // Sessions tells these, better
		e.log.Debug("bgp: "+msg, e.fields(f)...)
	}
}
func (e ear) Error(msg string, f log.Fields) { e.log.Warn("bgp: "+msg, e.fields(f)...) }

// Panic and Fatal are bugs of GoBGP. It cannot go on.
func (e ear) Panic(msg string, f log.Fields) { panic(fmt.Sprintf("gobgp: %s %v", msg, f)) }
func (e ear) Fatal(msg string, f log.Fields) { panic(fmt.Sprintf("gobgp: %s %v", msg, f)) }

func (ear) SetLevel(log.LogLevel) {}

// GetLevel is that of what says why a connection failed.
func (ear) GetLevel() log.LogLevel { return log.DebugLevel }
