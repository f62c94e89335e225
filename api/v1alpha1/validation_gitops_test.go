package v1alpha1

import (
	"errors"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// knownZone stands for time.LoadLocation: what a machine has installed is not what is tested here.
func knownZone(name string) (*time.Location, error) {
	if name == "UTC" || name == "Europe/Berlin" {
		return time.UTC, nil
	}
	return nil, errors.New("unknown time zone " + name)
}

func TestGitSourcesThatCannotBe(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*GitSourceSpec)
		want   string
	}{
		{"a plain one", func(*GitSourceSpec) {}, ""},
		{"branch with slashes", func(s *GitSourceSpec) { s.Ref.Branch = "release/1.4" }, ""},
		{"known hosts", func(s *GitSourceSpec) { s.KnownHosts = "# ours\n\n[git.example.com]:2222 ssh-ed25519 AAAA\n" }, ""},
		{"full ref", func(s *GitSourceSpec) { s.Ref.Branch = "refs/heads/main" }, "spec.ref.branch: Invalid value: \"refs/heads/main\": begins with refs/"},
		{"two dots", func(s *GitSourceSpec) { s.Ref.Tag = "v1..v2" }, "spec.ref.tag"},
		{"an option", func(s *GitSourceSpec) { s.Ref.Branch = "--upload-pack=x" }, "spec.ref.branch"},
		{"a space", func(s *GitSourceSpec) { s.Ref.Branch = "a b" }, "contains a space"},
		{"a lock", func(s *GitSourceSpec) { s.Ref.Branch = "a/b.lock" }, ".lock"},
		{"hosts without key", func(s *GitSourceSpec) { s.KnownHosts = "git.example.com ssh-ed25519 AAAA\ngit.example.com\n" }, "line 2 is not a line of a known_hosts file"},
		{"stars", func(s *GitSourceSpec) {
			s.Verify = &GitVerify{Signers: []GitSigner{{Type: SignerSSH, Paths: []string{"apps/**", "a**b"}}}}
		}, "spec.verify.signers[0].paths[1]"},
		{"slashes", func(s *GitSourceSpec) {
			s.Verify = &GitVerify{Signers: []GitSigner{{Type: SignerSSH, Paths: []string{"apps//x"}}}}
		}, "has an empty part"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &GitSource{Spec: GitSourceSpec{URL: "https://git.example.com/shop.git"}}
			c.change(&s.Spec)
			refused(t, ValidateGitSource(s).ToAggregate(), c.want)
		})
	}
}

func TestSyncsThatCannotBe(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*SyncSpec)
		want   string
	}{
		{"a plain one", func(*SyncSpec) {}, ""},
		{"windows", func(s *SyncSpec) {
			s.Windows = []ChangeWindow{{Days: []string{"Mon"}, From: "22:00", To: "04:00", TimeZone: "Europe/Berlin"}, {From: "00:00", To: "24:00"}}
		}, ""},
		{"a variable twice", func(s *SyncSpec) { s.Variables = []SyncVariable{{Name: "A"}, {Name: "B"}, {Name: "A"}} }, "spec.variables[2].name: Invalid value: \"A\": has a value already at spec.variables[0]"},
		{"itself", func(s *SyncSpec) { s.DependsOn = []SyncReference{{Name: "web"}} }, "is the Sync itself"},
		{"itself by namespace", func(s *SyncSpec) { s.DependsOn = []SyncReference{{Namespace: "shop", Name: "web"}} }, "is the Sync itself"},
		{"its namesake", func(s *SyncSpec) { s.DependsOn = []SyncReference{{Namespace: "infra", Name: "web"}} }, ""},
		{"one twice", func(s *SyncSpec) { s.DependsOn = []SyncReference{{Name: "a"}, {Namespace: "shop", Name: "a"}} }, "spec.dependsOn[1]: Duplicate value: \"shop/a\""},
		{"an empty window", func(s *SyncSpec) { s.Windows = []ChangeWindow{{From: "22:00", To: "22:00"}} }, "spec.windows[0].to"},
		{"an unknown zone", func(s *SyncSpec) { s.Windows = []ChangeWindow{{From: "22:00", To: "23:00", TimeZone: "Europe/Berlim"}} }, "spec.windows[0].timeZone: Invalid value: \"Europe/Berlim\""},
		{"an unknown day", func(s *SyncSpec) { s.Windows = []ChangeWindow{{Days: []string{"Mo"}, From: "22:00", To: "23:00"}} }, "spec.windows[0].days[0]"},
		{"an unknown time", func(s *SyncSpec) { s.Windows = []ChangeWindow{{From: "9:00", To: "23:00"}} }, "spec.windows[0].from"},
		{"retries", func(s *SyncSpec) { s.Retry.Interval = &metav1.Duration{Duration: time.Hour} }, "spec.retry.max: Invalid value: \"5m0s\": is less than spec.retry.interval, 1h0m0s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &Sync{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}, Spec: SyncSpec{SourceRef: SourceReference{Name: "shop"}}}
			c.change(&s.Spec)
			refused(t, ValidateSync(s, knownZone).ToAggregate(), c.want)
		})
	}
}

func refused(t *testing.T, err error, want string) {
	t.Helper()
	if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("said %v, want %q", err, want)
	}
}

func TestDefaultsOfSyncs(t *testing.T) {
	var s Sync
	if write, health := s.Spec.Times(); write != 5*time.Minute || health != 10*time.Minute {
		t.Error(write, health)
	}
	if !s.Spec.Corrects() {
		t.Error("drift is corrected where nothing is said")
	}
	var g GitSource
	if g.Spec.Mode() != VerifyNone {
		t.Error(g.Spec.Mode())
	}
	g.Spec.Verify = &GitVerify{}
	if g.Spec.Mode() != VerifyCommit {
		t.Error("who lists signers wants commits to be signed")
	}
	if got := (SourceReference{Name: "a"}).In("shop"); got != "shop/a" {
		t.Error(got)
	}
}

func FuzzParseClock(f *testing.F) {
	for _, s := range []string{"00:00", "24:00", "23:59", "9:00", "24:01", "+1:00", "1O:00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseClock(s)
		if err != nil {
			return
		}
		if d < 0 || d > 24*time.Hour || d%time.Minute != 0 || len(s) != 5 {
			t.Errorf("%q is %s", s, d)
		}
	})
}
