package instance

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

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

var host = Host{Owner: "fw", Name: "host1", Path: "/usr/bin:/bin", Sandbox: "/sandbox", State: "/state"}

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

func image(l *padisv1.Launch) {
	l.Template.Image, l.Template.Command = "registry/web:1", nil
	l.Template.Resources = &padisv1.Resources{MemoryMib: 64}
}

func adopted(l *padisv1.Launch) {
	image(l)
	l.Container, l.Adopt, l.WasReady, l.Attempt = "shop.web-3.1a2b3c4d.0", true, true, 2
}

func balanced(l *padisv1.Launch) { l.LoopbackAddresses, l.DrainMs = []string{"192.0.2.1"}, 30_000 }

func leased(l *padisv1.Launch) { l.LeaseMs = 9000 }

func unready(l *padisv1.Launch) { l.WasReady = false }

func probing(l *padisv1.Launch) { l.Attachments[0].Probe = true }

var no = &Failure{"SomeReason", "Some remedy."}

var gone = &Failure{padisv1.ReasonContainerGone, "It is gone."}

// after lets time pass to the moment when a Tick is needed, wait so much of it.
type (
	after struct{}
	wait  time.Duration
)

func (after) event() {}
func (wait) event()  {}

// attempts to attach that all fail, and then.
func attempts(n int, then ...Event) []Event {
	var out []Event
	for range n {
		out = append(out, Attached{no}, after{})
	}
	return append(append(out, Attached{no}), then...)
}

func grace(d time.Duration) *time.Duration { return &d }

