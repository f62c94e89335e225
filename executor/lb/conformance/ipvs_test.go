package conformance

import (
	"padis.io/padis/executor/lb"
	"padis.io/padis/executor/lb/ipvs"
	"padis.io/padis/executor/network/kernel"
)

var ipvsSubjects = []*subject{{
	name:    "ipvs",
	modules: []string{"ip_vs", "ip_vs_mh", "ip_vs_rr", "ip_vs_wrr", "ip_vs_wlc", "nf_tables"},
	open: func(*machine) (lb.Dataplane, error) {
		locals, err := kernel.OpenLocals("eth0")
		if err != nil {
			return nil, err
		}
		return ipvs.New(ipvs.Options{Interface: "eth0", Locals: locals})
	},
	lacks: map[string]string{
		"sources":                               "the lab's kernel has nf_tables for bridges only; executor/lb/ipvs tries it with the machine's",
		"another director while servers change": "its tables have no history: who got a connection before a change is known to the director only that the connection came by",
	},
}}
