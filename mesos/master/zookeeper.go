package master

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
	"go.uber.org/zap"

	"padis.io/padis/mesos/wire"
)

// infoPrefix begins the names of the sequential nodes that masters make in their group, each holding a MasterInfo as
// JSON. The master with the lowest number leads.
const infoPrefix = "json.info_"

// zookeeper follows the group of the masters.
type zookeeper struct {
	conn *zk.Conn
	path string
	log  *zap.Logger
	stop context.CancelFunc
	done chan struct{}

	mu sync.Mutex
	// leader is host:port, empty while nobody leads. changed is closed and replaced when it changes.
	leader  string
	changed chan struct{}
}

func watchZookeeper(m masters, log *zap.Logger) (*zookeeper, error) {
	conn, events, err := zk.Connect(m.hosts, 10*time.Second, zk.WithLogger(zkLog{log}), zk.WithLogInfo(false))
	if err != nil {
		return nil, fmt.Errorf("ZooKeeper %s: %w", strings.Join(m.hosts, ","), err)
	}
	go func() {
		for range events { // closed by conn.Close
		}
	}()
	if m.user != nil {
		password, _ := m.user.Password()
		// Kept by the connection and repeated whenever it connects; the first time it waits for one.
		go func() {
			if err := conn.AddAuth("digest", []byte(m.user.Username()+":"+password)); err != nil {
				log.Warn("ZooKeeper did not take the credentials", zap.Error(err))
			}
		}()
	}
	ctx, stop := context.WithCancel(context.Background())
	z := &zookeeper{conn: conn, path: m.path, log: log, stop: stop, done: make(chan struct{}), changed: make(chan struct{})}
	go func() {
		defer close(z.done)
		z.follow(ctx)
	}()
	return z, nil
}

func (z *zookeeper) close() {
	z.stop()
	z.conn.Close()
	<-z.done
}

func (z *zookeeper) detect(ctx context.Context) ([]string, <-chan struct{}, error) {
	for {
		z.mu.Lock()
		leader, changed := z.leader, z.changed
		z.mu.Unlock()
		if leader != "" {
			return []string{leader}, changed, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}

func (z *zookeeper) lead(leader string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if leader == z.leader {
		return
	}
	z.log.Info("leading Mesos master according to ZooKeeper", zap.String("leader", leader), zap.String("before", z.leader))
	z.leader = leader
	close(z.changed)
	z.changed = make(chan struct{})
}

// follow keeps z.leader true. While ZooKeeper cannot be reached, the last leader stands: its stream, not ours with
// ZooKeeper, tells whether it lives.
func (z *zookeeper) follow(ctx context.Context) {
	for ctx.Err() == nil {
		leader, again, err := z.look()
		if err != nil {
			if ctx.Err() == nil {
				z.log.Debug("cannot read the masters' group in ZooKeeper", zap.String("path", z.path), zap.Error(err))
			}
			if sleep(ctx, 500*time.Millisecond) != nil {
				return
			}
			continue
		}
		z.lead(leader)
		select {
		case <-again:
		case <-ctx.Done():
		}
	}
}

// look gives the leader of the moment, empty if nobody leads, and a channel that fires when it is worth to look again.
func (z *zookeeper) look() (string, <-chan zk.Event, error) {
	names, _, again, err := z.conn.ChildrenW(z.path)
	if errors.Is(err, zk.ErrNoNode) { // no master has ever been here
		exists, _, again, err := z.conn.ExistsW(z.path)
		if err == nil && exists {
			err = errors.New("it was made this moment")
		}
		return "", again, err
	}
	if err != nil {
		return "", nil, err
	}
	node := lowest(names)
	if node == "" {
		return "", again, nil
	}
	data, _, err := z.conn.Get(z.path + "/" + node)
	if errors.Is(err, zk.ErrNoNode) { // gone since; the watch fires
		return "", again, nil
	}
	if err != nil {
		return "", nil, err
	}
	leader, err := parseMasterInfo(data)
	if err != nil {
		return "", nil, fmt.Errorf("node %s/%s: %w", z.path, node, err)
	}
	return leader, again, nil
}

// lowest picks the leader's node.
func lowest(names []string) string {
	best, node := uint64(0), ""
	for _, name := range names {
		digits, ok := strings.CutPrefix(name, infoPrefix)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 64)
		if err == nil && (node == "" || n < best) {
			best, node = n, name
		}
	}
	return node
}

// parseMasterInfo reads the address out of a MasterInfo in JSON.
func parseMasterInfo(data []byte) (string, error) {
	var info struct {
		Address struct {
			IP       string `json:"ip"`
			Hostname string `json:"hostname"`
			Port     int    `json:"port"`
		} `json:"address"`
		Hostname string `json:"hostname"`
		Port     int    `json:"port"`
		PID      string `json:"pid"`
	}
	if err := json.Unmarshal(data, &info); err != nil {
		return "", fmt.Errorf("not a MasterInfo: %w", err)
	}
	host, port := info.Address.IP, info.Address.Port
	if host == "" {
		host = info.Address.Hostname
	}
	if host == "" {
		host, port = info.Hostname, info.Port
	}
	if _, addr, ok := strings.Cut(info.PID, "@"); ok && host == "" { // master@10.0.0.1:5050
		h, p, err := net.SplitHostPort(addr)
		if err != nil {
			return "", fmt.Errorf("not a MasterInfo: pid %q has no port", info.PID)
		}
		host = h
		port, _ = strconv.Atoi(p)
	}
	if host == "" || port <= 0 || port > 65535 {
		return "", errors.New("not a MasterInfo: it has no address")
	}
	return wire.HostPort(host, port), nil
}

// zkLog hands the messages of the ZooKeeper client on.
type zkLog struct{ *zap.Logger }

func (l zkLog) Printf(format string, args ...any) {
	l.Debug("ZooKeeper client", zap.String("message", fmt.Sprintf(format, args...)))
}
