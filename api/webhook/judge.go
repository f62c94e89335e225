package webhook

import (
	"fmt"
	"strings"

	"padis.io/padis/api/v1alpha1"
)

// Root is the path below which GitSources are called.
const Root = "/webhooks/"

// Path is where the server of a GitSource has to call.
func Path(namespace, name string) string { return Root + namespace + "/" + name }

// ReasonOtherType refuses an event of another sender than the source expects.
const ReasonOtherType Reason = "OtherType"

// Reasons of verdicts.
const (
	ReasonFetch           Reason = "Fetch"
	ReasonNoPush          Reason = "NoPush"
	ReasonOtherRepository Reason = "OtherRepository"
	ReasonOtherRef        Reason = "OtherRef"
	ReasonSuspended       Reason = "Suspended"
)

// Verdict is what follows from an event.
type Verdict struct {
	// Fetch tells whether the source is to be fetched now.
	Fetch   bool
	Reason  Reason
	Message string
}

// Judge tells whether an event is worth a fetch of a source. In doubt it is: a fetch of nothing new is cheap.
func Judge(s *v1alpha1.GitSourceSpec, e Event) (Verdict, error) {
	if w := s.Webhook; w == nil || w.Type != string(e.Kind) {
		want := "not set"
		if w != nil {
			want = w.Type
		}
		return Verdict{}, &Error{ReasonOtherType, fmt.Sprintf("this is an event of %s, and spec.webhook.type is %s: correct it, or choose the other type in the sender's settings", e.Kind, want)}
	}
	no := func(r Reason, format string, args ...any) (Verdict, error) {
		return Verdict{Reason: r, Message: "nothing is fetched: " + fmt.Sprintf(format, args...)}, nil
	}
	switch {
	case !e.Push:
		return no(ReasonNoPush, "the event is no push")
	case !e.About(s.URL):
		return no(ReasonOtherRepository, "the event is of %s, and spec.url is %s: correct one of them if they are meant to be the same", strings.Join(e.URLs, ", "), s.URL)
	case !concerns(e.Ref, s.Ref):
		return no(ReasonOtherRef, "%s was pushed, which spec.ref does not follow", e.Ref)
	case s.Suspend:
		return no(ReasonSuspended, "spec.suspend is set")
	}
	return Verdict{Fetch: true, Reason: ReasonFetch, Message: "the source is fetched now"}, nil
}

// concerns tells whether what a source follows may have moved with a ref. Without a branch that of the server's HEAD is
// meant, which may have become another one; and a commit that was missing may have come with any ref.
func concerns(pushed string, r v1alpha1.GitRef) bool {
	switch {
	case !strings.HasPrefix(pushed, "refs/"), r.Commit != "":
		return true
	case r.Tag != "":
		return pushed == "refs/tags/"+r.Tag
	case r.Semver != "":
		return strings.HasPrefix(pushed, "refs/tags/")
	case r.Branch != "":
		return pushed == "refs/heads/"+r.Branch
	}
	return strings.HasPrefix(pushed, "refs/heads/")
}
