package decide

import (
	"fmt"
	"slices"
	"time"

	"padis.io/padis/api/v1alpha1"
)

// horizon is how far ahead the next change is looked for. Windows repeat weekly, but one may fall into the hour that clocks
// skip and so be missing for a week.
const horizon = 22 * 24 * time.Hour

// day is a whole day on a clock.
const day = 24 * time.Hour

// Schedule are change windows with their time zones.
type Schedule struct{ windows []window }

type window struct {
	deny     bool
	days     [7]bool
	from, to time.Duration
	zone     *time.Location
}

// NewSchedule reads change windows. zone is time.LoadLocation.
func NewSchedule(windows []v1alpha1.ChangeWindow, zone func(string) (*time.Location, error)) (Schedule, error) {
	var s Schedule
	for i, w := range windows {
		out := window{deny: w.Action == v1alpha1.WindowDeny}
		var err error
		if out.from, err = v1alpha1.ParseClock(w.From); err != nil {
			return Schedule{}, fmt.Errorf("spec.windows[%d].from: %w", i, err)
		}
		if out.to, err = v1alpha1.ParseClock(w.To); err != nil {
			return Schedule{}, fmt.Errorf("spec.windows[%d].to: %w", i, err)
		}
		if out.zone, err = zone(w.Zone()); err != nil {
			return Schedule{}, fmt.Errorf("spec.windows[%d].timeZone: %q: %w: write a name of the IANA database, for example Europe/Berlin", i, w.Zone(), err)
		}
		for n, name := range v1alpha1.Days() {
			out.days[n] = len(w.Days) == 0 || slices.Contains(w.Days, name)
		}
		s.windows = append(s.windows, out)
	}
	return s, nil
}

// Window tells whether changes may be made now, and when that changes next; the zero time if it does not within three
// weeks, which is never. A window is open while a clock in its time zone shows a time in it.
func Window(now time.Time, s Schedule) (open bool, next time.Time) {
	open = s.open(now)
	for t := now; t.Sub(now) < horizon; {
		t = s.step(t)
		if t.IsZero() {
			break
		}
		if s.open(t) != open {
			return open, t
		}
	}
	return open, time.Time{}
}

// open tells whether changes may be made at a time: within an allowing window, if there are any, and in none that denies.
func (s Schedule) open(t time.Time) bool {
	allowed, some := false, false
	for _, w := range s.windows {
		in := w.contains(t)
		if w.deny {
			if in {
				return false
			}
			continue
		}
		some = true
		allowed = allowed || in
	}
	return allowed || !some
}

// step is the first time after t at which a window may begin or end, or clocks are changed; zero without windows.
func (s Schedule) step(t time.Time) time.Time {
	var first time.Time
	for _, w := range s.windows {
		if at := w.step(t); first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}

// clock is what a clock on the wall shows: the day of the week, and the time since its midnight.
func (w window) clock(t time.Time) (time.Weekday, time.Duration) {
	l := t.In(w.zone)
	return l.Weekday(), time.Duration(l.Hour())*time.Hour + time.Duration(l.Minute())*time.Minute +
		time.Duration(l.Second())*time.Second + time.Duration(l.Nanosecond())
}

func (w window) contains(t time.Time) bool {
	weekday, at := w.clock(t)
	if w.from < w.to {
		return w.days[weekday] && w.from <= at && at < w.to
	}
	return w.days[weekday] && at >= w.from || w.days[(weekday+6)%7] && at < w.to
}

// step is the first time after t at which the clock shows a beginning, an end or midnight, or is changed. Until then it runs
// like any other.
func (w window) step(t time.Time) time.Time {
	_, at := w.clock(t)
	ahead := day - at
	for _, mark := range [...]time.Duration{w.from, w.to} {
		if mark > at && mark-at < ahead {
			ahead = mark - at
		}
	}
	next := t.Add(ahead)
	if _, changed := t.In(w.zone).ZoneBounds(); !changed.IsZero() && changed.Before(next) {
		next = changed
	}
	return next
}
