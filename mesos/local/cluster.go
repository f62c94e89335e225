// Package local runs an embedded, protocol-compatible Mesos master and agents in this process, for tests and for one
// machine. Edge: talks to loopback listeners.
package local

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"

	"padis.io/padis/mesos/local/agent"
	"padis.io/padis/mesos/local/master"
)

// Config describes a cluster.
type Config struct {
	// Dir keeps everything: DIR/master, DIR/agent0, DIR/agent1 ... Required.
	Dir string
	// Agents to start; their Listener, Master, WorkDir and Log are filled in, the rest may be set. Hostname defaults
	// to agent0, agent1 ... Use make([]agent.Config, 3) for three plain ones.
	Agents []agent.Config
	// Master settings; Listener, DataDir and Log are filled in.
	Master master.Config
	// Listen opens listeners; TCP on 127.0.0.1 if nil. address is empty for a new one, or that of an earlier listener.
	Listen func(address string) (net.Listener, error)
	// Log is where the cluster logs; nowhere if nil.
	Log *zap.Logger
}

// Cluster is a running master with its agents. The methods may be called from any goroutine.
type Cluster struct {
	cfg Config

	mu     sync.Mutex
	master *member
	agents []*member
}

// member is one server that can be killed and started again at the same address.
type member struct {
	address string
	cancel  context.CancelFunc
	done    chan struct{}
	err     error
	agent   *agent.Agent
}

// Start brings a cluster up. It returns as soon as the servers listen; agents register within milliseconds.
func Start(cfg Config) (*Cluster, error) {
	if cfg.Dir == "" {
		return nil, errors.New("local: Dir is required")
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	if cfg.Listen == nil {
		cfg.Listen = func(address string) (net.Listener, error) {
			if address == "" {
				address = "127.0.0.1:0"
			}
			return net.Listen("tcp", address)
		}
	}
	c := &Cluster{cfg: cfg, agents: make([]*member, len(cfg.Agents))}
	if err := c.RestartMaster(); err != nil {
		return nil, err
	}
	for i := range cfg.Agents {
		if err := c.RestartAgent(i); err != nil {
			c.Stop()
			return nil, err
		}
	}
	return c, nil
}

// MasterURL is the URL of the master, the same after a restart.
func (c *Cluster) MasterURL() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return "http://" + c.master.address
}

// AgentURL is the URL of agent i, the same after a restart.
func (c *Cluster) AgentURL(i int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return "http://" + c.agents[i].address
}

// WorkDir is the work directory of agent i.
func (c *Cluster) WorkDir(i int) string { return filepath.Join(c.cfg.Dir, fmt.Sprintf("agent%d", i)) }

// KillMaster stops the master without a word to anybody. It returns when it has gone.
func (c *Cluster) KillMaster() {
	c.mu.Lock()
	m := c.master
	c.mu.Unlock()
	m.kill()
}

// RestartMaster starts the master at its old address, with its registry; a running one is killed first.
func (c *Cluster) RestartMaster() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	address := ""
	if c.master != nil {
		c.master.kill()
		address = c.master.address
	}
	listener, err := c.listen(address)
	if err != nil {
		return err
	}
	cfg := c.cfg.Master
	cfg.Listener, cfg.DataDir, cfg.Log = listener, filepath.Join(c.cfg.Dir, "master"), c.cfg.Log.Named("master")
	m, err := master.New(cfg)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	c.master = run(listener.Addr().String(), m.Run)
	return nil
}

// KillAgent stops agent i without a word to anybody; its executors live on. It returns when it has gone.
func (c *Cluster) KillAgent(i int) {
	c.mu.Lock()
	m := c.agents[i]
	c.mu.Unlock()
	m.kill()
}

// RestartAgent starts agent i at its old address on its old work directory; a running one is killed first.
func (c *Cluster) RestartAgent(i int) error {
	return c.RestartAgentWith(i, nil)
}

// RestartAgentWith is RestartAgent with a changed configuration, for example another BootID.
func (c *Cluster) RestartAgentWith(i int, change func(*agent.Config)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	address := ""
	if c.agents[i] != nil {
		c.agents[i].kill()
		address = c.agents[i].address
	}
	listener, err := c.listen(address)
	if err != nil {
		return err
	}
	cfg := c.cfg.Agents[i]
	cfg.Listener, cfg.Master, cfg.WorkDir = listener, "http://"+c.master.address, c.WorkDir(i)
	cfg.Log = c.cfg.Log.Named(fmt.Sprintf("agent%d", i))
	if cfg.Hostname == "" {
		cfg.Hostname = fmt.Sprintf("agent%d", i)
	}
	if change != nil {
		change(&cfg)
	}
	a, err := agent.New(cfg)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	c.agents[i] = run(listener.Addr().String(), a.Run)
	c.agents[i].agent = a
	return nil
}

// LeaveAgent shuts agent i down in order, as SIGUSR1 does: its executors end, it unregisters.
func (c *Cluster) LeaveAgent(i int) error {
	c.mu.Lock()
	m := c.agents[i]
	c.mu.Unlock()
	m.agent.Leave()
	<-m.done
	return m.err
}

// WaitAgent waits until agent i has ended by itself and returns why.
func (c *Cluster) WaitAgent(i int) error {
	c.mu.Lock()
	m := c.agents[i]
	c.mu.Unlock()
	<-m.done
	return m.err
}

// Stop ends all servers. Executors are shut down first if a framework's TEARDOWN did that; otherwise they live on.
func (c *Cluster) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.agents {
		if m != nil {
			m.kill()
		}
	}
	if c.master != nil {
		c.master.kill()
	}
}

// Shutdown ends all agents in order, with all their executors, then the master.
func (c *Cluster) Shutdown() {
	for i := range c.agents {
		c.mu.Lock()
		m := c.agents[i]
		c.mu.Unlock()
		if m != nil && !m.ended() {
			_ = c.LeaveAgent(i)
		}
	}
	c.Stop()
}

func (m *member) ended() bool {
	select {
	case <-m.done:
		return true
	default:
		return false
	}
}

func run(address string, serve func(context.Context) error) *member {
	ctx, cancel := context.WithCancel(context.Background())
	m := &member{address: address, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(m.done)
		m.err = serve(ctx)
	}()
	return m
}

func (m *member) kill() {
	m.cancel()
	<-m.done
}

// listen retries for a moment: a port just given up may still be taken by a connection being torn down.
func (c *Cluster) listen(address string) (net.Listener, error) {
	for attempt := 0; ; attempt++ {
		l, err := c.cfg.Listen(address)
		if err == nil || attempt == 50 {
			return l, err
		}
		time.Sleep(20 * time.Millisecond)
	}
}
