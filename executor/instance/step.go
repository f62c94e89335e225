package instance

import (
	"fmt"
	"time"

	"padis.io/padis/executor/health"
	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// Phase of an instance.
type Phase int

// The phases; see the package comment.
const (
	New Phase = iota
	Adopting
	Fetching
	Pulling
	Leasing
	Probing
	Creating
	Attaching
	Launching
	Running
	Draining
	Stopping
	Killing
	Releasing
	Ended
)

var phaseNames = [...]string{"New", "Adopting", "Fetching", "Pulling", "Leasing", "Probing", "Creating", "Attaching", "Launching", "Running", "Draining", "Stopping", "Killing", "Releasing", "Ended"}

func (p Phase) String() string { return phaseNames[p] }

// Pauses that the machine itself decides.
const (
	// prompt is how soon after its launch an instance comes to its network usually. One that comes later, after a long
	// download, may have been given up and replaced: it probes for its addresses. It is less than the scheduler's bound
	// for replacing what was never seen to run (2 min, core.Config.StartBound).
	prompt = 30 * time.Second
	// firstRetry is the pause before an address that was answered is probed again; it doubles up to lastRetry.
	firstRetry = 250 * time.Millisecond
	lastRetry  = 10 * time.Second
	// releaseRetry is the pause before the network is silenced again, when that failed; it doubles, too.
	releaseRetry = 200 * time.Millisecond
	// progressPause is the time between two reports of how far a pull is.
	progressPause = 2 * time.Second
	// UnseenDrain bounds the drain of an instance of which no TCP connection was seen: what it has with datagrams, nobody can see.
	UnseenDrain = 5 * time.Second
	// LeastDrain is how long directors may take to hear that an instance is out of rotation.
	LeastDrain = time.Second
	// defaultGrace is the time between the stop signal and SIGKILL, as in the API.
	defaultGrace = 10 * time.Second
)

// attachRetries bounds how often the network of a container that is being adopted is tried: half a minute in all.
const attachRetries = 7

// announcements after the network was configured: the first one, the kernel's own, can be lost.
var announcements = [...]time.Duration{50 * time.Millisecond, time.Second}

// State is what is known of one instance. It is a value: Step returns the next one.
type State struct {
	Plan
	Phase Phase
	// busy: an action is being carried out whose outcome will come as an event.
	busy bool
	// created: there are namespaces and a process in them, whose end will come as Exited.
	created bool
	// runs: the program in them was started.
	runs bool
	// unheld: there may be a container whose processes the executor does not hold.
	unheld bool
	pid    int
	digest string
	health health.State
	begun  time.Time
	// drain is how long it keeps its connections before it is told to end; 0 if clients reach it by its own addresses only.
	// since is when it began to.
	drain time.Duration
	since time.Time
	// retries of what the phase waits for, and when the next one is; deadline of Draining and Stopping.
	retries int
	at      time.Time
	// announced counts the announcements that were made, configured is when the network was.
	announced  int
	configured time.Time
	ending     *ending
	// link is whether it can be reached, as far as a lease decides; linkAt is when what the link waits for is tried again.
	link      link
	linkAt    time.Time
	linkTries int
	// reported is what the last report said, told when progress was reported last.
	reported Report
	told     time.Time
}

// ending is how the instance will be reported when all is released. What was decided first stays.
type ending struct {
	state           mesos.TaskState
	reason, message string
	exit            *Exited
	// grace that was asked for, if it was.
	grace *time.Duration
}

// Event is what happened.
type Event interface{ event() }

// Outcomes of the actions of like names. Failure is nil on success.
type (
	// Begun is the first event of an instance.
	Begun struct{}
	// Adopted: the container is held, running as PID, or Ended. A failure with the reason ContainerGone says that it does
	// not exist; any other, that this is not known.
	Adopted struct {
		PID int
		// Digest of its image, if it is known.
		Digest  string
		Ended   *Exited
		Failure *Failure
	}
	// Fetched: the sandbox is complete.
	Fetched struct{ Failure *Failure }
	// Pulled: the image is on the host.
	Pulled struct {
		Digest  string
		Failure *Failure
	}
	// PullProgress: so many bytes of the image are there. A Total of 0 is not known.
	PullProgress struct{ Done, Total int64 }
	// Probed: nobody answered, or somebody did, and what that means in words.
	Probed struct {
		Answered string
		Failure  *Failure
	}
	// Granted: the addresses may be used from now on, until Lapsed.
	Granted struct{}
	// Lapsed: the lease of what is configured is over.
	Lapsed struct{}
	// Renewed: the addresses stay. Expired: the kernel has taken some away already.
	Renewed struct {
		Expired bool
		Failure *Failure
	}
	// Silenced: nobody answers for the addresses any more.
	Silenced struct{ Failure *Failure }
	// Created: the namespaces are there, with a process in them.
	Created struct {
		PID     int
		Failure *Failure
	}
	// Attached: the network is configured. With the reason LeaseExpired it was not, because the lease was over.
	Attached struct{ Failure *Failure }
	// Started: the program runs.
	Started struct{ Failure *Failure }
	// Checked is the result of one probe of check Index.
	Checked struct {
		Index   int
		OK      bool
		Message string
	}
	// Exited: all processes of the instance have ended. It comes once, after Started, or after Kill if that is earlier.
	Exited struct {
		Code      int
		Signal    string
		OOMKilled bool
	}
	// Released: nobody answers for the addresses, and nothing is left.
	Released struct{ Failure *Failure }
	// Rewired: its drain is another now; see Drain.
	Rewired struct{ Drain time.Duration }
	// Drained: no client has a connection to it by a load balancer any more.
	Drained struct{}
	// KillWanted asks for the end. Grace is nil if the template's applies. Hurry leaves no time for a drain.
	KillWanted struct {
		Grace *time.Duration
		Hurry bool
	}
	// Tick lets time pass.
	Tick struct{}
)

func (Begun) event()        {}
func (Adopted) event()      {}
func (Fetched) event()      {}
func (Pulled) event()       {}
func (PullProgress) event() {}
func (Probed) event()       {}
func (Granted) event()      {}
func (Lapsed) event()       {}
func (Renewed) event()      {}
func (Silenced) event()     {}
func (Created) event()      {}
func (Attached) event()     {}
func (Started) event()      {}
func (Checked) event()      {}
func (Exited) event()       {}
func (Released) event()     {}
func (Rewired) event()      {}
func (Drained) event()      {}
func (KillWanted) event()   {}
func (Tick) event()         {}

// Action is what is to be done.
type Action interface{ action() }

// The actions. Each of the first ten is answered by its outcome.
type (
	// Adopt takes a container over that an earlier executor made.
	Adopt struct{}
	// Fetch makes the sandbox and brings the artifacts into it.
	Fetch struct{}
	// Pull brings the image to the host.
	Pull struct{}
	// Probe asks whether somebody has the addresses.
	Probe struct{}
	// Create makes the namespaces.
	Create struct{}
	// Attach configures the network.
	Attach struct{}
	// Start runs the program.
	Start struct{}
	// Renew lets the addresses stay as long as the lease allows now.
	Renew struct{}
	// Silence takes the addresses down, while the program runs on.
	Silence struct{}
	// Release silences the network and frees all. Discard: whatever there may be of a container that is not held, too.
	Release struct{ Discard bool }
	// Cancel cuts short an Adopt, Fetch, Pull or Probe that is being carried out; its outcome still comes.
	Cancel struct{}
	// Check makes one probe of check Index.
	Check struct {
		Index   int
		Timeout time.Duration
	}
	// Announce repeats the announcement of the addresses.
	Announce struct{}
	// Linger watches the connections that come by load balancers, until there are none: then Drained.
	Linger struct{}
	// Signal asks the program to end.
	Signal struct{ Name string }
	// Kill ends all processes.
	Kill struct{}
	// Report tells the scheduler.
	Report struct {
		State   mesos.TaskState
		Healthy *bool
		Report  *padisv1.InstanceReport
	}
)

func (Adopt) action()    {}
func (Fetch) action()    {}
func (Pull) action()     {}
func (Probe) action()    {}
func (Create) action()   {}
func (Attach) action()   {}
func (Start) action()    {}
func (Renew) action()    {}
func (Silence) action()  {}
func (Release) action()  {}
func (Cancel) action()   {}
func (Check) action()    {}
func (Announce) action() {}
func (Linger) action()   {}
func (Signal) action()   {}
func (Kill) action()     {}
func (Report) action()   {}

// Step decides what an event means. Events that cannot happen in the phase are refused: the error says so, and the
// state is as before.
func Step(now time.Time, s State, e Event) (State, []Action, error) {
	m := machine{State: s, now: now}
	var ok bool
	switch e := e.(type) {
	case Begun:
		ok = m.begin()
	case Adopted:
		ok = m.adopted(e)
	case Fetched:
		ok = m.outcome(Fetching, e.Failure, m.fetched)
	case Pulled:
		m.digest = e.Digest
		ok = m.outcome(Pulling, e.Failure, m.prepared)
	case PullProgress:
		ok = m.progress(e)
	case Probed:
		ok = m.asked(e) || m.probed(e)
	case Granted:
		ok = m.granted()
	case Lapsed:
		ok = m.lapsed()
	case Renewed:
		ok = m.renewed(e)
	case Silenced:
		ok = m.silenced(e)
	case Created:
		ok = m.wasCreated(e)
	case Attached:
		ok = m.joined(e) || m.wasAttached(e)
	case Started:
		ok = m.outcome(Launching, e.Failure, m.started)
	case Checked:
		ok = m.checked(e)
	case Exited:
		ok = m.exited(e)
	case Released:
		ok = m.released(e)
	case Rewired:
		ok = m.rewired(e)
	case Drained:
		ok = m.drained()
	case KillWanted:
		ok = m.kill(e)
	case Tick:
		ok = m.tick()
	}
	if !ok {
		return s, nil, fmt.Errorf("instance %s: %T cannot happen in phase %s", s.TaskID, e, s.Phase)
	}
	return m.State, m.actions, nil
}

// Grace is the time that the template gives the program between its stop signal and SIGKILL.
func (s State) Grace() time.Duration {
	stop := s.Launch.GetTemplate().GetStop()
	if stop == nil {
		return defaultGrace
	}
	return time.Duration(min(stop.GetGracePeriodMs(), 365*24*3600*1000)) * time.Millisecond
}

// Next is when a Tick is needed; the zero time if none is.
func (s State) Next() time.Time {
	next := s.at
	if l := s.linkAt; !l.IsZero() && (next.IsZero() || l.Before(next)) {
		next = l
	}
	if s.Phase != Running || s.link != linkUp {
		return next
	}
	if s.announced < len(announcements) && len(s.Wanted.Interfaces) > 0 {
		next = s.configured.Add(announcements[s.announced])
	}
	if h := s.health.Next(); !h.IsZero() && (next.IsZero() || h.Before(next)) {
		next = h
	}
	return next
}

// AwaitsExit tells that the end of its processes may come now, as Exited.
func (s State) AwaitsExit() bool { return s.created && !s.busy && (s.runs || s.Phase >= Running) }

// Runs tells whether its program runs.
func (s State) Runs() bool { return s.created && s.runs }

// Outlives tells whether the instance goes on without its executor: a container that runs, or that is to be adopted, and
// whose end nobody wants.
func (s State) Outlives() bool {
	return s.Image != "" && s.ending == nil && (s.runs || s.Launch.GetAdopt())
}

// Reported is the last report; its State is empty before the first.
func (s State) Reported() Report { return s.reported }
