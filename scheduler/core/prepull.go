package core

import (
	"fmt"
	"time"

	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/instance"
)

// silence is how long an executor may take to answer before it is said that it does not.
const silence = 30 * time.Second

// replace stops a task of another revision than the wanted one. A container is stopped only when the image of the next
// one is on its agent, so that nothing that the registry does, or the time it takes, keeps the instance from serving.
func (c *Core) replace(now time.Time, s *slot) {
	image := c.nextImage(s)
	if image == "" {
		c.stop(now, s)
		return
	}
	a := c.agent(s.rec.GetAgentId())
	state := a.talk.image(image)
	if state.GetPresent() {
		c.stop(now, s)
		return
	}
	reason, message := c.pulling(now, a, image, state)
	n, err := instance.Prepull(s.rec, reason, message)
	switch {
	case err != nil:
		c.fail(err)
	case n == s.rec:
	case s.rec.GetPrepulling():
		c.show(s, n) // How far it is is for people only.
	default:
		c.put(s, n, nil)
	}
}

// nextImage is the image that must be on the agent before the running container is stopped; empty if there is no need
// to wait.
func (c *Core) nextImage(s *slot) string {
	if s.rec.GetPhase() != padisv1.Phase_RUNNING || s.rec.GetContainer() == "" || !s.wanted() || s.rec.GetRevision() == s.revision {
		return ""
	}
	next := c.imageOf(s, s.revision)
	if next == c.imageOf(s, s.rec.GetRevision()) {
		return ""
	}
	return next
}

func (c *Core) imageOf(s *slot, revision string) string {
	return s.app.revisions[revision].GetTemplate().GetImage()
}

// pulling says how far an image is.
func (c *Core) pulling(now time.Time, a *agent, image string, state *padisv1.ImageState) (reason, message string) {
	const mib = 1 << 20
	p := state.GetProgress()
	switch {
	case a.talk.sure && a.talk.said.GetNoContainers() != "":
		return padisv1.ReasonRuntimeUnavailable, fmt.Sprintf("%s is not pulled to %s: %s", image, a.hostname, a.talk.said.GetNoContainers())
	case state.GetReason() != "":
		return state.GetReason(), fmt.Sprintf("%s is not on %s: %s; it is tried again, and the running one is left alone", image, a.hostname, state.GetMessage())
	case p.GetTotalBytes() > 0:
		return padisv1.ReasonPrepulling, fmt.Sprintf("Prepulling %s: %d of %d MiB", image, p.GetDoneBytes()/mib, (p.GetTotalBytes()+mib-1)/mib)
	case state == nil && !a.talk.since.IsZero() && now.Sub(a.talk.since) >= silence && !a.talk.applied():
		return padisv1.ReasonPrepulling, fmt.Sprintf("Prepulling %s: the executor on %s has not answered for %s; look at its log. The running one is left alone", image, a.hostname, silence)
	}
	return padisv1.ReasonPrepulling, fmt.Sprintf("Prepulling %s on %s", image, a.hostname)
}

// impatient tells the instances that wait for an image that their executor does not answer.
func (c *Core) impatient(now time.Time, a *agent) {
	if now.Sub(a.talk.since) < silence {
		return
	}
	for key := range a.slots {
		if s := c.slots[key]; s.rec.GetPrepulling() && s.rec.GetAgentId() == a.id {
			c.replace(now, s)
		}
	}
}
