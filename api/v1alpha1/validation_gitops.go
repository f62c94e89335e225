package v1alpha1

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Days of change windows, as time.Weekday counts them.
func Days() []string { return []string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"} }

// ValidateGitSource finds what the schema cannot say of one GitSource: names of branches and tags that git does not allow,
// signers that stand for nobody, and known hosts that cannot be read.
func ValidateGitSource(s *GitSource) field.ErrorList {
	var errs field.ErrorList
	ref := field.NewPath("spec", "ref")
	for _, r := range []struct{ name, value string }{{"branch", s.Spec.Ref.Branch}, {"tag", s.Spec.Ref.Tag}} {
		if why := refProblem(r.value); r.value != "" && why != "" {
			errs = append(errs, field.Invalid(ref.Child(r.name), r.value, why+": write the name as git "+r.name+" prints it"))
		}
	}
	for i, line := range strings.Split(s.Spec.KnownHosts, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if fields := strings.Fields(line); len(fields) < 3 {
			errs = append(errs, field.Invalid(field.NewPath("spec", "knownHosts"), line,
				fmt.Sprintf("line %d is not a line of a known_hosts file: HOST TYPE KEY, as ssh-keyscan prints it", i+1)))
		}
	}
	if v := s.Spec.Verify; v != nil {
		for i, signer := range v.Signers {
			for j, p := range signer.Paths {
				if why := globProblem(p); why != "" {
					errs = append(errs, field.Invalid(field.NewPath("spec", "verify", "signers").Index(i).Child("paths").Index(j), p, why))
				}
			}
		}
	}
	return errs
}

// refProblem says why git would not allow a name (git-check-ref-format); empty if it does.
func refProblem(name string) string {
	switch {
	case strings.HasPrefix(name, "refs/"):
		return "begins with refs/"
	case strings.HasPrefix(name, "-"), strings.HasPrefix(name, "/"), strings.HasSuffix(name, "/"), strings.HasSuffix(name, "."):
		return "begins with - or /, or ends with / or ."
	case strings.Contains(name, ".."), strings.Contains(name, "//"), strings.Contains(name, "@{"), name == "@":
		return "contains .., // or @{"
	case strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(`~^:?*[\`, r) }):
		return `contains a space, a control character or one of ~^:?*[\`
	}
	for part := range strings.SplitSeq(name, "/") {
		if strings.HasPrefix(part, ".") || strings.HasSuffix(part, ".lock") {
			return "has a part that begins with . or ends with .lock"
		}
	}
	return ""
}

// globProblem says why a pattern of paths matches nothing; empty if it may match.
func globProblem(pattern string) string {
	for part := range strings.SplitSeq(pattern, "/") {
		switch {
		case part == "":
			return "has an empty part: write one / between parts, and ** for all below"
		case strings.Contains(part, "**") && part != "**":
			return "** stands for whole parts: write it between slashes, for example apps/**"
		}
	}
	return ""
}

// ValidateSync finds what the schema cannot say of one Sync: variables that are given twice, windows that are empty or in
// time zones that zone does not know, Syncs that wait for themselves. zone is time.LoadLocation; nil leaves time zones out.
func ValidateSync(s *Sync, zone func(string) (*time.Location, error)) field.ErrorList {
	var errs field.ErrorList
	spec := field.NewPath("spec")
	seen := map[string]int{}
	for i, v := range s.Spec.Variables {
		if v.Name == "" {
			continue
		}
		if first, twice := seen[v.Name]; twice {
			errs = append(errs, field.Invalid(spec.Child("variables").Index(i).Child("name"), v.Name,
				fmt.Sprintf("has a value already at spec.variables[%d]: remove one of them", first)))
			continue
		}
		seen[v.Name] = i
	}
	for i, d := range s.Spec.DependsOn {
		path := spec.Child("dependsOn").Index(i)
		name := d.In(s.Namespace)
		if name == s.Namespace+"/"+s.Name {
			errs = append(errs, field.Invalid(path, name, "is the Sync itself, which would wait for ever: remove it"))
		}
		if first := slices.IndexFunc(s.Spec.DependsOn, func(o SyncReference) bool { return o.In(s.Namespace) == name }); first < i {
			errs = append(errs, field.Duplicate(path, name))
		}
	}
	for i, w := range s.Spec.Windows {
		errs = append(errs, validateWindow(w, spec.Child("windows").Index(i), zone)...)
	}
	if initial, longest := s.Spec.Retry.Times(); longest < initial {
		errs = append(errs, field.Invalid(spec.Child("retry", "max"), longest.String(), fmt.Sprintf("is less than spec.retry.interval, %s: raise it", initial)))
	}
	return errs
}

func validateWindow(w ChangeWindow, path *field.Path, zone func(string) (*time.Location, error)) field.ErrorList {
	var errs field.ErrorList
	for _, t := range []struct{ name, value string }{{"from", w.From}, {"to", w.To}} {
		if _, err := ParseClock(t.value); err != nil {
			errs = append(errs, field.Invalid(path.Child(t.name), t.value, "must be a time from 00:00 to 24:00"))
		}
	}
	if w.From == w.To {
		errs = append(errs, field.Invalid(path.Child("to"), w.To, "is when the window begins: a window for the whole day is from 00:00 to 24:00"))
	}
	for i, d := range w.Days {
		if !slices.Contains(Days(), d) {
			errs = append(errs, field.NotSupported(path.Child("days").Index(i), d, Days()))
		}
	}
	if zone != nil {
		if _, err := zone(w.Zone()); err != nil {
			errs = append(errs, field.Invalid(path.Child("timeZone"), w.TimeZone, "is not known: write a name of the IANA database, for example Europe/Berlin"))
		}
	}
	return errs
}

// ParseClock gives the time of the day that HH:MM stands for; 24:00 is the end of the day.
func ParseClock(s string) (time.Duration, error) {
	if s == "24:00" {
		return 24 * time.Hour, nil
	}
	t, err := time.Parse("15:04", s)
	if err != nil || len(s) != len("15:04") {
		return 0, fmt.Errorf("%q is not a time of the day: write HH:MM, for example 22:00", s)
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, nil
}

// In is the NAMESPACE/NAME of the Sync that is meant, seen from a namespace.
func (r SyncReference) In(namespace string) string {
	if r.Namespace != "" {
		namespace = r.Namespace
	}
	return namespace + "/" + r.Name
}

// In is the NAMESPACE/NAME of the GitSource that is meant, seen from a namespace.
func (r SourceReference) In(namespace string) string { return SyncReference(r).In(namespace) }

// Zone is the name of the time zone.
func (w *ChangeWindow) Zone() string {
	if w.TimeZone == "" {
		return "UTC"
	}
	return w.TimeZone
}

// Times gives the first and the longest wait before an attempt is repeated.
func (r *SyncRetry) Times() (initial, longest time.Duration) {
	return durationOr(r.Interval, DefaultRetryInterval), durationOr(r.Max, DefaultRetryMax)
}

// Times gives the interval and the timeout of a fetch.
func (s *GitSourceSpec) Times() (interval, timeout time.Duration) {
	return durationOr(s.Interval, DefaultFetchInterval), durationOr(s.Timeout, DefaultFetchTimeout)
}

// Times gives how long writing may take, and how long until all is healthy.
func (s *SyncSpec) Times() (write, health time.Duration) {
	return durationOr(s.Timeout, DefaultSyncTimeout), durationOr(s.HealthTimeout, DefaultSyncHealthTimeout)
}

// Corrects tells whether fields that others have changed are put back.
func (s *SyncSpec) Corrects() bool { return s.Drift != DriftReport }

// Mode is what must be signed.
func (s *GitSourceSpec) Mode() string {
	switch {
	case s.Verify == nil:
		return VerifyNone
	case s.Verify.Mode == "":
		return VerifyCommit
	}
	return s.Verify.Mode
}
