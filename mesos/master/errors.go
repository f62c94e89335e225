package master

import (
	"errors"
	"fmt"
)

// ErrNotSubscribed is returned by Send while there is no subscription. The shell need do nothing: what a call was to
// bring about is decided anew after the next mesos.Subscribed.
var ErrNotSubscribed = errors.New("not subscribed to a master")

// ErrFrameworkRemoved ends Run: the master has removed the framework (its failover timeout passed, or it was torn
// down) and will not take this framework id again. All of its tasks are gone. To go on, Run without an id.
var ErrFrameworkRemoved = errors.New("the master has removed this framework")

// ErrFailedOver ends Run: another scheduler subscribed with this framework id.
var ErrFailedOver = errors.New("another scheduler took over this framework")

// CallError is a master's refusal of a call. The subscription is not affected.
type CallError struct {
	Call   string // as on the wire: ACCEPT, KILL, ...
	Status int    // HTTP status
	Body   string // the master's reason
}

func (e *CallError) Error() string {
	return fmt.Sprintf("master refused %s with HTTP %d: %s", e.Call, e.Status, e.Body)
}

// errSilent ends a stream that brought nothing for too long.
var errSilent = errors.New("master is silent")

// errLeaderChanged ends a stream to a master that leads no more.
var errLeaderChanged = errors.New("another master leads now")
