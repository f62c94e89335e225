package e2e

import (
	"fmt"
	"strings"
	"testing"

	"padis.io/padis/tests/registry"
)

// Who may configure what he likes inside his instance is heard with his own addresses only, unless his network says otherwise.
func TestNetworkSpoofing(t *testing.T) {
	s := newNetSpace(t)
	r := images(t, ctx(t), s.space, registry.Options{})
	_, err := r.PushBusybox("page:1", version("one"))
	must(t, err)
	s.must(s.tenant("privileges: {capabilities: [NET_ADMIN]}"))
	for i, k := range []struct {
		app   string
		loose bool
	}{{"strict", false}, {"loose", true}} {
		s.must(s.net("-"+k.app, fmt.Sprintf("driver: vxlan, vni: %d, allowSpoofing: %t", 20_000+2*s.n+i, k.loose)),
			s.pool("-"+k.app+"4", s.name+"-"+k.app, fmt.Sprintf("cidr: 10.%d.%d.0/24", 76+i, s.n)),
			s.pool("-"+k.app+"6", s.name+"-"+k.app, fmt.Sprintf("cidr: 'fd00:%d:%d::/64'", 76+i, s.n)),
			s.privileged(r.Ref("page:1"), k.app, "-"+k.app+"4", "-"+k.app+"6"))
	}
	for i, k := range []struct {
		app   string
		loose bool
	}{{"strict", false}, {"loose", true}} {
		is := s.ready(k.app, 2)
		for f, foreign := range []string{fmt.Sprintf("10.%d.%d.99/24", 76+i, s.n), fmt.Sprintf("fd00:%d:%d::99/64", 76+i, s.n)} {
			to := is[1].Status.Addresses[f]
			ping := func(source string) error {

				_, err := s.in(is[0].Name, "ping", "-I", source, "-c", "1", "-W", "2", to)
				return err
			}
			if err := ping(is[0].Status.Addresses[f]); err != nil {
				t.Errorf("%s does not reach %s with its own address: %v", is[0].Name, to, err)
			}
			_, err := s.in(is[0].Name, "ip", "addr", "add", foreign, "dev", "eth0")
			must(t, err)
			address := foreign[:len(foreign)-len("/24")]
			if k.loose {
				until(t, ctx(t), is[0].Name+" is heard with "+address, func() (bool, string) {
					err := ping(address)
					return err == nil, fmt.Sprint(err)
				})
				continue
			}
			if ping(address) == nil {
				t.Errorf("%s is heard with %s, which is not its own", is[0].Name, address)
			}
			// Nor is it found there.
			if out, err := s.in(is[1].Name, "ping", "-c", "1", "-W", "2", address); err == nil {
				t.Errorf("%s is found at %s:\n%s", is[0].Name, address, out)
			}
		}
	}
}

// privileged are two containers on two hosts that may configure their own networks.
func (s *netSpace) privileged(image, name string, pools ...string) string {
	m := s.container(image, name, 2, spread, pools...)
	return strings.Replace(m, "    resources:", "    security: {capabilities: {add: [NET_ADMIN]}}\n    resources:", 1)
}
