package webhook

import (
	"errors"
	"strings"
	"testing"

	"padis.io/padis/api/v1alpha1"
)

func TestJudge(t *testing.T) {
	const url = "https://git.example/shop/deploy"
	push := func(ref string) Event { return Event{Kind: GitHub, Push: true, URLs: []string{url + ".git"}, Ref: ref} }
	for _, c := range []struct {
		name   string
		change func(*v1alpha1.GitSourceSpec)
		event  Event
		want   Reason
	}{
		{"any branch of a source that follows HEAD", nil, push("refs/heads/main"), ReasonFetch},
		{"a tag, for a source that follows HEAD", nil, push("refs/tags/v1"), ReasonOtherRef},
		{"a sender that names no ref", nil, push(""), ReasonFetch},
		{"a sender that names a ref in a way of its own", func(s *v1alpha1.GitSourceSpec) { s.Ref.Branch = "other" }, push("main"), ReasonFetch},
		{"its branch", func(s *v1alpha1.GitSourceSpec) { s.Ref.Branch = "main" }, push("refs/heads/main"), ReasonFetch},
		{"another branch", func(s *v1alpha1.GitSourceSpec) { s.Ref.Branch = "main" }, push("refs/heads/main2"), ReasonOtherRef},
		{"a tag of the name of its branch", func(s *v1alpha1.GitSourceSpec) { s.Ref.Branch = "main" }, push("refs/tags/main"), ReasonOtherRef},
		{"its tag", func(s *v1alpha1.GitSourceSpec) { s.Ref.Tag = "v1" }, push("refs/tags/v1"), ReasonFetch},
		{"another tag", func(s *v1alpha1.GitSourceSpec) { s.Ref.Tag = "v1" }, push("refs/tags/v2"), ReasonOtherRef},
		{"any tag of a range", func(s *v1alpha1.GitSourceSpec) { s.Ref.Semver = "^1" }, push("refs/tags/v2"), ReasonFetch},
		{"a branch, for a range", func(s *v1alpha1.GitSourceSpec) { s.Ref.Semver = "^1" }, push("refs/heads/main"), ReasonOtherRef},
		{"anything, for a commit", func(s *v1alpha1.GitSourceSpec) { s.Ref.Commit, s.Ref.Branch = commit, "main" }, push("refs/heads/other"), ReasonFetch},
		{"another repository", func(s *v1alpha1.GitSourceSpec) { s.URL = "https://git.example/shop/other" }, push("refs/heads/main"), ReasonOtherRepository},
		{"a source that is suspended", func(s *v1alpha1.GitSourceSpec) { s.Suspend = true }, push("refs/heads/main"), ReasonSuspended},
		{"a ping", nil, Event{Kind: GitHub}, ReasonNoPush},
		{"an event of another type", nil, Event{Kind: GitLab, Push: true}, ReasonOtherType},
		{"a source without webhook", func(s *v1alpha1.GitSourceSpec) { s.Webhook = nil }, push("refs/heads/main"), ReasonOtherType},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := v1alpha1.GitSourceSpec{URL: url, Webhook: &v1alpha1.GitWebhook{Type: v1alpha1.WebhookGitHub}}
			if c.change != nil {
				c.change(&s)
			}
			v, err := Judge(&s, c.event)
			got, message := v.Reason, v.Message
			var e *Error
			if errors.As(err, &e) {
				got, message = e.Reason, e.Message
			}
			if got != c.want || v.Fetch != (c.want == ReasonFetch) || message == "" {
				t.Errorf("got %+v, %v, want %s", v, err, c.want)
			}
			if c.want == ReasonOtherRepository && (!strings.Contains(message, url) || !strings.Contains(message, s.URL)) {
				t.Errorf("both repositories must be named: %s", message)
			}
		})
	}
}
