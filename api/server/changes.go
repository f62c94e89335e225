package server

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	auditapi "k8s.io/apiserver/pkg/apis/audit"
	machinery "k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/server/audit"
	"padis.io/padis/api/server/audit/change"
)

const (
	// objectsKey is the annotation of an audit event in which what admission saw gets to the log.
	objectsKey = "padis.io/objects"
	// maxRequestID bounds what clients may call their requests, maxManager how they may call themselves, maxMessage what is
	// kept of a refusal.
	maxRequestID, maxManager, maxMessage = 64, 128, 512
	// complainEvery is how often it is said that lines are lost.
	complainEvery = 10 * time.Second
)

// isChange tells which requests are changes of what is declared: all writes, but to what Padis or clients keep for
// themselves, and to the projections, which have an audit of their own.
func isChange(a authorizer.Attributes) bool {
	if !a.IsResourceRequest() || a.GetUser() == nil {
		return false
	}
	switch a.GetVerb() {
	case "create", "update", "patch", "delete", "deletecollection":
	default:
		return false
	}
	switch a.GetAPIGroup() {
	case runtime.GroupVersion.Group, "authorization.k8s.io", "authentication.k8s.io", "coordination.k8s.io":
		return false
	case "":
		if a.GetResource() == "events" {
			return false
		}
	}
	if a.GetUser().GetName() == user.APIServerUser {
		// That an App has changed is told already.
		return a.GetSubresource() != "status" && a.GetResource() != revisions
	}
	return true
}

// auditPolicy has the machinery tell of such requests when they are over. Bodies are not its affair: the differences are
// taken in admission, where both sides are known.
type auditPolicy struct{}

func (auditPolicy) EvaluatePolicyRule(a authorizer.Attributes) machinery.RequestAuditConfig {
	if !isChange(a) {
		return machinery.RequestAuditConfig{Level: auditapi.LevelNone}
	}
	return machinery.RequestAuditConfig{Level: auditapi.LevelMetadata, OmitStages: []auditapi.Stage{auditapi.StageRequestReceived, auditapi.StageResponseStarted}}
}

// seen is an object as admission saw it.
type seen struct {
	Kind      string         `json:"kind,omitempty"`
	Namespace string         `json:"namespace,omitempty"`
	Name      string         `json:"name,omitempty"`
	Fields    []change.Field `json:"fields,omitempty"`
	Omitted   int            `json:"omitted,omitempty"`
	// DryRun says that nothing is written.
	DryRun bool `json:"dryRun,omitempty"`
}

// sighting collects what admission sees of one request. A write that is tried again is seen again: the last time counts.
type sighting struct {
	mu      sync.Mutex
	objects []seen
	at      map[[2]string]int
}

type sightingKey struct{}

func (s *sighting) add(o seen) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := [2]string{o.Namespace, o.Name}
	if i, again := s.at[key]; again {
		s.objects[i] = o
		return
	}
	if s.at == nil {
		s.at = map[[2]string]int{}
	}
	s.at[key] = len(s.objects)
	s.objects = append(s.objects, o)
}

func (s *sighting) encode() (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.objects) == 0 {
		return "", false
	}
	b, err := json.Marshal(s.objects)
	return string(b), err == nil
}

// observe lets admission tell what it sees of requests that are audited.
func observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		event := machinery.AuditContextFrom(r.Context())
		if event == nil || event.GetEventLevel().Less(auditapi.LevelMetadata) {
			next.ServeHTTP(w, r)
			return
		}
		s := &sighting{}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), sightingKey{}, s)))
		if text, ok := s.encode(); ok {
			machinery.AddAuditAnnotation(r.Context(), objectsKey, text)
		}
	})
}

// observed is the admission chain with an eye on what it is asked.
type observed struct {
	*admissionChain
	digest func([]byte) string
}

// Validate sees objects as they would be stored; the chain's judgement may still be that they are not.
func (o observed) Validate(ctx context.Context, a admission.Attributes, i admission.ObjectInterfaces) error {
	if s, ok := ctx.Value(sightingKey{}).(*sighting); ok {
		s.add(o.look(a))
	}
	return o.admissionChain.Validate(ctx, a, i)
}

func (o observed) look(a admission.Attributes) seen {
	out := seen{Kind: a.GetKind().Kind, Namespace: a.GetNamespace(), Name: a.GetName(), DryRun: a.IsDryRun()}
	before, after := content(a.GetOldObject()), content(a.GetObject())
	for _, m := range []map[string]any{before, after} {
		// Of a generated name, or one of a collection, only the object knows.
		if n, _, _ := unstructured.NestedString(m, "metadata", "name"); n != "" {
			out.Name = n
		}
	}
	out.Fields, out.Omitted = change.Diff(before, after, change.Rules{Kind: out.Kind, Status: a.GetSubresource() == "status", Digest: o.digest})
	return out
}

