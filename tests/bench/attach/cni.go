package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
)

// plugins is the way of CNI: programs, run with variables and the network's configuration on standard input (CNI
// specification 0.4.0), as container runtimes do.
type plugins struct {
	dir    string
	config []byte
}

func newPlugins(dir, files string) plugins {
	config, err := json.Marshal(map[string]any{
		"cniVersion": "0.4.0", "name": "bench", "type": "bridge", "bridge": "cni0", "mtu": 1500,
		"ipam": map[string]any{"type": "host-local", "dataDir": filepath.Join(files, "cni"), "ranges": [][]map[string]string{{{"subnet": "10.45.0.0/16"}}}},
	})
	if err != nil {
		panic(err)
	}
	return plugins{dir, config}
}

func (p plugins) run(command string, ns, number int) ([]byte, error) {
	cmd := exec.Command(filepath.Join(p.dir, "bridge"))
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+command, fmt.Sprintf("CNI_CONTAINERID=instance-%d", number),
		fmt.Sprintf("CNI_NETNS=/proc/%d/fd/%d", os.Getpid(), ns), "CNI_IFNAME=eth0", "CNI_PATH="+p.dir)
	cmd.Stdin = bytes.NewReader(p.config)
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("CNI %s: %w: %s", command, err, out)
	}
	return out, err
}

func (p plugins) attach(ns, number int) (netip.Addr, error) {
	out, err := p.run("ADD", ns, number)
	if err != nil {
		return netip.Addr{}, err
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
	_, err := p.run("DEL", ns, number)
	return err
}
