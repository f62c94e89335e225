// Package webhooks lets git servers say that something was pushed: it answers POST /webhooks/NAMESPACE/NAME, and has the
// GitSource of that name fetched at once by whichever process reconciles it. Edge: talks to git servers over HTTP, and to
// the API server.
//
// Nobody is authenticated on this path but by the secret of the GitSource. Who does not know it learns nothing: not even
// whether there is a GitSource of that name.
package webhooks

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/api/webhook"
)

const (
	// bodyTime is how long a caller may take to send the body, workTime how long all that follows may take.
	bodyTime, workTime = 10 * time.Second, 20 * time.Second
	// atOnce is how many bodies are read and judged at a time.
	atOnce = 32
	// retryAfter is what callers are told that are too many, in seconds.
	retryAfter = "2"
	// logRate and logBurst bound the lines about calls that are refused.
	logRate, logBurst = 1, 20
)

// Reasons of refusals that are not those of package webhook, and of the events of a GitSource.
const (
	ReasonNoSecret = "SecretUnreadable"
	ReasonTooMany  = "TooManyCalls"
	ReasonRefused  = "WebhookRefused"
	ReasonIgnored  = "WebhookIgnored"
)

// refused is what all are told who have not proved anything, whatever the reason, which the log and the events of the
// GitSource have.
const refused = "refused: there is no GitSource of this name with a webhook, or the secret is not its: compare the URL with status.webhookPath, and the secret in the sender's settings with the Secret of spec.webhook.secretRef"

// sources is what is needed of the API.
type sources interface {
	// source reads a GitSource; nil if there is none.
	source(ctx context.Context, name types.NamespacedName) (*v1alpha1.GitSource, error)
	// token reads the key token of a Secret; nil if there is none.
	token(ctx context.Context, name types.NamespacedName) ([]byte, error)
	// fetch has a GitSource fetched.
	fetch(ctx context.Context, s *v1alpha1.GitSource, why string) error
	// event tells of a GitSource.
	event(s *v1alpha1.GitSource, kind, reason, message string)
}

// Receiver answers calls of git servers. Safe for concurrent use.
type Receiver struct {
	api    sources
	log    *zap.Logger
	now    func() time.Time
	limits *limits
	joins  *joins
	lines  *rate.Limiter
	slots  chan struct{}
	// nobodys is the secret of what is not there, so that to refuse takes the same work.
	nobodys []byte
	end     func()
}

// New makes a receiver that reads and writes by a client of the API that is allowed everything. Close it.
func New(loopback *rest.Config, log *zap.Logger) (*Receiver, error) {
	api, err := newClients(loopback)
	if err != nil {
		return nil, fmt.Errorf("webhooks: %w", err)
	}
	r := newReceiver(api, log, time.Now)
	r.end = api.close
	return r, nil
}

func newReceiver(api sources, log *zap.Logger, now func() time.Time) *Receiver {
	nobodys := make([]byte, 32)
	// It never fails: it ends the program rather.
	_, _ = rand.Read(nobodys)
	return &Receiver{
		api: api, log: log.Named("webhook"), now: now, limits: newLimits(), joins: &joins{gap: gap, now: now},
		lines: rate.NewLimiter(logRate, logBurst), slots: make(chan struct{}, atOnce), nobodys: nobodys, end: func() {},
	}
}

// Close ends what New has begun.
func (r *Receiver) Close() { r.end() }

// Before answers calls of git servers, and leaves all other requests to next.
func (r *Receiver) Before(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !strings.HasPrefix(req.URL.Path, webhook.Root) {
			next.ServeHTTP(w, req)
			return
		}
		code, message := r.answer(w, req)
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		if code == http.StatusTooManyRequests {
			h.Set("Retry-After", retryAfter)
		}
		w.WriteHeader(code)
		// The caller that has gone needs no answer.
		_ = json.NewEncoder(w).Encode(struct {
			Message string `json:"message"`
		}{message})
	})
}

// answer takes one call as far as it may go.
func (r *Receiver) answer(w http.ResponseWriter, req *http.Request) (code int, message string) {
	namespace, source, ok := strings.Cut(strings.TrimPrefix(req.URL.Path, webhook.Root), "/")
	name := types.NamespacedName{Namespace: namespace, Name: source}
	switch {
	case !ok || len(content.IsPathSegmentName(namespace)) > 0 || len(content.IsPathSegmentName(source)) > 0 || namespace == "" || source == "" || len(namespace)+len(source) > 512:
		return http.StatusNotFound, "no receiver has this path: call " + webhook.Path("NAMESPACE", "NAME") + ", as status.webhookPath of the GitSource says"
	case req.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		return http.StatusMethodNotAllowed, "events are sent with POST"
	case !r.limits.allow(req.RemoteAddr, name.String(), r.now()):
		r.say(name, req, ReasonTooMany, "too many calls")
		return http.StatusTooManyRequests, "too many calls: call again later"
	}
	select {
	case r.slots <- struct{}{}:
	default:
		r.say(name, req, ReasonTooMany, "too many calls at the same time")
		return http.StatusTooManyRequests, "too many calls at the same time: call again later"
	}
	ctx, cancel := context.WithTimeout(req.Context(), bodyTime+workTime)
	defer cancel()
	s, v, code, message := r.judge(ctx, w, req, name)
	if code != 0 {
		return code, message
	}
	log := r.log.With(zap.Stringer("source", name), zap.String("caller", req.RemoteAddr))
	if !v.Fetch {
		log.Info("webhook needs no fetch", zap.String("reason", string(v.Reason)), zap.String("message", v.Message))
		if v.Reason == webhook.ReasonOtherRepository {
			r.api.event(s, corev1.EventTypeWarning, ReasonIgnored, v.Message)
		}
		return http.StatusOK, v.Message
	}
	why := strings.TrimSpace(r.now().UTC().Format(time.RFC3339Nano) + " " + delivery(req.Header))
	err := r.joins.do(ctx, name, func() error {
		// Others may wait for it whose callers are still there.
		work, done := context.WithTimeout(context.WithoutCancel(ctx), workTime)
		defer done()
		return r.api.fetch(work, s, why)
	})
	if err != nil {
		log.Warn("webhook cannot be passed on", zap.Error(err))
		return http.StatusServiceUnavailable, "the source cannot be told to fetch: call again later"
	}
	log.Info("webhook has the source fetched", zap.String("why", why))
	return http.StatusAccepted, v.Message
}

