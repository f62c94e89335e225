package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/protobuf/proto"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler"
	"padis.io/padis/scheduler/core"
	"padis.io/padis/scheduler/record"
)

const role = "padis"

// crash is what a dying scheduler panics with.
type crash struct{ where string }

// sched is the process of the scheduler: the production loop and its connection.
type sched struct {
	w    *World
	loop *scheduler.Loop
	// life counts processes; what belongs to an earlier one is ignored.
	life  int
	alive bool
	inbox []core.Event
	// turning: a turn is in the queue for this life.
	turning bool
	// wake is the timer that is set.
	wake time.Time
	conn *connection
	// die makes the process die at the nth boundary from now; 0 for never. For scripts.
	die int
	// where is the boundary at which a scripted death happens; empty for any.
	where string
}

// connection is one subscription.
type connection struct {
	life      int
	open      bool
	up, down  pipe
	confirmed bool
}

var errUnsent = errors.New("connection broken")

func newSched(w *World) *sched { return &sched{w: w} }

// config is the scheduler's configuration, with shorter times than in production, so that histories are short.
func (w *World) config() core.Config {
	return core.Config{
		Role: role, FrameworkName: "padis", Artifact: core.Artifact{URI: "http://padis/executor", SHA256: w.artifact()},
		ReconcileInterval: 90 * time.Second, AskMax: 15 * time.Second, UnknownReplaceAfter: 10 * time.Second, KillRetry: 3 * time.Second,
		LaunchTimeout: 10 * time.Second, LaunchGiveUp: 40 * time.Second, GhostPatience: 150 * time.Second, StartBound: 20 * time.Second,
	}
}

// start brings up a process from the ledger.
func (s *sched) start() {
	s.life++
	c, err := core.New(s.w.config(), s.w.store.snapshot())
	if err != nil {
		s.w.violate("the scheduler does not start from its own ledger: %v", err)
		return
	}
	s.loop = scheduler.New(scheduler.Config{Core: c, Ledger: s.w.store, Master: s, Log: s.log()})
	s.alive, s.inbox, s.turning, s.wake, s.conn = true, nil, false, time.Time{}, nil
	s.w.note("scheduler starts, life %d", s.life)
	s.take(core.Tick{})
	s.connect()
	s.w.user.returned()
}

// log is a log in which nothing must appear but that calls could not be sent, or the ledger not be written.
func (s *sched) log() *zap.Logger {
	return zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(zapcore.EncoderConfig{MessageKey: "m"}), zapcore.AddSync(finder{s.w}), zap.ErrorLevel))
}

// finder reads the log.
type finder struct{ w *World }

func (f finder) Write(line []byte) (int, error) {
	f.w.note("log: %s", line)
	if strings.Contains(string(line), "which is leased") {
		f.w.violate("the scheduler believes in a leak where there is none: %s", line)
	}
	return len(line), nil
}

// boundary is a point at which the process may die.
func (s *sched) boundary(where string) {
	if s.die > 0 && (s.where == "" || s.where == where) {
		s.die--
		if s.die == 0 {
			panic(crash{where})
		}
	}
	if s.w.chance(0.0006) {
		panic(crash{where})
	}
}

// stop is the end of the process, however it comes.
func (s *sched) stop(why string) {
	s.w.fault("scheduler dies %s", why)
	s.alive = false
	if s.conn != nil {
		s.hangUp(s.conn)
	}
	s.w.after(s.w.between(50*time.Millisecond, 3*time.Second), func() {
		if !s.alive {
			s.start()
		}
	})
}

// take hands an event to the process.
func (s *sched) take(ev core.Event) {
	if !s.alive {
		return
	}
	s.inbox = append(s.inbox, ev)
	s.turnAfter(s.w.between(0, time.Millisecond))
}

func (s *sched) turnAfter(d time.Duration) {
	if s.turning {
		return
	}
	s.turning = true
	life := s.life
	s.w.after(d, func() {
		if s.alive && s.life == life {
			s.turning = false
			s.turn()
		}
	})
}

// turn takes one turn of the loop, with all events that are there.
func (s *sched) turn() {
	defer func() {
		if r := recover(); r != nil {
			c, ok := r.(crash)
			if !ok {
				panic(fmt.Sprintf("seed %d at %s: %v", s.w.opt.Seed, s.w.now.Sub(epoch), r))
			}
			s.stop(c.where)
		}
	}()
	events := s.inbox
	s.inbox = nil
	if err := s.loop.Turn(context.Background(), s.w.now, events); err != nil {
		s.turnAfter(200 * time.Millisecond)
		return
	}
	if s.w.chance(0.03) {
		s.compare()
	}
	s.arm()
}

