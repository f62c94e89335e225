package instance

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
)

var update = flag.Bool("update", false, "write the golden transcripts anew")

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func launch(change ...func(*padisv1.Launch)) *padisv1.Launch {
	l := &padisv1.Launch{
		Namespace: "shop", App: "web", AppUid: "1a2b3c4d-0000", Slot: 3, Attempt: 1,
		Template: &padisv1.Template{Command: []string{"serve"}, Stop: &padisv1.Stop{Signal: "SIGTERM", GracePeriodMs: 3000}},
		Attachments: []*padisv1.Attachment{{
			Network: &padisv1.Network{Name: "lan", Bridge: "padis0", Parent: "eth1"}, Address: "10.44.0.5", PrefixLength: 16, Gateway: "10.44.0.1",
		}},
	}
	for _, f := range change {
		f(l)
	}
	return l
}

var host = Host{Owner: "fw/exec", Name: "host1", Path: "/usr/bin:/bin", Sandbox: "/sandbox"}

func task(t interface{ Fatal(...any) }, l *padisv1.Launch) mesos.Task {
	b, err := padisv1.Encode(l)
	if err != nil {
		t.Fatal(err)
	}
	return mesos.Task{ID: "shop.web-3.1a2b3c4d.1", Data: b}
}

func plan(t interface{ Fatal(...any) }, l *padisv1.Launch) Plan {
	p, f := Understand(task(t, l), host)
	if f != nil {
		t.Fatal(f)
	}
	return p
}

func checked(l *padisv1.Launch) {
	l.Template.HealthChecks = []*padisv1.HealthCheck{{
		Probe: &padisv1.HealthCheck_Tcp{Tcp: &padisv1.TcpProbe{Port: 80}}, GracePeriodMs: 100, IntervalMs: 1000, TimeoutMs: 500, FailureThreshold: 2, SuccessThreshold: 1,
	}}
}

func probing(l *padisv1.Launch) { l.Attachments[0].Probe = true }

var no = &Failure{"SomeReason", "Some remedy."}

// after lets time pass to the moment when a Tick is needed.
type after struct{}

func (after) event() {}

func grace(d time.Duration) *time.Duration { return &d }

