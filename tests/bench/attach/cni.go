package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// plugins is the way of CNI: programs, run with variables and the network's configuration on standard input (CNI
// specification 0.4.0), as container runtimes do.
type plugins struct {
	dir string
	// calls are the plugins that are run for an instance, in order; the last one gives the address.
	calls []call
}

type call struct {
	plugin, link string
	config       []byte
}

// newPlugins is bridge, which runs host-local. With all it does what Padis does besides: the loopback comes up, by the plugin
// that runtimes run first, and what the instance sends is checked, though for its hardware address only.
func newPlugins(dir, files, bridge, subnet string, all bool) plugins {
	p := plugins{dir: dir}
	config := func(more map[string]any) []byte {
		more["cniVersion"], more["name"] = "0.4.0", "bench-"+bridge
		b, err := json.Marshal(more)
		if err != nil {
			panic(err)
		}
		return b
	}
	if all {
		p.calls = append(p.calls, call{"loopback", "lo", config(map[string]any{"type": "loopback"})})
	}
	p.calls = append(p.calls, call{"bridge", "eth0", config(map[string]any{
		"type": "bridge", "bridge": bridge, "mtu": 1500, "macspoofchk": all,
		"ipam": map[string]any{"type": "host-local", "dataDir": filepath.Join(files, "cni"), "ranges": [][]map[string]string{{{"subnet": subnet}}}},
	})})
	return p
}

func (p plugins) run(command string, c call, ns, number int) ([]byte, error) {
	cmd := exec.Command(filepath.Join(p.dir, c.plugin))
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+command, fmt.Sprintf("CNI_CONTAINERID=instance-%d", number),
		fmt.Sprintf("CNI_NETNS=/proc/%d/fd/%d", os.Getpid(), ns), "CNI_IFNAME="+c.link, "CNI_PATH="+p.dir)
	cmd.Stdin = bytes.NewReader(c.config)
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("CNI %s of %s: %w: %s", command, c.plugin, err, out)
	}
	return out, err
}

func (p plugins) attach(ns, number int) (netip.Addr, error) {
	var out []byte
	for _, c := range p.calls {
		var err error
		if out, err = p.run("ADD", c, ns, number); err != nil {
			return netip.Addr{}, err
		}
	}
	var result struct {
		IPs []struct{ Address netip.Prefix }
	}
	if err := json.Unmarshal(out, &result); err != nil || len(result.IPs) != 1 {
		return netip.Addr{}, fmt.Errorf("CNI ADD: %w: %s", err, out)
	}
	return result.IPs[0].Address.Addr(), nil
}

func (p plugins) detach(ns, number int) error {
	for _, c := range slices.Backward(p.calls) {
		if _, err := p.run("DEL", c, ns, number); err != nil {
			return err
		}
	}
	return nil
}