// compare checks that what the core has kept up by increments is what it would make of the ledger.
func (s *sched) compare() {
	live := s.loop.Core()
	anew, err := core.New(s.w.config(), s.w.store.snapshot())
	if err != nil {
		s.w.violate("the ledger cannot be loaded: %v", err)
		return
	}
	if a, b := fmt.Sprint(live.Slots(), live.Apps()), fmt.Sprint(anew.Slots(), anew.Apps()); a != b {
		s.w.violate("the core knows %s, the ledger %s", a, b)
		return
	}
	for _, uid := range live.Apps() {
		if !proto.Equal(live.App(uid), anew.App(uid)) {
			s.w.violate("app %s: the core wants %v, the ledger %v", uid, live.App(uid), anew.App(uid))
		}
	}
	for _, key := range live.Slots() {
		a, b := proto.Clone(live.Instance(key)).(*padisv1.InstanceRecord), anew.Instance(key)
		a.Reason, a.Message = b.GetReason(), b.GetMessage() // Why one is pending is found anew.
		if !proto.Equal(a, b) {
			s.w.violate("%s: the core has %v, the ledger %v", key, a, b)
		}
		held := func(c *core.Core) string {
			var ls []string
			for _, l := range c.SlotLeases(key) {
				ls = append(ls, record.LeaseKey(l.GetNetwork(), l.GetAddress()))
			}
			slices.Sort(ls)
			return strings.Join(ls, " ")
		}
		if x, y := held(live), held(anew); x != y {
			s.w.violate("%s: the core holds %s, the ledger %s", key, x, y)
		}
	}
	for _, v := range live.Agents() {
		if w, _ := anew.Agent(v.Record.GetAgentId()); v.Instances != w.Instances || v.Used != w.Used || v.Executor != w.Executor {
			s.w.violate("agent %s: the core counts %d instances, %+v, executor %q; the ledger %d, %+v, %q", v.Record.GetAgentId(), v.Instances, v.Used, v.Executor, w.Instances, w.Used, w.Executor)
		}
	}
}

// arm sets the timer for the loop's next turn.
func (s *sched) arm() {
	next := s.loop.Next()
	if next.IsZero() {
		return
	}
	if next.Before(s.w.now) {
		next = s.w.now
	}
	if !s.wake.IsZero() && !s.wake.Before(s.w.now) && !s.wake.After(next) {
		return
	}
	s.wake = next
	life := s.life
	s.w.after(next.Sub(s.w.now), func() {
		if s.alive && s.life == life && s.wake.Equal(next) {
			s.wake = time.Time{}
			s.take(core.Tick{})
		}
	})
}

// connect subscribes, again and again until a master answers.
func (s *sched) connect() {
	conn := &connection{life: s.life, open: true}
	s.conn = conn
	conn.up.send(s.w, func() {
		if !conn.open {
			return
		}
		if !s.w.mesos.subscribe(conn) {
			conn.open = false
			s.w.after(s.w.between(200*time.Millisecond, time.Second), func() {
				if s.alive && s.conn == conn {
					s.connect()
				}
			})
		}
	})
}

// hangUp ends a connection from either side.
func (s *sched) hangUp(conn *connection) {
	if !conn.open {
		return
	}
	conn.open = false
	s.w.mesos.lost(conn)
	if !s.alive || conn.life != s.life {
		return
	}
	s.take(core.FromMesos{Event: mesos.Disconnected{Err: errUnsent}})
	s.w.after(s.w.between(50*time.Millisecond, 2*time.Second), func() {
		if s.alive && s.conn == conn {
			s.connect()
		}
	})
}

// Send implements the loop's master.
func (s *sched) Send(_ context.Context, call mesos.Call) error {
	w := s.w
	s.boundary("before a send")
	conn := s.conn
	if conn == nil || !conn.open || !conn.confirmed {
		return errUnsent
	}
	w.note("  sched -> %s", describeCall(call))
	w.truth.sent(call)
	if w.over {
		return nil
	}
	fails := w.chance(0.004)
	if fails {
		w.fault("send fails")
		if w.rng.IntN(2) == 0 {
			w.truth.vanished(call)
			return errUnsent
		}
	}
	if w.chance(0.004) && !isDecline(call) {
		w.fault("call lost")
		w.truth.vanished(call)
		if c, ok := call.(mesos.Accept); ok {
			w.mesos.mislaid(c.OfferIDs...)
		}
	} else {
		conn.up.send(w, func() {
			if conn.open {
				w.mesos.call(conn, call)
			} else {
				w.truth.vanished(call)
			}
		})
	}
	s.boundary("after a send")
	if fails {
		return errUnsent
	}
	return nil
}

