package master

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// States of an agent in the registry.
const (
	stateAdmitted    = ""
	stateUnreachable = "unreachable"
	stateGone        = "gone"
)

// registry is what a master must know after a restart. Frameworks and tasks are not in it: they come back with the
// schedulers and the agents, as in Mesos.
type registry struct {
	Agents []admitted `json:"agents"`
}

// admitted is an agent that was once registered.
type admitted struct {
	ID       string    `json:"id"`
	Hostname string    `json:"hostname,omitempty"`
	State    string    `json:"state,omitempty"`
	Since    time.Time `json:"since,omitzero"`
	Info     []byte    `json:"info,omitempty"` // mesos.AgentInfo
}

func (c *core) registry() registry {
	var out registry
	for _, a := range c.agents {
		if _, gone := c.gone[a.id]; gone {
			continue
		}
		entry := admitted{ID: a.id, Hostname: a.info.Hostname, State: stateAdmitted}
		if b, err := a.info.Marshal(); err == nil {
			entry.Info = b
		}
		out.Agents = append(out.Agents, entry)
	}
	for _, m := range []map[string]admitted{c.recovered, c.unreachable, c.gone} {
		out.Agents = slices.AppendSeq(out.Agents, maps.Values(m))
	}
	slices.SortFunc(out.Agents, func(a, b admitted) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// registryFile is where a data directory keeps the registry.
func registryFile(dir string) string { return filepath.Join(dir, "registry.json") }

func loadRegistry(dir string) (registry, error) {
	var out registry
	b, err := os.ReadFile(registryFile(dir))
	if errors.Is(err, os.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return out, err
	}
	return decodeRegistry(b)
}

func decodeRegistry(b []byte) (registry, error) {
	var out registry
	if err := json.Unmarshal(b, &out); err != nil {
		return out, fmt.Errorf("registry: %w", err)
	}
	for _, a := range out.Agents {
		if a.ID == "" {
			return out, fmt.Errorf("registry: an agent without id")
		}
	}
	return out, nil
}

// saveRegistry replaces the file; a crash leaves the old one or the new one.
func saveRegistry(dir string, r registry) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	temporary := registryFile(dir) + ".new"
	f, err := os.OpenFile(temporary, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(temporary, registryFile(dir))
	}
	if err == nil {
		err = syncDir(dir)
	}
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func mustJSON(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // only plain structs of this package and wire come here
	}
	return b
}