// content is an object as JSON has it; nil for none, and for definitions, whose Go type has no JSON form here.
func content(o kruntime.Object) map[string]any {
	switch o := o.(type) {
	case nil:
		return nil
	case *unstructured.Unstructured:
		return o.Object
	}
	if o.GetObjectKind().GroupVersionKind().Group == "apiextensions.k8s.io" {
		return nil
	}
	m, err := kruntime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return nil
	}
	return m
}

// newDigest makes digests that nobody can find the contents of by trying: they have a key that lives as long as the process.
func newDigest() func([]byte) string {
	key := make([]byte, 32)
	// It never fails: it ends the program rather.
	_, _ = rand.Read(key)
	return func(b []byte) string {
		mac := hmac.New(sha256.New, key)
		_, _ = mac.Write(b)
		return hex.EncodeToString(mac.Sum(nil)[:8])
	}
}

// auditBackend makes lines of audit events.
type auditBackend struct {
	log *audit.Log
	zap *zap.Logger
	// told is how many lines were missing when that was last said, and when that was.
	told, toldAt atomic.Int64
}

func (*auditBackend) Run(<-chan struct{}) error { return nil }
func (*auditBackend) Shutdown()                 {}
func (*auditBackend) String() string            { return "padis" }

// ProcessEvents has the lines of events written. What is written already cannot be held back for its line: a line that is
// lost is counted.
func (b *auditBackend) ProcessEvents(events ...*auditapi.Event) bool {
	whole := true
	for _, e := range events {
		whole = b.log.Changed(linesOf(e)...) && whole
	}
	if missing, now := b.log.Missing(), time.Now().UnixNano(); missing > b.told.Load() && now-b.toldAt.Load() > int64(complainEvery) {
		b.told.Store(missing)
		b.toldAt.Store(now)
		b.zap.Error("lines of the audit log are lost: the disk is full, or too slow", zap.Int64("missing", missing))
	}
	return whole
}

// linesOf makes a line for each object of a request; one without an object when it was refused before one was looked at,
// and none when it was a trial.
func linesOf(e *auditapi.Event) []change.Line {
	line, trial := lineOf(e)
	if trial {
		return nil
	}
	var objects []seen
	if text := e.Annotations[objectsKey]; text != "" {
		// Made by observe: it can be read.
		_ = json.Unmarshal([]byte(text), &objects)
	}
	if len(objects) == 0 {
		return []change.Line{line}
	}
	var out []change.Line
	for _, o := range objects {
		if o.DryRun {
			continue
		}
		one := line
		one.Kind, one.Name, one.Fields, one.Omitted = o.Kind, o.Name, o.Fields, o.Omitted
		if o.Namespace != "" {
			one.Namespace = o.Namespace
		}
		out = append(out, one)
	}
	return out
}

func lineOf(e *auditapi.Event) (line change.Line, trial bool) {
	line = change.Line{
		Time: e.RequestReceivedTimestamp.UTC(), Event: change.Changed, Request: short(string(e.AuditID), maxRequestID), User: e.User.Username, Groups: e.User.Groups, Verb: e.Verb,
		Commit: first(e.User.Extra[commitExtra]), Author: first(e.User.Extra[authorExtra]), Signer: first(e.User.Extra[signerExtra]),
	}
	if as := e.ImpersonatedUser; as != nil {
		line.As, line.AsGroups = as.Username, as.Groups
	}
	if o := e.ObjectRef; o != nil {
		line.Resource, line.Subresource = schema.GroupResource{Group: o.APIGroup, Resource: o.Resource}.String(), o.Subresource
		line.Namespace, line.Name = o.Namespace, o.Name
	}
	if s := e.ResponseStatus; s != nil {
		line.Code, line.Reason = s.Code, string(s.Reason)
		// Why a Secret is not valid may say what is in it.
		if s.Code >= http.StatusBadRequest && line.Resource != "secrets" {
			line.Message = short(s.Message, maxMessage)
		}
	}
	line.Manager, _, _ = strings.Cut(e.UserAgent, "/")
	if u, err := url.ParseRequestURI(e.RequestURI); err == nil {
		q := u.Query()
		if m := q.Get("fieldManager"); m != "" {
			line.Manager = m
		}
		trial = q.Get("dryRun") != ""
	}
	line.Manager = short(line.Manager, maxManager)
	return line, trial
}

func first[S ~[]string](s S) string {
	if len(s) == 0 {
		return ""
	}
	return s[0]
}

func short(s string, n int) string {
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "")
	}
	return s
}

// auditPath is where the lines can be read, by those who are allowed to get it: without rules that say otherwise, masters.
const auditPath = "/audit"

// serveAudit answers with the lines that the query chooses, one JSON object each.
func serveAudit(log *audit.Log) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			http.Error(w, "the audit log can only be read: use GET", http.StatusMethodNotAllowed)
			return
		}
		q, err := change.ParseQuery(r.URL.Query())
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		if err := log.Read(r.Context(), q, w); err != nil {
			// Half an answer must not look like a whole one.
			panic(http.ErrAbortHandler)
		}
	})
}
