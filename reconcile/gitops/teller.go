package gitops

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/reconcile/gitops/notify"
	"padis.io/padis/reconcile/gitops/notify/post"

	"go.uber.org/zap"
	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Reasons of events about notifications.
const (
	ReasonNotificationFailed = "NotificationFailed"
	ReasonNotificationLost   = "NotificationLost"
)

const (
	// sendEvery and sendBurst bound what one receiver gets of one Sync; what is more waits.
	sendEvery, sendBurst = 10 * time.Second, 20
	// sending is how many messages are sent at a time.
	sending = 8
)

// poster sends messages; post.Poster is one.
type poster interface {
	Post(ctx context.Context, r post.Receiver, body []byte) error
}

// teller sends the messages that wait in the statuses of Syncs, without holding up their reconciler. Of each Sync, each receiver
// has a lane of his own, so that one who is away keeps nothing from the others. Safe for concurrent use.
type teller struct {
	live   client.Reader
	post   poster
	events recorder
	now    func() time.Time
	log    *zap.Logger
	slots  chan struct{}

	mu     sync.Mutex
	ctx    context.Context //nolint:containedctx // it ends with the process, not with a call
	end    context.CancelFunc
	lanes  sync.WaitGroup
	wake   func(types.NamespacedName)
	by     map[string]map[string]*delivery
	queues map[lane]*queue
}

// lane is a receiver of a Sync.
type lane struct{ sync, secret string }

type queue struct {
	deliveries []*delivery
	running    bool
	limit      *rate.Limiter
}

// delivery is a message on its way.
type delivery struct {
	y       *v1alpha1.Sync
	m       v1alpha1.Message
	left    int
	dropped bool
}

func newTeller(live client.Reader, p poster, events recorder, now func() time.Time, log *zap.Logger) *teller {
	t := &teller{live: live, post: p, events: events, now: now, log: log, slots: make(chan struct{}, sending), wake: func(types.NamespacedName) {},
		by: map[string]map[string]*delivery{}, queues: map[lane]*queue{}}
	t.ctx, t.end = context.WithCancel(context.Background())
	return t
}

// run ends all that is under way when ctx does.
func (t *teller) run(ctx context.Context) error {
	<-ctx.Done()
	t.mu.Lock()
	t.end()
	t.mu.Unlock()
	t.lanes.Wait()
	return nil
}

// tellTo has f told which Sync has a message less to wait for.
func (t *teller) tellTo(f func(types.NamespacedName)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wake = f
}

// waiting begins to send those messages of the status of a Sync that are not being sent yet, and gives those that have not been
// taken. What is not in the status any more is not sent again.
func (t *teller) waiting(y *v1alpha1.Sync, telling []v1alpha1.Message) []v1alpha1.Message {
	t.mu.Lock()
	defer t.mu.Unlock()
	name := y.Namespace + "/" + y.Name
	known := t.by[name]
	next := make(map[string]*delivery, len(telling))
	var out []v1alpha1.Message
	for _, m := range telling {
		d := known[m.ID]
		if d == nil {
			d = t.begin(y, m)
		}
		next[m.ID] = d
		if d.left > 0 {
			out = append(out, m)
		}
	}
	for id, d := range known {
		if next[id] == nil {
			d.dropped = true
		}
	}
	if t.by[name] = next; len(next) == 0 {
		delete(t.by, name)
	}
	return out
}

// drop forgets a Sync that is gone.
func (t *teller) drop(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, d := range t.by[name] {
		d.dropped = true
	}
	delete(t.by, name)
	for l, q := range t.queues {
		if l.sync == name && !q.running {
			delete(t.queues, l)
		}
	}
}

