package speaker

import (
	"context"
	"fmt"
	"slices"

	"go.uber.org/zap"

	"padis.io/padis/executor/child"
)

// Verb is how the executor's binary is told to be the child.
const Verb = "speaker"

// status is what the child says, after each State and whenever a session changes.
type status struct {
	Sessions []Session `json:"sessions,omitempty"`
	// What of the State could not be done.
	Error string `json:"error,omitempty"`
}

// Speaker is the executor's side: it keeps a child while there is somebody to talk to.
type Speaker struct{ *child.Keeper[State, status] }

// Start returns at once. exe is the executor's own binary, which is run as `exe speaker`; ctx ends the child, and routers
// keep the routes for RestartTime then: who wants them gone sets an empty State, and waits for it, before. Changed receives
// after Sessions changed.
func Start(ctx context.Context, exe string, log *zap.Logger) *Speaker {
	return &Speaker{child.Keep(ctx, child.Job[State, status]{Exe: exe, Verb: Verb, Idle: State.idle, Log: log,
		Without: fmt.Sprintf("routers keep the routes for %v", RestartTime)})}
}

// Set says what shall be announced from now on, and returns the generation to Wait for.
func (s *Speaker) Set(st State) uint64 {
	st.Networks = slices.Clone(st.Networks)
	for i := range st.Networks {
		n := &st.Networks[i]
		n.Peers, n.Addresses = slices.Clone(n.Peers), slices.Clone(n.Addresses)
	}
	return s.Keeper.Set(st)
}

// Wait returns when the State of that generation, or a later one, is on its way to all routers that have a session. What
// was withdrawn is then not asked for any more, but for packets on their way. The error is that of ctx.
func (s *Speaker) Wait(ctx context.Context, generation uint64) error {
	if err := s.Keeper.Wait(ctx, generation); err != nil {
		return fmt.Errorf("speaker: generation %d is not announced yet: %w", generation, err)
	}
	return nil
}

// Sessions tells for each network and router how it stands, in their order. While there is no child, none is established.
func (s *Speaker) Sessions() []Session {
	order, status, failed := s.State()
	if failed != "" {
		return order.sessions(nil, nil, failed)
	}
	return slices.Clone(status.Sessions)
}