func TestLives(t *testing.T) {
	up := []Event{Begun{}, Fetched{}, Created{PID: 7}, Attached{}, Started{}}
	then := func(es ...Event) []Event { return append(append([]Event{}, up...), es...) }
	pulled := []Event{Begun{}, Fetched{}, Pulled{Digest: "sha256:1"}, Created{PID: 7}, Attached{}, Started{}}
	container := func(es ...Event) []Event { return append(append([]Event{}, pulled...), es...) }
	again := []Event{Begun{}, Adopted{PID: 7, Digest: "sha256:1"}, Attached{}}
	adoption := func(es ...Event) []Event { return append(append([]Event{}, again...), es...) }
	leasing := func(es ...Event) []Event {
		return append([]Event{Begun{}, Fetched{}, Granted{}, Created{PID: 7}, Attached{}, Started{}}, es...)
	}
	lapsed := &Failure{padisv1.ReasonLeaseExpired, "Too late."}
	const mib = 1 << 20
	for name, c := range map[string]struct {
		launch *padisv1.Launch
		events []Event
	}{
		"runs and ends":         {launch(), then(after{}, after{}, Exited{}, Released{})},
		"fails":                 {launch(), then(Exited{Code: 3}, Released{})},
		"dies":                  {launch(), then(Exited{Code: 139, Signal: "SIGSEGV"}, Released{})},
		"killed":                {launch(), then(KillWanted{}, KillWanted{}, Exited{Code: 143, Signal: "SIGTERM"}, Released{})},
		"killed after grace":    {launch(), then(KillWanted{}, after{}, Exited{Code: 137, Signal: "SIGKILL"}, Released{})},
		"killed, then sooner":   {launch(), then(KillWanted{}, KillWanted{Grace: grace(time.Second)}, after{}, Exited{Code: 137, Signal: "SIGKILL"}, Released{})},
		"killed without grace":  {launch(), then(KillWanted{Grace: grace(0)}, Exited{Code: 137, Signal: "SIGKILL"}, Released{})},
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
		"container": {launch(image), []Event{Begun{}, Fetched{}, PullProgress{0, 40 * mib}, PullProgress{9 * mib, 40 * mib}, wait(2 * time.Second), PullProgress{12 * mib, 40 * mib},
			Pulled{Digest: "sha256:1"}, PullProgress{40 * mib, 40 * mib}, Created{PID: 7}, Attached{}, Started{}, KillWanted{}, Exited{Code: 143, Signal: "SIGTERM"}, Released{}}},
		"container without room":   {launch(image), container(Exited{Code: 137, Signal: "SIGKILL", OOMKilled: true}, Released{})},
		"container minus a child":  {launch(image), container(Exited{OOMKilled: true}, Released{})},
		"container of an answered": {launch(image, probing), []Event{Begun{}, Fetched{}, Pulled{}, Probed{Answered: "02:42 has it"}, after{}, Probed{}, Created{PID: 7}}},
		"prompt container":         {launch(image), []Event{Begun{}, Fetched{}, wait(prompt), Pulled{}, Created{PID: 7}}},
		"late container": {launch(image), []Event{Begun{}, Fetched{}, wait(prompt + time.Millisecond), Pulled{}, Probed{Answered: "02:42 has it"}, after{},
			Probed{}, Created{PID: 7}}},
		"late program":                {launch(), []Event{Begun{}, wait(prompt + time.Millisecond), Fetched{}, Probed{}, Created{PID: 7}}},
		"late without network":        {launch(image, func(l *padisv1.Launch) { l.Attachments = nil }), []Event{Begun{}, Fetched{}, wait(2 * prompt), Pulled{}, Created{PID: 7}}},
		"no image":                    {launch(image), []Event{Begun{}, Fetched{}, Pulled{Failure: no}, Released{}}},
		"no container":                {launch(image), []Event{Begun{}, Fetched{}, Pulled{}, Created{Failure: no}, Released{no}, after{}, Released{}}},
		"killed while pulling":        {launch(image), []Event{Begun{}, Fetched{}, PullProgress{mib, 0}, KillWanted{}, PullProgress{2 * mib, 0}, Pulled{Failure: no}, Released{}}},
		"adopted":                     {launch(adopted), adoption(after{}, after{}, Exited{Code: 3}, Released{})},
		"adopted with checks":         {launch(adopted, checked, probing), adoption(Checked{0, true, ""}, after{}, after{}, after{}, Checked{0, false, "refused"}, after{}, Checked{0, false, "refused"}, Exited{Code: 143}, Released{})},
		"adopted unready":             {launch(adopted, checked, unready), adoption(Checked{0, false, "refused"}, after{}, Checked{0, true, ""})},
		"adopted later":               {launch(adopted), []Event{Begun{}, Adopted{Failure: no}, after{}, Adopted{Failure: no}, after{}, Adopted{PID: 7}, Attached{no}, after{}, Attached{}}},
		"adopted without network":     {launch(adopted), append([]Event{Begun{}, Adopted{PID: 7}}, attempts(attachRetries, Exited{Code: 143}, Released{})...)},
		"adoption of the ended":       {launch(adopted), []Event{Begun{}, Adopted{Ended: &Exited{Code: 137, Signal: "SIGKILL", OOMKilled: true}}, Released{}}},
		"adoption of nothing":         {launch(adopted), []Event{Begun{}, Adopted{Failure: gone}, Released{}}},
		"killed while adopting":       {launch(adopted), []Event{Begun{}, KillWanted{Grace: grace(time.Second)}, Adopted{PID: 7}, after{}, Exited{Signal: "SIGKILL"}, Released{}}},
		"killed before its adoption":  {launch(adopted), []Event{Begun{}, Adopted{Failure: no}, KillWanted{}, Released{no}, after{}, Released{}}},
		"killed while being attached": {launch(adopted), []Event{Begun{}, Adopted{PID: 7}, Attached{no}, KillWanted{}, Exited{Code: 143}, Released{}}},
		"leased":                      {launch(leased), leasing(Granted{}, Renewed{}, Exited{}, Released{})},
		"lease over":                  {launch(leased, checked), leasing(Checked{0, true, ""}, Lapsed{}, Silenced{no}, after{}, Silenced{}, Checked{0, false, "x"}, Granted{}, Probed{Answered: "02:42 has it"}, after{}, Granted{}, Probed{}, Attached{no}, after{}, Granted{}, Probed{}, Attached{}, Granted{}, Renewed{})},
		"lease over, unready":         {launch(leased, checked), leasing(Lapsed{}, Silenced{}, Granted{}, Probed{}, Attached{})},
		"lease over while joining":    {launch(leased), leasing(Granted{}, Renewed{Expired: true}, Silenced{}, Granted{}, Probed{}, Attached{lapsed}, Granted{}, Probed{}, Attached{})},
		"lease over before the end":   {launch(leased), leasing(Lapsed{}, KillWanted{}, Silenced{}, Granted{}, Exited{Code: 143}, Released{})},
		"lease over while stopping":   {launch(leased), leasing(KillWanted{}, Granted{}, Renewed{}, Lapsed{}, Silenced{no}, after{}, Silenced{}, Exited{Code: 143}, Released{})},
		"killed while joining":        {launch(leased), leasing(Lapsed{}, Silenced{}, Granted{}, Probed{}, KillWanted{}, Attached{}, Exited{Code: 143}, Released{})},
		"killed while asking":         {launch(leased), leasing(Lapsed{}, Silenced{}, Granted{}, KillWanted{}, Probed{}, Exited{Code: 143}, Released{})},
		"killed before the lease":     {launch(leased), []Event{Begun{}, Fetched{}, KillWanted{}, Released{}}},
		"lease over before attach":    {launch(leased), []Event{Begun{}, Fetched{}, Granted{}, Created{PID: 7}, Attached{lapsed}, Granted{}, Renewed{Expired: true}, Silenced{}, Probed{}, Attached{}, Started{}}},
		"lease and probe":             {launch(leased, image, probing), []Event{Begun{}, Fetched{}, Pulled{}, Granted{}, Probed{}, Created{PID: 7}, Attached{}, Started{}}},
		"adopted with a lease":        {launch(adopted, leased), []Event{Begun{}, Adopted{PID: 7}, Granted{}, Renewed{}, Attached{}, Granted{}, Renewed{}}},
		"adopted after its lease":     {launch(adopted, leased), []Event{Begun{}, Adopted{PID: 7}, after{}, Granted{}, Renewed{Failure: no}, after{}, Granted{}, Renewed{Expired: true}, Silenced{no}, after{}, Granted{}, Renewed{Expired: true}, Silenced{}, Probed{}, Attached{}}},
		"adopted, ends unleased":      {launch(adopted, leased), []Event{Begun{}, Adopted{PID: 7}, Exited{}, Released{}}},
		"drained":                     {launch(balanced, checked), then(Checked{0, true, ""}, KillWanted{}, Checked{0, false, "x"}, wait(2*time.Second), Drained{}, Drained{}, Exited{Code: 143, Signal: "SIGTERM"}, Released{})},
		"drained in time":             {launch(balanced), then(KillWanted{grace(time.Second), false}, KillWanted{grace(time.Second), false}, after{}, after{}, Exited{Signal: "SIGKILL"}, Released{})},
		"drain cut short":             {launch(balanced), then(KillWanted{}, wait(time.Second), KillWanted{grace(time.Second), false}, after{}, Exited{Signal: "SIGKILL"}, Released{})},
		"drain without grace":         {launch(balanced), then(KillWanted{grace(0), false}, Drained{}, Exited{Signal: "SIGKILL"}, Released{})},
		"no drain in a hurry":         {launch(balanced), then(KillWanted{nil, true}, Exited{Code: 143}, Released{})},
		"hurry while draining":        {launch(balanced), then(KillWanted{}, KillWanted{nil, true}, Exited{Code: 143}, Released{})},
		"drain changed":               {launch(), then(Rewired{time.Minute}, KillWanted{}, Rewired{10 * time.Second}, after{}, Drained{}, Exited{Code: 143}, Released{})},
		"drain taken back":            {launch(balanced), then(KillWanted{}, Rewired{}, Exited{Code: 143}, Released{})},
		"ended while draining":        {launch(balanced), then(KillWanted{}, Exited{Code: 3}, Released{})},
		"lease over while draining":   {launch(balanced, leased), leasing(KillWanted{}, Granted{}, Renewed{}, Lapsed{}, Silenced{}, Exited{Code: 143}, Released{})},
		"no drain without a lease":    {launch(balanced, leased), leasing(Lapsed{}, KillWanted{}, Silenced{}, Exited{Code: 143}, Released{})},
		"failed checks do not drain":  {launch(balanced, checked), then(Checked{0, true, ""}, after{}, after{}, Checked{0, false, "slow"}, after{}, Checked{0, false, "slower"}, Exited{Signal: "SIGTERM"}, Released{})},
		"adopted and drained":         {launch(adopted, balanced), adoption(KillWanted{}, Drained{}, Exited{Code: 143}, Released{})},
		"no network wanted":           {launch(func(l *padisv1.Launch) { l.Attachments = nil }), then(after{}, Exited{}, Released{})},
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
		if d, ok := e.(wait); ok {
			e, now = Tick{}, now.Add(time.Duration(d))
		} else if _, ok := e.(after); ok {
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
		out := fmt.Sprintf("Report %s healthy=%s ready=%v %s %q exit=%d%s pid=%d", x.State, healthy, r.Ready, r.Reason, r.Message, r.ExitCode, r.Signal, r.Pid)
		if r.Container != "" {
			out += fmt.Sprintf(" container=%s image=%s oom=%v", r.Container, r.ImageDigest, r.OomKilled)
		}
		return out
	case Exited:
		return strings.TrimSuffix(fmt.Sprintf("Exited Code:%d Signal:%s OOMKilled:%v", x.Code, x.Signal, x.OOMKilled), " OOMKilled:false")
	case Adopted:
		out := fmt.Sprintf("Adopted PID:%d", x.PID)
		switch {
		case x.Ended != nil:
			out = "Adopted Ended: " + describe(*x.Ended)
		case x.Failure != nil:
			out = "Adopted failed: " + x.Failure.Reason
		}
		return out
	case Release:
		if x.Discard {
			return "Release, and what is not held"
		}
		return "Release"
	case KillWanted:
		out := "KillWanted"
		if x.Grace != nil {
			out += " " + x.Grace.String()
		}
		if x.Hurry {
			out += " in a hurry"
		}
		return out
	case interface{ event() }, interface{ action() }:
		name := strings.TrimPrefix(fmt.Sprintf("%T", x), "instance.")
		fields := strings.NewReplacer("Failure:<nil>", "", "Failure:"+fmt.Sprint(no), "failed", "{", "", "}", "").Replace(fmt.Sprintf("%+v", x))
		return strings.TrimSpace(name + " " + strings.TrimSpace(fields))
	}
	return fmt.Sprint(x)
}

func TestWhatCannotHappenIsRefused(t *testing.T) {
	s := State{Plan: plan(t, launch())}
	for _, e := range []Event{Adopted{}, Fetched{}, Pulled{}, PullProgress{}, Created{}, Attached{}, Started{}, Exited{}, Released{}, Checked{}, Silenced{}} {
		if next, actions, err := Step(start, s, e); err == nil || actions != nil || next.Phase != New {
			t.Errorf("%T at the beginning: %v, %v, %v", e, next.Phase, actions, err)
		}
	}
}

func empty(path string) *padisv1.Volume {
	return &padisv1.Volume{Name: "empty", MountPath: path, Source: &padisv1.Volume_EmptyDir{EmptyDir: &padisv1.EmptyDir{}}}
}

func config(name, signal string) *padisv1.Volume {
	return &padisv1.Volume{Name: "config", MountPath: "/etc/web", Source: &padisv1.Volume_Config{Config: &padisv1.ConfigFiles{
		Config: name, OnChange: padisv1.ConfigFiles_ON_CHANGE_SIGNAL, Signal: signal,
	}}}
}

func TestUnderstandContainers(t *testing.T) {
	made := launch(image, func(l *padisv1.Launch) {
		l.Template.Args, l.Template.WorkingDir = []string{"-v"}, "/srv"
		l.Template.Security = &padisv1.Security{AddCapabilities: []string{"NET_ADMIN"}, DropCapabilities: []string{"ALL"}}
		l.Configs = []*padisv1.ConfigData{{Name: "configmap/web", Data: map[string][]byte{"web.conf": nil}}}
		l.Template.Volumes = []*padisv1.Volume{
			empty("/data"), config("configmap/web", "SIGHUP"),
		}
	})
	first := plan(t, made)
	if want := "/state/instances/shop.web-3.1a2b3c4d.1"; first.Container != first.TaskID || first.Image != "registry/web:1" || first.Files.Dir != want {
		t.Errorf("%+v", first)
	}
	for _, e := range first.Environment {
		if !strings.HasPrefix(e, "PADIS_") {
			t.Errorf("%s is the image's to say", e)
		}
	}
	// Whoever adopts it, and remembers it, finds it where it is.
	again := task(t, launch(image, func(l *padisv1.Launch) {
		l.Container, l.Adopt, l.Attempt = first.Container, true, 9
		l.Template.Volumes = []*padisv1.Volume{config("configmap/gone-since", "")}
	}))
	again.ID = "shop.web-3.1a2b3c4d.9"
	second, f := Understand(again, host)
	if f != nil {
		t.Fatal(f)
	}
	third, f := Recall(first.Container, made, host)
	if f != nil {
		t.Fatal(f)
	}
	for _, p := range []Plan{second, third} {
		if p.Container != first.Container || p.Files.Dir != first.Files.Dir || !reflect.DeepEqual(p.Wanted, first.Wanted) {
			t.Errorf("%+v is not %+v", p, first)
		}
	}
}

func TestUnderstandRefuses(t *testing.T) {
	tmpl := func(f func(*padisv1.Template)) mesos.Task {
		return task(t, launch(func(l *padisv1.Launch) { f(l.Template) }))
	}
	contained := func(f func(*padisv1.Template)) mesos.Task {
		return task(t, launch(image, func(l *padisv1.Launch) { f(l.Template) }))
	}
	mounted := func(vs ...*padisv1.Volume) mesos.Task {
		return task(t, launch(image, func(l *padisv1.Launch) {
			l.Template.Volumes, l.Configs = vs, []*padisv1.ConfigData{{Name: "configmap/web"}}
		}))
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
		"memory":            {tmpl(func(p *padisv1.Template) { p.Resources = &padisv1.Resources{MemoryMib: -1} }), padisv1.ReasonInvalidLaunch},
		"volume of program": {tmpl(func(p *padisv1.Template) { p.Volumes = []*padisv1.Volume{empty("/data")} }), padisv1.ReasonInvalidLaunch},
		"adopted program":   {task(t, launch(func(l *padisv1.Launch) { l.Adopt = true })), padisv1.ReasonInvalidLaunch},
		"program elsewhere": {task(t, launch(func(l *padisv1.Launch) { l.Container = "other" })), padisv1.ReasonInvalidLaunch},
		"container upwards": {task(t, launch(image, func(l *padisv1.Launch) { l.Container = "../x" })), padisv1.ReasonInvalidLaunch},
		"empty command":     {task(t, launch(image, func(l *padisv1.Launch) { l.Template.Command = []string{"", "x"} })), padisv1.ReasonCommandNotFound},
		"artifacts":         {contained(func(p *padisv1.Template) { p.Artifacts = []*padisv1.Artifact{{Uri: "x"}} }), padisv1.ReasonInvalidLaunch},
		"working directory": {contained(func(p *padisv1.Template) { p.WorkingDir = "here" }), padisv1.ReasonInvalidLaunch},
		"zero image":        {contained(func(p *padisv1.Template) { p.Image = "a\x00" }), padisv1.ReasonInvalidLaunch},
		"zero argument":     {contained(func(p *padisv1.Template) { p.Args = []string{"a\x00"} }), padisv1.ReasonInvalidLaunch},
		"capability":        {contained(func(p *padisv1.Template) { p.Security = &padisv1.Security{AddCapabilities: []string{"CAP_KILL"}} }), padisv1.ReasonInvalidLaunch},
		"lower capability":  {contained(func(p *padisv1.Template) { p.Security = &padisv1.Security{DropCapabilities: []string{"kill"}} }), padisv1.ReasonInvalidLaunch},
		"relative volume":   {mounted(empty("data")), padisv1.ReasonInvalidLaunch},
		"host":              {mounted(&padisv1.Volume{Name: "host", MountPath: "/host", Source: &padisv1.Volume_HostPath{HostPath: &padisv1.HostPath{Path: "/"}}}), padisv1.ReasonVolumeForbidden},
		"no such config":    {mounted(config("configmap/none", "")), padisv1.ReasonConfigNotFound},
		"config signal":     {mounted(config("configmap/web", "SIGNONSENSE")), padisv1.ReasonInvalidLaunch},
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
	f.Add("a", task(f, launch(adopted)).Data)
	f.Add("b", task(f, launch(image, func(l *padisv1.Launch) { l.Template.Volumes = []*padisv1.Volume{empty("/data")} })).Data)
	f.Fuzz(func(t *testing.T, id string, data []byte) {
		p, failure := Understand(mesos.Task{ID: id, Data: data}, host)
		if failure != nil {
			if failure.Reason == "" || failure.Message == "" {
				t.Error("refused without a reason")
			}
			return
		}
		program := strings.HasPrefix(p.Files.Dir, "/sandbox/tasks/") && len(p.Launch.GetTemplate().GetCommand()) > 0
		if container := strings.HasPrefix(p.Files.Dir, "/state/instances/"); program == container || container != (p.Image != "") {
			t.Errorf("accepted %+v", p)
		}
		s := State{Plan: p}
		events := []Event{Begun{}, Fetched{}}
		if p.Launch.GetAdopt() {
			events = []Event{Begun{}, Adopted{PID: 1}}
		}
		for _, e := range events {
			var err error
			if s, _, err = Step(start, s, e); err != nil {
				t.Error(err)
			}
		}
	})
}
