package master

import "context"

// detector finds the leading master.
type detector interface {
	// detect gives addresses (host:port) to try in this order, as soon as there is one. changed is closed when they
	// are out of date; nil if that is never known.
	detect(ctx context.Context) (hosts []string, changed <-chan struct{}, err error)
	close()
}

func (c *Client) detector() (detector, error) {
	if c.masters.scheme == "zk" {
		return watchZookeeper(c.masters, c.log)
	}
	return list(c.masters.hosts), nil
}

// url is the root of a master's HTTP endpoints.
func (m masters) url(host string) string {
	if m.scheme == "https" {
		return "https://" + host
	}
	return "http://" + host
}

// list is a fixed list of masters: each knows the leader and redirects to it.
type list []string

func (l list) detect(context.Context) ([]string, <-chan struct{}, error) { return l, nil, nil }
func (l list) close()                                                    {}
