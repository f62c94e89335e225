package network

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// ownSettings are what each interface gets: an ARP announcement when it comes up, and no address that was not leased
// (IPv6 would configure itself from the segment's router advertisements). Who has the address already was asked
// before, so that the kernel need not. What only a file can set comes first: the rest is one request with what follows.
func ownSettings(i Interface) []Setting {
	v4, v6 := "ipv4/conf/"+i.Inside+"/", "ipv6/conf/"+i.Inside+"/"
	out := []Setting{{v6 + "disable_ipv6", "1"}}
	if i.has6() {
		out = []Setting{{v6 + "accept_ra", "0"}, {v6 + "autoconf", "0"}, {v6 + "accept_dad", "0"}, {v6 + "ndisc_notify", "1"}, {v6 + "disable_ipv6", "0"}}
	}
	return append(out, Setting{v4 + "arp_notify", "1"})
}

// reserved are the last elements of keys below conf/ that only we set, on whatever interface.
func reserved(key string) bool {
	p := strings.Split(key, "/")
	if len(p) != 4 || p[1] != "conf" {
		return false
	}
	v6 := []string{"accept_ra", "autoconf", "accept_dad", "ndisc_notify", "disable_ipv6"}
	return p[0] == "ipv4" && slices.Contains([]string{"arp_notify", "arp_ignore", "arp_announce"}, p[3]) || p[0] == "ipv6" && slices.Contains(v6, p[3])
}

// wantSettings adds our settings and those of the networks.
func (w *Wanted) wantSettings(attachments []*padisv1.Attachment) error {
	for i := range w.Interfaces {
		w.Interfaces[i].Settings = ownSettings(w.Interfaces[i])
	}
	if slices.ContainsFunc(w.Loopback, func(a netip.Addr) bool { return a.Is4() }) {
		w.Settings = append(w.Settings, Setting{"ipv4/conf/all/arp_ignore", "1"}, Setting{"ipv4/conf/all/arp_announce", "2"})
	}
	by := map[string]Setting{}
	for _, a := range attachments {
		for _, s := range a.GetNetwork().GetSysctls() {
			set, err := parseSysctl(s)
			if err != nil {
				return fmt.Errorf("network %s: %w", a.GetNetwork().GetName(), err)
			}
			if had, ok := by[set.Key]; ok {
				if had != set {
					return fmt.Errorf("network %s sets %s to %q and another network of the instance to %q; agree on one in Network.spec.sysctls", a.GetNetwork().GetName(), s.GetName(), set.Value, had.Value)
				}
				continue
			}
			by[set.Key] = set
			if err := w.place(set); err != nil {
				return fmt.Errorf("network %s: %w", a.GetNetwork().GetName(), err)
			}
		}
	}
	return nil
}

// place adds a setting to the interface that its key names, or to the namespace.
func (w *Wanted) place(s Setting) error {
	p := strings.Split(s.Key, "/")
	if len(p) != 4 || p[1] != "conf" && p[1] != "neigh" || p[2] == "all" || p[2] == "default" || p[2] == "lo" {
		w.Settings = append(w.Settings, s)
		return nil
	}
	for i := range w.Interfaces {
		if w.Interfaces[i].Inside == p[2] {
			w.Interfaces[i].Settings = append(w.Interfaces[i].Settings, s)
			return nil
		}
	}
	return fmt.Errorf("sysctl net.%s names interface %s, which the instance does not have; it has eth0 to eth%d", strings.Join(p, "."), p[2], len(w.Interfaces)-1)
}

func parseSysctl(s *padisv1.Sysctl) (Setting, error) {
	rest, ok := strings.CutPrefix(s.GetName(), "net.")
	valid := ok && !strings.ContainsFunc(rest, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("._-", r)
	}) && !slices.Contains(strings.Split(rest, "."), "")
	if !valid {
		return Setting{}, fmt.Errorf("sysctl %q is not a name below net. (net.core.somaxconn); correct Network.spec.sysctls", s.GetName())
	}
	if strings.ContainsAny(s.GetValue(), "\n\r\x00") || strings.TrimSpace(s.GetValue()) == "" {
		return Setting{}, fmt.Errorf("sysctl %s has the value %q, which is not one line; correct Network.spec.sysctls", s.GetName(), s.GetValue())
	}
	set := Setting{strings.ReplaceAll(rest, ".", "/"), strings.Join(strings.Fields(s.GetValue()), " ")}
	if reserved(set.Key) {
		return Setting{}, fmt.Errorf("sysctl %s is set by Padis itself; remove it from Network.spec.sysctls", s.GetName())
	}
	return set, nil
}

// has6 tells whether the interface has an IPv6 address.
func (i Interface) has6() bool {
	return slices.ContainsFunc(i.Addresses, func(p netip.Prefix) bool { return p.Addr().Is6() })
}

// equalValues compares values of sysctls, which the kernel prints with tabs.
func equalValues(a, b string) bool { return slices.Equal(strings.Fields(a), strings.Fields(b)) }

// settingOf tells whether a key names the link: "ipv4/conf/eth0/arp_notify".
func settingOf(key, link string) bool {
	p := strings.Split(key, "/")
	return len(p) == 4 && p[2] == link
}
