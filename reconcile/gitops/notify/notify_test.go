package notify

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"padis.io/padis/api/v1alpha1"
)

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

func sync(events ...string) *v1alpha1.Sync {
	return &v1alpha1.Sync{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "u"},
		Spec:       v1alpha1.SyncSpec{Notifications: []v1alpha1.SyncNotification{{SecretRef: v1alpha1.SecretReference{Name: "chat"}, Events: events}}},
	}
}

func ready(y *v1alpha1.Sync, status metav1.ConditionStatus, reason string) {
	y.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: status, Reason: reason, Message: "because of " + reason}}
}

// script is a Sync whose status is written again and again, with receivers that take everything at once.
type script struct {
	t   *testing.T
	y   *v1alpha1.Sync
	now time.Time
}

// says tells what is told with the next status, as events with their commits and reasons.
func (s *script) says(want string, news News, change func(y *v1alpha1.Sync)) {
	s.t.Helper()
	if change != nil {
		change(s.y)
	}
	told, telling, lost := Next(s.y, &s.y.Status, news, s.now)
	var got []string
	for _, m := range telling {
		got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %s", m.Event, m.Commit, m.Reason)))
	}
	if out := strings.Join(got, ", "); out != want || lost != 0 {
		s.t.Errorf("told %q, lost %d, want %q", out, lost, want)
	}
	s.y.Status.Told = told
}

func TestWhatIsToldOfASync(t *testing.T) {
	s := &script{t, sync(), noon}
	s.says("", News{}, func(y *v1alpha1.Sync) { ready(y, "False", "Applying") })
	s.says("Failed A ManifestsBroken", News{Failure: v1alpha1.NotifyFailed}, func(y *v1alpha1.Sync) {
		y.Status.LastAttemptedCommit, y.Status.Failures = "A", 1
		ready(y, "False", "ManifestsBroken")
	})
	// It is tried again, and fails again.
	s.says("", News{}, func(y *v1alpha1.Sync) { ready(y, "False", "Applying") })
	s.says("", News{Failure: v1alpha1.NotifyFailed}, func(y *v1alpha1.Sync) { ready(y, "False", "ManifestsBroken") })
	s.says("Refused A Refused", News{Failure: v1alpha1.NotifyRefused}, func(y *v1alpha1.Sync) { ready(y, "False", "Refused") })
	good := func(y *v1alpha1.Sync) {
		y.Status.LastAppliedCommit, y.Status.LastAttemptedCommit, y.Status.Failures, y.Status.Author = "B", "", 0, "Ada <ada@example.com>"
		ready(y, "True", "UpToDate")
	}
	s.says("Applied B, Healthy B Healthy", News{}, good)
	s.says("", News{}, good)
	// It falls ill, gets well, and falls ill again: each is news.
	ill := func(y *v1alpha1.Sync) { ready(y, "False", "Unhealthy") }
	s.says("Failed B Unhealthy", News{Failure: v1alpha1.NotifyFailed}, ill)
	s.says("Healthy B Healthy", News{}, good)
	s.says("Failed B Unhealthy", News{Failure: v1alpha1.NotifyFailed}, ill)
	s.says("Healthy B Healthy", News{}, good)
	// A source that does not vouch for its newest commit, while the last good one stays.
	source := News{Source: &Refusal{"C", "NotSigned", "commit C is not signed"}}
	s.says("Refused C NotSigned", source, nil)
	s.says("Failed B Unhealthy", News{Failure: v1alpha1.NotifyFailed, Source: source.Source}, ill)
	s.says("Healthy B Healthy", source, good)
	s.says("", News{}, good)
	s.says("Refused C NotSigned", source, nil)
	// Drift that is put back: once an hour.
	s.says("Drift B DriftCorrected", News{Corrected: "app/shop/web spec.replicas by hand"}, nil)
	s.says("", News{Corrected: "app/shop/web spec.replicas by hand"}, nil)
	s.says("Drift B DriftCorrected", News{Corrected: "app/shop/db spec.replicas by hand"}, nil)
	s.now = s.now.Add(time.Hour)
	s.says("Drift B DriftCorrected", News{Corrected: "app/shop/web spec.replicas by hand"}, nil)
	s.says("Drift B DriftContested", News{Corrected: "app/shop/web spec.replicas by hand", Recurring: "hand has changed it 5 times"}, nil)
	s.says("", News{Corrected: "app/shop/web spec.replicas by hand", Recurring: "hand has changed it 6 times"}, nil)
	// Drift that is reported: as long as it is there.
	drift := func(y *v1alpha1.Sync) {
		y.Spec.Drift, y.Status.Drift = v1alpha1.DriftReport, []v1alpha1.FieldReport{{Object: "app/shop/web", Path: "spec.replicas", Want: "3", Is: "4", By: "hand"}}
	}
	s.says("Drift B Drifted", News{}, drift)
	s.says("", News{}, func(y *v1alpha1.Sync) { y.Status.Drift[0].Is = "5" })
	s.says("", News{}, func(y *v1alpha1.Sync) { y.Status.Drift = nil })
	s.says("Drift B Drifted", News{}, drift)
	// A rollback, and what ends it.
	s.says("Applied A, Rollback A RolledBack, Healthy A Healthy", News{}, func(y *v1alpha1.Sync) {
		y.Spec.Rollback, y.Status.LastAppliedCommit = &v1alpha1.SyncRollback{To: "A", From: "B"}, "A"
		ready(y, "True", "RolledBack")
	})
	s.says("Applied D, Rollback D RollbackEnded, Healthy D Healthy", News{}, func(y *v1alpha1.Sync) {
		y.Status.ReleasedRollback, y.Status.LastAppliedCommit = &v1alpha1.ReleasedRollback{To: "A", From: "B", By: "D"}, "D"
		ready(y, "True", "UpToDate")
	})
	s.says("", News{}, func(y *v1alpha1.Sync) { y.Spec.Rollback, y.Status.ReleasedRollback = nil, nil })
	if n := len(s.y.Status.Told); n > 6 {
		t.Errorf("%d facts are remembered: %v", n, s.y.Status.Told)
	}
	s.says("", News{}, func(y *v1alpha1.Sync) { y.Spec.Notifications = nil })
	if len(s.y.Status.Told) > 0 {
		t.Errorf("remembered for nobody: %v", s.y.Status.Told)
	}
}

