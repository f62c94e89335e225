package conformance

import (
	"padis.io/padis/executor/lb"
	"padis.io/padis/executor/lb/nft"
)

const jenkins = "nf_tables keeps nothing of a connection, so it cannot count"

var nftSubjects = []*subject{{
	name:   "nft",
	open:   func(d *machine) (lb.Dataplane, error) { return nft.New(nft.Options{Interface: "eth0"}) },
	relays: relays,
	lacks: map[string]string{
		"methods": jenkins, "connection limit": jenkins,
		"marks":     "its director's own packets do not pass it: routes lead checks",
		"fragments": "later fragments have no ports, and nf_tables remembers none of the first ones",
	},
}}
