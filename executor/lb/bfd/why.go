package bfd

// Why a session is not up, and what to look at. The router is the other side.
const (
	WhySilent    = "nothing is heard from the router on UDP port 3784: is it there, and is BFD configured on it for this host?"
	WhyDied      = "nothing is heard from the router any more: it, or the way to it, is dead"
	WhyDeaf      = "the router is heard, but it does not hear this host: look for what filters UDP port 3784 on the way to it"
	WhyAdmin     = "it is switched off on this host"
	WhyTheirs    = "BFD is administratively down on the router: enable it there"
	WhyNeighbour = "the router ended the session; it begins anew"
	WhyLost      = "the router heard nothing from this host any more, and ended the session; it begins anew"
)

// Why says why the session is not up; empty if it is. It is one of the constants.
func (s Session) Why() string {
	switch {
	case s.state == Up:
		return ""
	case s.state == AdminDown:
		return WhyAdmin
	case s.heard.IsZero() && s.diag == DiagSilence:
		return WhyDied
	case s.heard.IsZero():
		return WhySilent
	case s.remote.state == AdminDown:
		return WhyTheirs
	case s.state == Init:
		return WhyDeaf
	case s.remote.diag == DiagSilence:
		return WhyLost
	case s.diag == DiagNeighbour:
		return WhyNeighbour
	}
	return WhyDeaf
}
