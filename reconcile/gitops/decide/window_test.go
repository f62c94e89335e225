package decide

import (
	"fmt"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // The machine need not have it.

	"pgregory.net/rapid"

	"padis.io/padis/api/v1alpha1"
)

func schedule(t interface{ Fatal(...any) }, ws ...v1alpha1.ChangeWindow) Schedule {
	s, err := NewSchedule(ws, time.LoadLocation)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// when reads "Allow Fri,Sat 22:00-04:00 Europe/Berlin".
func when(text string) v1alpha1.ChangeWindow {
	f := strings.Fields(text)
	w := v1alpha1.ChangeWindow{Action: f[0], TimeZone: f[3]}
	if f[1] != "*" {
		w.Days = strings.Split(f[1], ",")
	}
	w.From, w.To, _ = strings.Cut(f[2], "-")
	return w
}

func TestWindow(t *testing.T) {
	for _, c := range []struct {
		name    string
		windows []string
		now     string
		open    bool
		next    string
	}{
		{"none", nil, "2026-03-02T08:00:00Z", true, ""},
		{"before", []string{"Allow Mon 22:00-23:00 UTC"}, "2026-03-02T08:00:00Z", false, "2026-03-02T22:00:00Z"},
		{"at its begin", []string{"Allow Mon 22:00-23:00 UTC"}, "2026-03-02T22:00:00Z", true, "2026-03-02T23:00:00Z"},
		{"at its end", []string{"Allow Mon 22:00-23:00 UTC"}, "2026-03-02T23:00:00Z", false, "2026-03-09T22:00:00Z"},
		{"over midnight", []string{"Allow Fri 22:00-04:00 UTC"}, "2026-03-07T03:59:59Z", true, "2026-03-07T04:00:00Z"},
		{"not the night before", []string{"Allow Fri 22:00-04:00 UTC"}, "2026-03-06T03:00:00Z", false, "2026-03-06T22:00:00Z"},
		{"to midnight", []string{"Allow Mon 22:00-24:00 UTC"}, "2026-03-02T23:00:00Z", true, "2026-03-03T00:00:00Z"},
		{"to midnight, otherwise", []string{"Allow Mon 22:00-00:00 UTC"}, "2026-03-02T23:00:00Z", true, "2026-03-03T00:00:00Z"},
		{"always", []string{"Allow * 00:00-24:00 UTC"}, "2026-03-02T23:00:00Z", true, ""},
		{"never", []string{"Deny * 00:00-24:00 UTC"}, "2026-03-02T23:00:00Z", false, ""},
		{"denied within", []string{"Allow * 08:00-18:00 UTC", "Deny Fri 12:00-24:00 UTC"}, "2026-03-06T13:00:00Z", false, "2026-03-07T08:00:00Z"},
		{"denied only", []string{"Deny Fri 12:00-24:00 UTC"}, "2026-03-02T08:00:00Z", true, "2026-03-06T12:00:00Z"},
		{"two that touch", []string{"Allow Mon 08:00-12:00 UTC", "Allow Mon 12:00-13:00 UTC"}, "2026-03-02T09:00:00Z", true, "2026-03-02T13:00:00Z"},
		{"a zone", []string{"Allow * 08:00-18:00 Europe/Berlin"}, "2026-03-02T06:59:59Z", false, "2026-03-02T07:00:00Z"},
		{"a zone with half hours", []string{"Allow * 08:00-18:00 Asia/Kolkata"}, "2026-03-02T02:00:00Z", false, "2026-03-02T02:30:00Z"},
		// 29 March 2026: at 02:00 clocks in Berlin go to 03:00.
		{"summer begins", []string{"Allow Sun 01:00-04:00 Europe/Berlin"}, "2026-03-29T00:30:00Z", true, "2026-03-29T02:00:00Z"},
		{"a skipped begin", []string{"Allow Sun 02:30-04:00 Europe/Berlin"}, "2026-03-29T00:30:00Z", false, "2026-03-29T01:00:00Z"},
		{"a skipped window", []string{"Allow Sun 02:10-02:50 Europe/Berlin"}, "2026-03-28T12:00:00Z", false, "2026-04-05T00:10:00Z"},
		// 25 October 2026: at 03:00 they go back to 02:00.
		{"summer ends", []string{"Allow Sun 01:00-04:00 Europe/Berlin"}, "2026-10-24T23:30:00Z", true, "2026-10-25T03:00:00Z"},
		{"a repeated window", []string{"Allow Sun 02:10-02:50 Europe/Berlin"}, "2026-10-25T00:50:00Z", false, "2026-10-25T01:10:00Z"},
		{"a repeated end", []string{"Allow Sun 01:00-02:30 Europe/Berlin"}, "2026-10-25T00:30:00Z", false, "2026-10-25T01:00:00Z"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var ws []v1alpha1.ChangeWindow
			for _, w := range c.windows {
				ws = append(ws, when(w))
			}
			now, err := time.Parse(time.RFC3339, c.now)
			if err != nil {
				t.Fatal(err)
			}
			open, next := Window(now, schedule(t, ws...))
			text := ""
			if !next.IsZero() {
				text = next.UTC().Format(time.RFC3339)
			}
			if open != c.open || text != c.next {
				t.Errorf("open %t, next %s; want %t, %s", open, text, c.open, c.next)
			}
		})
	}
}

