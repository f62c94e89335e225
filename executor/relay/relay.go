package relay

import (
	"context"

	"go.uber.org/zap"

	"padis.io/padis/executor/child"
)

// Verb is how the executor's binary is told to be the child.
const Verb = "relay"

// status is what the child says after each State.
type status struct {
	Done map[string]Done `json:"done,omitempty"`
}

// Relay is the executor's side: it keeps a child while there is something to relay.
type Relay struct{ *child.Keeper[State, status] }

// Start returns at once. exe is the executor's own binary, which is run as `exe relay`. ctx ends the child; what it has put in
// force goes on.
func Start(ctx context.Context, exe string, log *zap.Logger) *Relay {
	return &Relay{child.Keep(ctx, child.Job[State, status]{Exe: exe, Verb: Verb, Idle: State.idle, Trim: State.trim, Log: log,
		Without: "what was in force goes on until then"})}
}

// Done tells, by uid, what became of the Balances of the newest State that anything became of. Where there is nothing to relay,
// all is in force. Changed receives after it has changed.
func (r *Relay) Done() map[string]Done {
	order, status, failed := r.State()
	return done(order, status, failed, order.idle())
}

// Over is closed when the child is gone after the end of Start's context.
func (r *Relay) Over() <-chan struct{} { return r.Keeper.Done() }

func done(order State, s status, failed string, idle bool) map[string]Done {
	if failed == "" && !idle {
		return s.Done
	}
	out := map[string]Done{}
	for _, b := range order.Balances {
		out[b.UID] = Done{Number: b.Number}
		if !idle {
			out[b.UID] = Done{b.Number, failed}
		}
	}
	return out
}