// judge reads the call, has it proved, and gives the slot back. A code other than 0 ends it.
func (r *Receiver) judge(ctx context.Context, w http.ResponseWriter, req *http.Request, name types.NamespacedName) (*v1alpha1.GitSource, webhook.Verdict, int, string) {
	defer func() { <-r.slots }()
	nothing := webhook.Verdict{}
	// Connections that cannot have a deadline are not those of clients.
	_ = http.NewResponseController(w).SetReadDeadline(r.now().Add(bodyTime))
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, webhook.MaxBody))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		m := fmt.Sprintf("the body has more than %d bytes: send push events only", webhook.MaxBody)
		r.say(name, req, string(webhook.ReasonBodyTooLarge), m)
		return nil, nothing, http.StatusRequestEntityTooLarge, m
	} else if err != nil {
		return nil, nothing, http.StatusBadRequest, "the body cannot be read: send it within " + bodyTime.String()
	}
	s, secret, problem, err := r.read(ctx, name)
	if err != nil {
		r.log.Warn("webhook cannot be judged", zap.Stringer("source", name), zap.Error(err))
		return nil, nothing, http.StatusServiceUnavailable, "the source cannot be read: call again later"
	}
	e, err := webhook.Parse(req.Header, body, secret)
	if problem != "" {
		r.refuse(s, name, req, ReasonNoSecret, problem)
		return nil, nothing, http.StatusForbidden, refused
	}
	var v webhook.Verdict
	if err == nil {
		v, err = webhook.Judge(&s.Spec, e)
	}
	var why *webhook.Error
	switch {
	case err == nil:
		return s, v, 0, ""
	case errors.As(err, &why) && (why.Reason == webhook.ReasonMalformed || why.Reason == webhook.ReasonOtherType):
		// These know the secret.
		r.refuse(s, name, req, string(why.Reason), why.Message)
		return nil, nothing, http.StatusBadRequest, "refused: " + why.Message
	case errors.As(err, &why):
		r.refuse(s, name, req, string(why.Reason), why.Message)
	}
	return nil, nothing, http.StatusForbidden, refused
}

// read gives the source and its secret, or a problem that makes any call of it wrong. What is read is the same number of
// objects whatever is there.
func (r *Receiver) read(ctx context.Context, name types.NamespacedName) (s *v1alpha1.GitSource, secret []byte, problem string, err error) {
	if s, err = r.api.source(ctx, name); err != nil {
		return nil, nil, "", err
	}
	of := name
	if s != nil && s.Spec.Webhook != nil {
		of.Name = s.Spec.Webhook.SecretRef.Name
	}
	if secret, err = r.api.token(ctx, of); err != nil {
		return nil, nil, "", err
	}
	switch {
	case s == nil:
		return nil, r.nobodys, "there is no such gitsource", nil
	case s.Spec.Webhook == nil:
		return nil, r.nobodys, "the gitsource has no spec.webhook", nil
	case secret == nil:
		return s, r.nobodys, fmt.Sprintf("spec.webhook.secretRef: there is no secret %s with the key token: make it, with the secret of the sender's settings", of), nil
	}
	return s, secret, "", nil
}

// refuse says why a call was refused to those who may know: in the log, and in an event if there is a source to show it.
func (r *Receiver) refuse(s *v1alpha1.GitSource, name types.NamespacedName, req *http.Request, reason, message string) {
	r.say(name, req, reason, message)
	if s != nil {
		r.api.event(s, corev1.EventTypeWarning, ReasonRefused, fmt.Sprintf("a call from %s is refused: %s (%s)", caller(req.RemoteAddr), message, reason))
	}
}

func (r *Receiver) say(name types.NamespacedName, req *http.Request, reason, message string) {
	if r.lines.AllowN(r.now(), 1) {
		r.log.Warn("webhook is refused", zap.Stringer("source", name), zap.String("caller", req.RemoteAddr), zap.String("reason", reason), zap.String("message", message))
	}
}

// delivery is what the sender calls the event, as far as it can be trusted to be a name.
func delivery(h http.Header) string {
	for _, k := range []string{"X-Gitea-Delivery", "X-Gitlab-Event-UUID", "X-GitHub-Delivery", "X-Padis-Delivery"} {
		if v := h.Get(k); v != "" && len(v) <= 64 && strings.Trim(v, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_.") == "" {
			return v
		}
	}
	return ""
}