func (t *teller) begin(y *v1alpha1.Sync, m v1alpha1.Message) *delivery {
	d := &delivery{y: &v1alpha1.Sync{TypeMeta: y.TypeMeta, ObjectMeta: y.ObjectMeta}, m: m}
	for _, secret := range notify.Receivers(y, m.Event) {
		l := lane{y.Namespace + "/" + y.Name, secret}
		q := t.queues[l]
		if q == nil {
			q = &queue{limit: rate.NewLimiter(rate.Every(sendEvery), sendBurst)}
			t.queues[l] = q
		}
		d.left++
		q.deliveries = append(q.deliveries, d)
		if !q.running && t.ctx.Err() == nil {
			q.running = true
			t.lanes.Go(func() { t.empty(l, q) })
		}
	}
	return d
}

// empty sends what is in a lane, one message after the other.
func (t *teller) empty(l lane, q *queue) {
	for {
		t.mu.Lock()
		if q.deliveries = slices.DeleteFunc(q.deliveries, func(d *delivery) bool { return d.dropped }); len(q.deliveries) == 0 {
			if q.running = false; t.by[l.sync] == nil {
				delete(t.queues, l)
			}
			t.mu.Unlock()
			return
		}
		d := q.deliveries[0]
		t.mu.Unlock()
		if q.limit.Wait(t.ctx) != nil || !t.deliver(l, d) {
			// It is in the status, and sent after the next start.
			return
		}
		t.mu.Lock()
		q.deliveries = q.deliveries[1:]
		d.left--
		wake := t.wake
		if d.left > 0 || d.dropped {
			wake = nil
		}
		t.mu.Unlock()
		if wake != nil {
			wake(types.NamespacedName{Namespace: d.y.Namespace, Name: d.y.Name})
		}
	}
}

// deliver sends one message until it is taken or given up. It is false if the process ends before.
func (t *teller) deliver(l lane, d *delivery) bool {
	log := t.log.With(zap.String("sync", l.sync), zap.String("secret", l.secret), zap.String("event", d.m.Event), zap.String("id", d.m.ID))
	for failures := 1; ; failures++ {
		err := t.send(l, d)
		if t.ctx.Err() != nil {
			return false
		}
		if err == nil {
			log.Info("notification is taken", zap.Int("failures", failures-1))
			return true
		}
		what := fmt.Sprintf("spec.notifications: secret %s: the message %s of commit %s", l.secret, d.m.Event, d.m.Commit)
		if failures >= notify.MaxTries {
			log.Error("notification is given up", zap.Int("failures", failures), zap.Error(err))
			t.events.Event(d.y, corev1.EventTypeWarning, ReasonNotificationLost, cut(fmt.Sprintf("%s is given up after %d attempts: %v", what, failures, err), 1000))
			return true
		}
		wait := notify.Wait(failures)
		if failures == 1 {
			log.Warn("notification is not taken", zap.Error(err))
			t.events.Event(d.y, corev1.EventTypeWarning, ReasonNotificationFailed, cut(fmt.Sprintf("%s is not taken, and is sent again up to %d times: %v", what, notify.MaxTries-1, err), 1000))
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-t.ctx.Done():
			timer.Stop()
			return false
		}
		t.mu.Lock()
		dropped := d.dropped
		t.mu.Unlock()
		if dropped {
			return true
		}
	}
}

// send sends a message once. The Secret is read anew each time: who corrects it need not wait for the next message.
func (t *teller) send(l lane, d *delivery) error {
	select {
	case t.slots <- struct{}{}:
		defer func() { <-t.slots }()
	case <-t.ctx.Done():
		return t.ctx.Err()
	}
	data, err := readSecret(t.ctx, t.live, d.y.Namespace, l.secret)
	if err != nil {
		return err
	}
	body, err := notify.Body(d.y.Namespace, d.y.Name, d.m)
	if err != nil {
		return err
	}
	line := func(key string) string { return strings.TrimRight(string(data[key]), "\r\n") }
	return t.post.Post(t.ctx, post.Receiver{URL: line("url"), Token: line("token"), CA: data["ca.crt"]}, body)
}
