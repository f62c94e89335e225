package ovs

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// database is the part of Open vSwitch's that matters here.
type database struct{ bridges []bridge }

type bridge struct {
	name, datapath string
	ports          []switchPort
}

type switchPort struct {
	name  string
	tag   int
	owner string
	// number in flows; below 1 if the daemon has none for it.
	number int
}

func (d database) port(link string) (bridge, switchPort, bool) {
	for _, b := range d.bridges {
		for _, p := range b.ports {
			if p.name == link {
				return b, p, true
			}
		}
	}
	return bridge{}, switchPort{}, false
}

// read reads all of it in one transaction.
func (s *Switches) read() (database, error) {
	out, _, err := s.run(s.c.Vsctl, "", "--db="+s.c.Database, "--format=json",
		"--", "--columns=name,datapath_type,ports", "list", "Bridge",
		"--", "--columns=_uuid,name,tag,external_ids,interfaces", "list", "Port",
		"--", "--columns=_uuid,ofport", "list", "Interface")
	if err != nil {
		return database{}, err
	}
	d, err := parse(out)
	if err != nil {
		return database{}, fmt.Errorf("%s: %w", s.c.Vsctl, err)
	}
	return d, nil
}

// parse reads three tables in JSON, one after the other, with values as in RFC 7047, section 5.1. Ports are sorted by
// name, bridges too.
func parse(out string) (database, error) {
	dec := json.NewDecoder(strings.NewReader(out))
	var tables [3][][]json.RawMessage
	for i, columns := range []int{3, 5, 2} {
		var t struct{ Data [][]json.RawMessage }
		if err := dec.Decode(&t); err != nil {
			return database{}, fmt.Errorf("table %d: %w", i, err)
		}
		for _, row := range t.Data {
			if len(row) != columns {
				return database{}, fmt.Errorf("table %d: a row has %d columns, want %d", i, len(row), columns)
			}
		}
		tables[i] = t.Data
	}
	var errs []error
	get := func(raw json.RawMessage) []string {
		v, err := values(raw)
		if err != nil {
			errs = append(errs, err)
		}
		return v
	}
	numbers := map[string]int{}
	for _, row := range tables[2] {
		numbers[first(get(row[0]))] = number(first(get(row[1])))
	}
	ports := map[string]switchPort{}
	for _, row := range tables[1] {
		p := switchPort{name: first(get(row[1])), tag: number(first(get(row[2])))}
		for ids := get(row[3]); len(ids) > 1; ids = ids[2:] {
			if ids[0] == ownerKey {
				p.owner = ids[1]
			}
		}
		// A bond has several; none of ours is one.
		p.number = numbers[first(get(row[4]))]
		ports[first(get(row[0]))] = p
	}
	var d database
	for _, row := range tables[0] {
		b := bridge{name: first(get(row[0])), datapath: first(get(row[1]))}
		for _, id := range get(row[2]) {
			if p, ok := ports[id]; ok {
				b.ports = append(b.ports, p)
			}
		}
		slices.SortFunc(b.ports, func(a, b switchPort) int { return strings.Compare(a.name, b.name) })
		d.bridges = append(d.bridges, b)
	}
	slices.SortFunc(d.bridges, func(a, b bridge) int { return strings.Compare(a.name, b.name) })
	return d, errors.Join(errs...)
}

// values flattens a value: an atom is itself, of a set its atoms, of a map keys and values in turn.
func values(raw json.RawMessage) ([]string, error) {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return []string{s}, nil
	}
	var n json.Number
	if json.Unmarshal(raw, &n) == nil {
		return []string{n.String()}, nil
	}
	var pair []json.RawMessage
	if err := json.Unmarshal(raw, &pair); err != nil || len(pair) != 2 {
		return nil, fmt.Errorf("%s is no value of a column", raw)
	}
	var kind string
	if err := json.Unmarshal(pair[0], &kind); err != nil {
		return nil, fmt.Errorf("%s is no value of a column", raw)
	}
	if kind == "uuid" {
		return values(pair[1])
	}
	var members []json.RawMessage
	if err := json.Unmarshal(pair[1], &members); err != nil {
		return nil, fmt.Errorf("%s is no value of a column", raw)
	}
	var out []string
	for _, m := range members {
		if kind == "map" {
			var kv [2]string
			if err := json.Unmarshal(m, &kv); err != nil {
				return nil, fmt.Errorf("%s is no map of texts", raw)
			}
			out = append(out, kv[0], kv[1])
			continue
		}
		v, err := values(m)
		if err != nil {
			return nil, err
		}
		out = append(out, v...)
	}
	return out, nil
}

func first(v []string) string {
	if len(v) == 0 {
		return ""
	}
	return v[0]
}

// number of what may be empty.
func number(s string) int {
	var n int
	if _, err := fmt.Sscan(s, &n); err != nil {
		return 0
	}
	return n
}