func TestOnlyWhatSomebodyWantsIsTold(t *testing.T) {
	y := sync(v1alpha1.NotifyFailed)
	y.Status.LastAppliedCommit = "A"
	ready(y, "True", "UpToDate")
	if told, telling, _ := Next(y, &y.Status, News{}, noon); len(told)+len(telling) > 0 {
		t.Errorf("told %v, %v", told, telling)
	}
	// Who comes later is told what holds.
	y.Spec.Notifications = append(y.Spec.Notifications, v1alpha1.SyncNotification{SecretRef: v1alpha1.SecretReference{Name: "log"}}, v1alpha1.SyncNotification{SecretRef: v1alpha1.SecretReference{Name: "log"}})
	_, telling, _ := Next(y, &y.Status, News{}, noon)
	if len(telling) != 2 || !slices.Equal(Receivers(y, v1alpha1.NotifyApplied), []string{"log"}) || !slices.Equal(Receivers(y, v1alpha1.NotifyFailed), []string{"chat", "log"}) {
		t.Errorf("told %v", telling)
	}
}

func TestDriftIsToldTenTimesAnHourAtMost(t *testing.T) {
	y, n := sync(), 0
	for i := range 100 {
		told, telling, _ := Next(y, &y.Status, News{Corrected: fmt.Sprint("field ", i)}, noon)
		n += len(telling)
		y.Status.Told = told
	}
	if n != maxCorrections || len(y.Status.Told) != maxCorrections {
		t.Errorf("%d messages, %d remembered", n, len(y.Status.Told))
	}
}

