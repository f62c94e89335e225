package harness

import (
	"context"
	"fmt"
	"strings"

	"padis.io/padis/api/runtime"
)

const fence = "--padis-fetch--"

// Fetch gets http://ADDRESS:PORT/PATH of every instance from the client's network and returns the bodies by instance
// name. One that does not answer with 200 is an error.
func (c *Cluster) Fetch(ctx context.Context, is []runtime.Instance, port int, path string) (map[string]string, error) {
	if len(is) == 0 {
		return map[string]string{}, nil
	}
	args := []string{"curl", "-sS", "--fail", "--max-time", "5", "--noproxy", "*", "-w", "\n" + fence + "\n"}
	for _, i := range is {
		if len(i.Status.Addresses) == 0 {
			return nil, fmt.Errorf("instance %s has no address", i.Name)
		}
		args = append(args, fmt.Sprintf("http://%s:%d%s", i.Status.Addresses[0], port, path))
	}
	out, err := c.On(ctx, "client", args...)
	if err != nil {
		return nil, err
	}
	parts := strings.Split(out, fence+"\n")
	if len(parts) != len(is)+1 {
		return nil, fmt.Errorf("%d answers from %d instances:\n%s", len(parts)-1, len(is), out)
	}
	bodies := map[string]string{}
	for n, i := range is {
		bodies[i.Name] = parts[n]
	}
	return bodies, nil
}

// FetchAll is Fetch, and checks that each instance answers with its own name.
func (c *Cluster) FetchAll(ctx context.Context, is []runtime.Instance, port int, path string) error {
	bodies, err := c.Fetch(ctx, is, port, path)
	if err != nil {
		return err
	}
	for name, body := range bodies {
		if !strings.Contains(body, name) {
			return fmt.Errorf("the address of %s is answered by another: %q", name, body)
		}
	}
	return nil
}
