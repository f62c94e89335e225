package notify

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"padis.io/padis/api/v1alpha1"
)

// MaxTries is how often a message is sent before it is given up, after about 20 minutes.
const MaxTries = 12

// After a failure it is waited for firstWait, and each time twice as long, but not longer than longestWait.
const firstWait, longestWait = 2 * time.Second, 4 * time.Minute

// Wait is how long to wait after a number of failures in a row.
func Wait(failures int) time.Duration {
	d := firstWait
	for range failures - 1 {
		if d *= 2; d >= longestWait {
			return longestWait
		}
	}
	return d
}

// Body is a message as receivers get it. Slack, Mattermost and others show text; the rest is for programs.
func Body(namespace, name string, m v1alpha1.Message) ([]byte, error) {
	return json.Marshal(struct {
		Text    string `json:"text"`
		ID      string `json:"id"`
		Event   string `json:"event"`
		Sync    string `json:"sync"`
		Commit  string `json:"commit,omitempty"`
		Author  string `json:"author,omitempty"`
		Reason  string `json:"reason,omitempty"`
		Message string `json:"message,omitempty"`
		Time    string `json:"time"`
	}{text(namespace+"/"+name, m), m.ID, m.Event, namespace + "/" + name, m.Commit, m.Author, m.Reason, m.Message, m.Time.UTC().Format(time.RFC3339)})
}

// text is a message for people. What authors and field managers may call themselves must not make a chat call everybody, or
// show a link: what has a meaning for Slack and Mattermost is taken out of it.
func text(sync string, m v1alpha1.Message) string {
	out := fmt.Sprintf("%s: %s", sync, m.Event)
	if m.Message != "" {
		out += ": " + m.Message
	}
	if name, _, _ := strings.Cut(m.Author, " <"); name != "" {
		out += " (by " + name + ")"
	}
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "@", "@\u200b", "\n", " ", "\r", " ").Replace(out)
}

// nat64 is the prefix by which IPv6 hosts reach IPv4 ones (RFC 6052).
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// metadata are addresses, beside link-local ones, at which clouds tell their hosts secrets.
var metadata = []netip.Addr{netip.MustParseAddr("100.100.100.200"), netip.MustParseAddr("fd00:ec2::254")}

// Barred says why no message is sent to an address; empty if it may be. loopback allows those of this host.
func Barred(a netip.Addr, loopback bool) string {
	a = a.Unmap().WithZone("")
	if nat64.Contains(a) {
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	switch {
	case !a.IsValid():
		return "is no address"
	case a.IsLoopback() && loopback:
		return ""
	case a.IsLoopback(), a.IsUnspecified():
		return "is this host itself"
	case a.IsLinkLocalUnicast():
		return "is link-local, where clouds tell their hosts secrets"
	case a.IsMulticast():
		return "is multicast"
	}
	for _, m := range metadata {
		if a == m {
			return "is where a cloud tells its hosts secrets"
		}
	}
	return ""
}