func isDecline(call mesos.Call) bool {
	_, ok := call.(mesos.Decline)
	return ok
}

// event brings an event of the master to the process.
func (s *sched) event(conn *connection, ev mesos.Event) {
	conn.down.send(s.w, func() {
		if conn.open && s.alive && conn.life == s.life {
			s.w.note("sched <- %s", describeEvent(ev))
			if _, ok := ev.(mesos.Subscribed); ok {
				conn.confirmed = true
			}
			s.take(core.FromMesos{Event: ev})
		}
	})
}

func describeCall(call mesos.Call) string {
	switch c := call.(type) {
	case mesos.Accept:
		var ids []string
		for _, t := range c.Tasks {
			ids = append(ids, t.ID)
		}
		return fmt.Sprintf("ACCEPT %v launch %v refuse %s", c.OfferIDs, ids, c.Refuse)
	case mesos.Decline:
		return fmt.Sprintf("DECLINE %v refuse %s", c.OfferIDs, c.Refuse)
	case mesos.Kill:
		return "KILL " + c.TaskID
	case mesos.Acknowledge:
		return fmt.Sprintf("ACKNOWLEDGE %s %s", c.TaskID, c.UUID)
	case mesos.Reconcile:
		return fmt.Sprintf("RECONCILE %v", c.Tasks)
	case mesos.Revive:
		return "REVIVE"
	case mesos.Suppress:
		return "SUPPRESS"
	case mesos.ToExecutor:
		return describeWish(c)
	}
	return fmt.Sprintf("%T", call)
}

func describeWish(c mesos.ToExecutor) string {
	wish := &padisv1.ToExecutor{}
	if err := padisv1.Decode(c.Data, wish); err != nil {
		return "MESSAGE that cannot be read"
	}
	var images []string
	for _, w := range wish.GetImages() {
		images = append(images, w.GetImage())
	}
	if r := wish.GetRenewed(); r != nil {
		return fmt.Sprintf("MESSAGE to agent %s: renewal %d", c.AgentID, r.GetSerial())
	}
	if b := wish.GetBalance(); b != nil {
		return fmt.Sprintf("MESSAGE to agent %s: balance %d, directors %v", c.AgentID, b.GetNumber(), b.GetDirector().GetTasks())
	}
	return fmt.Sprintf("MESSAGE to agent %s: generation %d discard %v images %v leave %v", c.AgentID, wish.GetGeneration(), wish.GetDiscard(), images, wish.GetLeave())
}

func describeEvent(ev mesos.Event) string {
	switch e := ev.(type) {
	case mesos.Update:
		uuid := ""
		if len(e.Status.UUID) > 0 {
			uuid = " uuid " + string(e.Status.UUID)
		}
		return fmt.Sprintf("UPDATE %s %s %s %s%s", e.Status.TaskID, e.Status.State, e.Status.Source, e.Status.Reason, uuid)
	case mesos.Offers:
		var ids []string
		for _, o := range e.Offers {
			ids = append(ids, o.ID+"@"+o.Hostname)
		}
		return fmt.Sprintf("OFFERS %v", ids)
	case mesos.Rescind:
		return "RESCIND " + e.OfferID
	case mesos.Failure:
		return fmt.Sprintf("FAILURE agent %s executor %q", e.AgentID, e.ExecutorID)
	case mesos.Subscribed:
		return "SUBSCRIBED " + e.FrameworkID
	case mesos.FromExecutor:
		said := &padisv1.FromExecutor{}
		if err := padisv1.Decode(e.Data, said); err != nil {
			return "MESSAGE that cannot be read"
		}
		if r := said.GetRenew(); r != nil {
			return fmt.Sprintf("MESSAGE of agent %s: asks for renewal %d", e.AgentID, r.GetSerial())
		}
		var images []string
		for _, st := range said.GetImages() {
			images = append(images, fmt.Sprintf("%s present=%v %s", st.GetImage(), st.GetPresent(), st.GetReason()))
		}
		line := fmt.Sprintf("MESSAGE of agent %s: generation %d orphans %v images %v", e.AgentID, said.GetGeneration(), said.GetOrphans(), images)
		for _, b := range said.GetBalances() {
			line += fmt.Sprintf(" balance %d, directors %v", b.GetNumber(), b.GetDirectors())
		}
		return line
	case mesos.AgentsSeen:
		return fmt.Sprintf("agents seen: %d", len(e.Agents))
	}
	return fmt.Sprintf("%T", ev)
}