func TestLives(t *testing.T) {
	up := []Event{Begun{}, Fetched{}, Created{PID: 7}, Attached{}, Started{}}
	then := func(es ...Event) []Event { return append(append([]Event{}, up...), es...) }
	for name, c := range map[string]struct {
		launch *padisv1.Launch
		events []Event
	}{
		"runs and ends":         {launch(), then(after{}, after{}, Exited{}, Released{})},
		"fails":                 {launch(), then(Exited{Code: 3}, Released{})},
		"dies":                  {launch(), then(Exited{Code: 139, Signal: "SIGSEGV"}, Released{})},
		"killed":                {launch(), then(KillWanted{}, KillWanted{}, Exited{Code: 143, Signal: "SIGTERM"}, Released{})},
		"killed after grace":    {launch(), then(KillWanted{}, after{}, Exited{Code: 137, Signal: "SIGKILL"}, Released{})},
		"killed, then sooner":   {launch(), then(KillWanted{}, KillWanted{grace(time.Second)}, after{}, Exited{Code: 137, Signal: "SIGKILL"}, Released{})},
		"killed without grace":  {launch(), then(KillWanted{grace(0)}, Exited{Code: 137, Signal: "SIGKILL"}, Released{})},
		"killed while fetching": {launch(), []Event{Begun{}, KillWanted{}, Fetched{no}, Released{}}},
		"killed while created":  {launch(), []Event{Begun{}, Fetched{}, KillWanted{}, Created{PID: 7}, Exited{Signal: "SIGKILL"}, Released{}}},
		"no files":              {launch(), []Event{Begun{}, Fetched{no}, Released{}}},
		"no namespaces":         {launch(), []Event{Begun{}, Fetched{}, Created{Failure: no}, Released{}}},
		"no network":            {launch(), []Event{Begun{}, Fetched{}, Created{PID: 7}, Attached{no}, Exited{Signal: "SIGKILL"}, Released{}}},
		"no program":            {launch(), []Event{Begun{}, Fetched{}, Created{PID: 7}, Attached{}, Started{no}, Exited{Code: 1}, Released{}}},
		"release repeated":      {launch(), then(Exited{}, Released{no}, after{}, Released{})},
		"ready":                 {launch(checked), then(Checked{0, false, "refused"}, after{}, Checked{0, true, ""}, after{}, Checked{0, true, ""}, Exited{}, Released{})},
		"unhealthy, again well": {launch(checked), then(Checked{0, true, ""}, after{}, after{}, Checked{0, false, "slow"}, after{}, Checked{0, true, ""})},
		"health failed":         {launch(checked), then(Checked{0, true, ""}, after{}, after{}, Checked{0, false, "slow"}, after{}, Checked{0, false, "slower"}, after{}, Exited{Signal: "SIGKILL"}, Released{})},
		"address answered": {launch(probing), []Event{Begun{}, Fetched{}, Probed{Answered: "02:42 has it"}, after{}, Probed{Answered: "02:42 has it"}, after{},
			Probed{Failure: no}, after{}, Probed{}, Created{PID: 7}, Attached{}, Started{}}},
		"killed while waiting": {launch(probing), []Event{Begun{}, Fetched{}, Probed{Answered: "02:42 has it"}, KillWanted{}, Released{}}},
		"no network wanted":    {launch(func(l *padisv1.Launch) { l.Attachments = nil }), then(after{}, Exited{}, Released{})},
	} {
		t.Run(name, func(t *testing.T) {
			got := transcript(t, plan(t, c.launch), c.events)
			golden := filepath.Join("testdata", strings.NewReplacer(" ", "-", ",", "").Replace(name)+".txt")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func transcript(t *testing.T, p Plan, events []Event) string {
	var out strings.Builder
	s, now := State{Plan: p}, start
	for _, e := range events {
		if _, ok := e.(after); ok {
			e = Tick{}
			if next := s.Next(); !next.IsZero() {
				now = next
			}
		}
		next, actions, err := Step(now, s, e)
		if err != nil {
			t.Fatal(err)
		}
		s = next
		fmt.Fprintf(&out, "%5dms %s -> %s\n", now.Sub(start).Milliseconds(), describe(e), s.Phase)
		for _, a := range actions {
			fmt.Fprintf(&out, "        %s\n", describe(a))
		}
	}
	return out.String()
}

func describe(x any) string {
	switch x := x.(type) {
	case Report:
		healthy := "unknown"
		if x.Healthy != nil {
			healthy = fmt.Sprint(*x.Healthy)
		}
		r := x.Report
		return fmt.Sprintf("Report %s healthy=%s ready=%v %s %q exit=%d%s pid=%d", x.State, healthy, r.Ready, r.Reason, r.Message, r.ExitCode, r.Signal, r.Pid)
	case KillWanted:
		if x.Grace != nil {
			return "KillWanted " + x.Grace.String()
		}
		return "KillWanted"
	case interface{ event() }, interface{ action() }:
		name := strings.TrimPrefix(fmt.Sprintf("%T", x), "instance.")
		fields := strings.NewReplacer("Failure:<nil>", "", "Failure:"+fmt.Sprint(no), "failed", "{", "", "}", "").Replace(fmt.Sprintf("%+v", x))
		return strings.TrimSpace(name + " " + strings.TrimSpace(fields))
	}
	return fmt.Sprint(x)
}

func TestWhatCannotHappenIsRefused(t *testing.T) {
	s := State{Plan: plan(t, launch())}
	for _, e := range []Event{Fetched{}, Created{}, Started{}, Exited{}, Released{}, Checked{}} {
		if next, actions, err := Step(start, s, e); err == nil || actions != nil || next.Phase != New {
			t.Errorf("%T at the beginning: %v, %v, %v", e, next.Phase, actions, err)
		}
	}
}

// Whatever happens in whatever order the executor can bring it: a network is configured only after its address was
// found silent where that is demanded; nothing is released while processes live; the end is reported once, and last, and
// only after the release; and whoever is told to end does.
func TestAnyLife(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := launch()
		if rapid.Bool().Draw(t, "probe") {
			probing(l)
		}
		if rapid.Bool().Draw(t, "checks") {
			checked(l)
		}
		s, now := State{Plan: plan(t, l)}, start
		// What the executor has been told to do and has not yet answered.
		var pending []Event
		var alive, waited, attached, silent, ended, killed bool
		checks := 0
		step := func(e Event) {
			if ended {
				e = Tick{}
			}
			next, actions, err := Step(now, s, e)
			if err != nil {
				t.Fatal(err)
			}
			s = next
			for _, a := range actions {
				if ended {
					t.Fatalf("%T after the end", a)
				}
				fail := func() *Failure {
					if rapid.IntRange(0, 9).Draw(t, "fails") == 0 {
						return no
					}
					return nil
				}
				switch a := a.(type) {
				case Fetch:
					pending = append(pending, Fetched{fail()})
				case Probe:
					e := Probed{Failure: fail()}
					if rapid.Bool().Draw(t, "answered") {
						e.Answered = "somebody"
					}
					silent = e.Failure == nil && e.Answered == ""
					pending = append(pending, e)
				case Create:
					f := fail()
					alive = f == nil
					pending = append(pending, Created{7, f})
				case Attach:
					if l.Attachments[0].Probe && !silent {
						t.Fatal("configured without a silent probe")
					}
					attached = true
					pending = append(pending, Attached{fail()})
				case Start:
					pending = append(pending, Started{fail()})
				case Kill:
					if !alive {
						t.Fatal("killed what does not live")
					}
					if !waited {
						waited = true
						pending = append(pending, Exited{137, "SIGKILL"})
					}
				case Check:
					checks++
				case Release:
					if alive {
						t.Fatal("released what lives")
					}
					f := fail()
					if f == nil {
						attached = false
					}
					pending = append(pending, Released{f})
				case Report:
					if a.State.Terminal() {
						if attached || alive {
							t.Fatal("reported the end before it")
						}
						ended = true
					}
				}
			}
		}
		turn := func(killing bool) {
			now = now.Add(time.Duration(rapid.IntRange(0, 2000).Draw(t, "pass")) * time.Millisecond)
			switch k := rapid.IntRange(0, 5).Draw(t, "what"); {
			case k == 0:
				step(Tick{})
			case k == 1 && !ended && !killing && rapid.IntRange(0, 5).Draw(t, "kill") == 0:
				killed = true
				step(KillWanted{})
			case k == 2 && checks > 0:
				checks--
				step(Checked{0, rapid.Bool().Draw(t, "ok"), "x"})
			case k == 3 && alive && !waited && (s.Phase == Running || s.Phase == Stopping):
				waited, alive = true, false
				step(Exited{rapid.IntRange(0, 3).Draw(t, "code"), ""})
			case len(pending) > 0:
				e := pending[0]
				pending = pending[1:]
				if _, ok := e.(Exited); ok {
					alive = false
				}
				step(e)
			}
		}
		step(Begun{})
		for range rapid.IntRange(0, 40).Draw(t, "turns") {
			turn(false)
		}
		if !killed && !ended {
			step(KillWanted{})
		}
		for range 2000 {
			if ended {
				break
			}
			turn(true)
			step(Tick{})
		}
		if !ended {
			t.Fatalf("told to end, it is still %s", s.Phase)
		}
	})
}

func TestUnderstandRefuses(t *testing.T) {
	tmpl := func(f func(*padisv1.Template)) mesos.Task {
		return task(t, launch(func(l *padisv1.Launch) { f(l.Template) }))
	}
	named := func(id string) mesos.Task {
		k := task(t, launch())
		k.ID = id
		return k
	}
	for name, c := range map[string]struct {
		task   mesos.Task
		reason string
	}{
		"no payload":     {mesos.Task{ID: "x"}, padisv1.ReasonInvalidLaunch},
		"garbage":        {mesos.Task{ID: "x", Data: []byte{0xff, 0xff, 1}}, padisv1.ReasonInvalidLaunch},
		"empty id":       {named(""), padisv1.ReasonInvalidLaunch},
		"id upwards":     {named("../x"), padisv1.ReasonInvalidLaunch},
		"id dots":        {named(".."), padisv1.ReasonInvalidLaunch},
		"long id":        {named(strings.Repeat("x", 300)), padisv1.ReasonInvalidLaunch},
		"no app":         {task(t, launch(func(l *padisv1.Launch) { l.App = "" })), padisv1.ReasonInvalidLaunch},
		"no template":    {task(t, launch(func(l *padisv1.Launch) { l.Template = nil })), padisv1.ReasonInvalidLaunch},
		"negative slot":  {task(t, launch(func(l *padisv1.Launch) { l.Slot = -1 })), padisv1.ReasonInvalidLaunch},
		"host name":      {task(t, launch(func(l *padisv1.Launch) { l.Hostname = "a b" })), padisv1.ReasonInvalidLaunch},
		"long host name": {task(t, launch(func(l *padisv1.Launch) { l.App = strings.Repeat("x", 64) })), padisv1.ReasonInvalidLaunch},
		"dns":            {task(t, launch(func(l *padisv1.Launch) { l.DnsServers = []string{"1.1.1.1\nsearch evil"} })), padisv1.ReasonInvalidLaunch},
		"bridge":         {task(t, launch(func(l *padisv1.Launch) { l.Attachments[0].Network.Bridge = strings.Repeat("b", 16) })), padisv1.ReasonNetworkFailed},
		"attachments":    {task(t, launch(func(l *padisv1.Launch) { l.Attachments = make([]*padisv1.Attachment, 100) })), padisv1.ReasonInvalidLaunch},
		"image":          {tmpl(func(p *padisv1.Template) { p.Image = "nginx" }), padisv1.ReasonRuntimeUnavailable},
		"no command":     {tmpl(func(p *padisv1.Template) { p.Command = nil }), padisv1.ReasonCommandNotFound},
		"zero byte":      {tmpl(func(p *padisv1.Template) { p.Command = []string{"a", "b\x00c"} }), padisv1.ReasonInvalidLaunch},
		"variable":       {tmpl(func(p *padisv1.Template) { p.Env = []*padisv1.EnvVar{{Name: "A=B"}} }), padisv1.ReasonInvalidLaunch},
		"value":          {tmpl(func(p *padisv1.Template) { p.Env = []*padisv1.EnvVar{{Name: "A", Value: "\x00"}} }), padisv1.ReasonInvalidLaunch},
		"signal":         {tmpl(func(p *padisv1.Template) { p.Stop.Signal = "SIGNONSENSE" }), padisv1.ReasonInvalidLaunch},
		"grace":          {tmpl(func(p *padisv1.Template) { p.Stop.GracePeriodMs = -1 }), padisv1.ReasonInvalidLaunch},
		"check":          {tmpl(func(p *padisv1.Template) { p.HealthChecks = []*padisv1.HealthCheck{{}} }), padisv1.ReasonInvalidLaunch},
		"port": {tmpl(func(p *padisv1.Template) {
			p.HealthChecks = []*padisv1.HealthCheck{{Probe: &padisv1.HealthCheck_Tcp{Tcp: &padisv1.TcpProbe{Port: 65536}}}}
		}), padisv1.ReasonInvalidLaunch},
		"check command": {tmpl(func(p *padisv1.Template) {
			p.HealthChecks = []*padisv1.HealthCheck{{Probe: &padisv1.HealthCheck_Command{Command: &padisv1.CommandProbe{}}}}
		}), padisv1.ReasonInvalidLaunch},
	} {
		_, f := Understand(c.task, host)
		var err error = f
		if f == nil || f.Reason != c.reason || f.Message == "" || !errors.As(err, &f) {
			t.Errorf("%s: got %v, want %s", name, f, c.reason)
		}
	}
}

func TestWhatAnInstanceIsTold(t *testing.T) {
	p := plan(t, launch(func(l *padisv1.Launch) {
		l.DnsServers, l.DnsSearch = []string{"10.44.0.53", "10.44.0.54"}, []string{"shop.example", "example"}
		l.Template.Env = []*padisv1.EnvVar{{Name: "GREETING", Value: "a=b"}, {Name: "HOME", Value: "/home/web"}, {Name: "GREETING", Value: "hello"}}
	}))
	want := `PATH=/usr/bin:/bin
HOME=/home/web
PADIS_INSTANCE=web-3
PADIS_APP=web
PADIS_NAMESPACE=shop
PADIS_SLOT=3
PADIS_HOST=host1
PADIS_ADDRESS=10.44.0.5
PADIS_ADDRESSES=10.44.0.5
GREETING=hello`
	if got := strings.Join(p.Environment, "\n"); got != want {
		t.Errorf("environment:\n%s\nwant\n%s", got, want)
	}
	if want := "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n10.44.0.5\tweb-3\n"; p.Files.Hosts != want {
		t.Errorf("hosts: %q", p.Files.Hosts)
	}
	if want := "nameserver 10.44.0.53\nnameserver 10.44.0.54\nsearch shop.example example\n"; p.Files.ResolvConf != want {
		t.Errorf("resolv.conf: %q", p.Files.ResolvConf)
	}
	if p.Files.Dir != "/sandbox/tasks/shop.web-3.1a2b3c4d.1" || p.Hostname != "web-3" {
		t.Errorf("%q, %q", p.Files.Dir, p.Hostname)
	}
}

func FuzzUnderstand(f *testing.F) {
	f.Add("shop.web-3.1a2b3c4d.1", task(f, launch(checked, probing)).Data)
	f.Add("", []byte{})
	f.Fuzz(func(t *testing.T, id string, data []byte) {
		p, failure := Understand(mesos.Task{ID: id, Data: data}, host)
		if failure != nil {
			if failure.Reason == "" || failure.Message == "" {
				t.Error("refused without a reason")
			}
			return
		}
		if !strings.HasPrefix(p.Files.Dir, "/sandbox/tasks/") || len(p.Launch.GetTemplate().GetCommand()) == 0 {
			t.Errorf("accepted %+v", p)
		}
		s := State{Plan: p}
		for _, e := range []Event{Begun{}, Fetched{}} {
			var err error
			if s, _, err = Step(start, s, e); err != nil {
				t.Error(err)
			}
		}
	})
}