// The next change is the first one: up to it every minute is as now, and at it none is.
func TestTheNextChangeIsTheFirst(t *testing.T) {
	clock := rapid.Custom(func(t *rapid.T) string {
		return fmt.Sprintf("%02d:%02d", rapid.IntRange(0, 23).Draw(t, "hour"), rapid.SampledFrom([]int{0, 15, 30, 59}).Draw(t, "minute"))
	})
	zones := []string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Sao_Paulo", "Pacific/Apia"}
	rapid.Check(t, func(t *rapid.T) {
		var ws []v1alpha1.ChangeWindow
		for range rapid.IntRange(1, 3).Draw(t, "windows") {
			w := v1alpha1.ChangeWindow{Action: rapid.SampledFrom([]string{v1alpha1.WindowAllow, v1alpha1.WindowDeny}).Draw(t, "action"),
				From: clock.Draw(t, "from"), To: clock.Draw(t, "to"), TimeZone: rapid.SampledFrom(zones).Draw(t, "zone")}
			if w.From == w.To {
				w.From, w.To = "00:00", "24:00"
			}
			w.Days = rapid.SliceOfDistinct(rapid.SampledFrom(v1alpha1.Days()), func(d string) string { return d }).Draw(t, "days")
			ws = append(ws, w)
		}
		// Changes of clocks are about the end of March and October; all zones change at whole minutes then.
		now := time.Date(2026, time.Month(rapid.SampledFrom([]int{3, 4, 10, 11}).Draw(t, "month")), rapid.IntRange(1, 31).Draw(t, "day"),
			rapid.IntRange(0, 23).Draw(t, "hour"), rapid.IntRange(0, 59).Draw(t, "minute"), 0, 0, time.UTC)
		s := schedule(t, ws...)
		open, next := Window(now, s)
		end := next
		if next.IsZero() {
			end = now.Add(horizon)
		} else if s.open(next) == open {
			t.Fatalf("nothing changes at %s", next)
		}
		for at := now; at.Before(end); at = at.Add(time.Minute) {
			if s.open(at) != open {
				t.Fatalf("changes at %s already, and not first at %s", at, next)
			}
		}
	})
}

func TestWindowsThatCannotBeRead(t *testing.T) {
	for text, want := range map[string]string{
		"Allow * 25:00-04:00 UTC":        "spec.windows[0].from",
		"Allow * 22:00-4 UTC":            "spec.windows[0].to",
		"Allow * 22:00-04:00 Mars/North": `spec.windows[0].timeZone: "Mars/North"`,
	} {
		if _, err := NewSchedule([]v1alpha1.ChangeWindow{when(text)}, time.LoadLocation); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