// Whatever happens, and however slowly receivers take: statuses are bounded and valid, what is told last of a Sync's health is what
// is true, and the inputs stay as they were.
func TestNextKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		y, now := sync(), noon
		ids, last := map[string]bool{}, ""
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(1, 4000).Draw(t, "seconds")) * time.Second)
			var news News
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0:
				y.Status.LastAppliedCommit = rapid.SampledFrom([]string{"A", "B"}).Draw(t, "commit")
				ready(y, "True", "UpToDate")
				last = v1alpha1.NotifyHealthy
			case 1:
				news.Failure, y.Status.LastAttemptedCommit = v1alpha1.NotifyFailed, "C"
				ready(y, "False", rapid.SampledFrom([]string{"Failed", "Conflict"}).Draw(t, "reason"))
				last = v1alpha1.NotifyFailed
			case 2:
				news.Corrected = rapid.StringN(1, 5, -1).Draw(t, "fields")
			case 3:
				news.Source = &Refusal{rapid.SampledFrom([]string{"S", "T"}).Draw(t, "source"), "NotSigned", strings.Repeat("€", 1000)}
			case 4:
				ready(y, "False", "Applying")
			case 5:
				y.Status.Telling = y.Status.Telling[min(len(y.Status.Telling), 2):]
			}
			before := y.DeepCopy()
			told, telling, _ := Next(y, &y.Status, news, now)
			if !reflect.DeepEqual(before, y) {
				t.Fatal("an input has changed")
			}
			again := y.DeepCopy()
			again.Status.Told, again.Status.Telling = told, telling
			if told2, telling2, _ := Next(again, &again.Status, news, now); !reflect.DeepEqual(told, told2) || !reflect.DeepEqual(telling, telling2) {
				t.Fatalf("told twice:\n%v\n%v", told, told2)
			}
			y.Status.Told, y.Status.Telling = told, telling
			keys := map[v1alpha1.ToldEvent]bool{}
			for _, k := range told {
				keys[k] = true
			}
			if len(keys) != len(told) || len(told) > 8+maxCorrections || len(telling) > v1alpha1.MaxTelling {
				t.Fatalf("told %v, telling %d", told, len(telling))
			}
			seen := map[string]bool{}
			for _, m := range telling {
				if seen[m.ID] || len(m.Message) > maxMessage+3 {
					t.Fatalf("%+v", m)
				}
				seen[m.ID], ids[m.ID] = true, true
			}
			if last != "" && !slices.ContainsFunc(told, func(k v1alpha1.ToldEvent) bool { return k.Event == last }) {
				t.Fatalf("%s is not among %v", last, told)
			}
			for _, m := range slices.Backward(telling) {
				if m.Event == v1alpha1.NotifyHealthy || m.Event == v1alpha1.NotifyFailed {
					if m.Event != last {
						t.Fatalf("the last word is %s, and %s is true", m.Event, last)
					}
					break
				}
			}
		}
	})
}

func TestBody(t *testing.T) {
	b, err := Body("shop", "web", v1alpha1.Message{ID: "i", Event: "Failed", Commit: "A", Author: "<!channel> @all <x@example.com>", Reason: "Refused", Message: "app/shop/web\nby @here: a > b & c", Time: metav1.NewTime(noon)})
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"text": "shop/web: Failed: app/shop/web by @\u200bhere: a &gt; b &amp; c (by &lt;!channel&gt; @\u200ball)", "id": "i", "event": "Failed", "sync": "shop/web", "commit": "A",
		"author": "<!channel> @all <x@example.com>", "reason": "Refused", "message": "app/shop/web\nby @here: a > b & c", "time": "2026-03-02T12:00:00Z",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestWait(t *testing.T) {
	all := time.Duration(0)
	for i := 1; i < MaxTries; i++ {
		all += Wait(i)
	}
	if Wait(1) != firstWait || Wait(2) != 2*firstWait || Wait(1000) != longestWait || all < 15*time.Minute || all > 30*time.Minute {
		t.Errorf("%s, %s, %s; %s in all", Wait(1), Wait(2), Wait(1000), all)
	}
}

func TestBarred(t *testing.T) {
	for a, barred := range map[string]bool{
		"127.0.0.1": true, "127.8.8.8": true, "::1": true, "::ffff:127.0.0.1": true, "0.0.0.0": true, "::": true,
		"169.254.169.254": true, "::ffff:169.254.169.254": true, "fe80::1": true, "fe80::1%eth0": true, "febf::1": true,
		"64:ff9b::a9fe:a9fe": true, "100.100.100.200": true, "fd00:ec2::254": true, "224.0.0.1": true, "ff02::1": true,
		"10.0.0.1": false, "192.168.1.1": false, "203.0.113.1": false, "2001:db8::1": false, "fd00::1": false, "64:ff9b::808:808": false, "100.64.0.1": false,
	} {
		if why := Barred(netip.MustParseAddr(a), false); (why != "") != barred {
			t.Errorf("%s: %q", a, why)
		}
	}
	for a, barred := range map[string]bool{"127.0.0.1": false, "::1": false, "::ffff:127.0.0.1": false, "0.0.0.0": true, "169.254.169.254": true} {
		if why := Barred(netip.MustParseAddr(a), true); (why != "") != barred {
			t.Errorf("%s with loopback: %q", a, why)
		}
	}
	if Barred(netip.Addr{}, true) == "" {
		t.Error("no address is not barred")
	}
}
