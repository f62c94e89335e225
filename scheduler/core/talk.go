package core

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/instance"
	"padis.io/padis/scheduler/place"
)

// talk is what is wanted of the executor of one agent beside its tasks, and what that says. Both are whole states: what
// is wanted is sent again until the executor says that it has applied that generation.
type talk struct {
	wish *padisv1.ToExecutor
	// plain is wish before anything was left out for its size, but for its overlays, which are these.
	plain    *padisv1.ToExecutor
	overlays []*padisv1.Overlay
	// said is the last word of an executor there; nil before the first.
	said *padisv1.FromExecutor
	// sure: said is of the executor that runs, as far as this subscription knows.
	sure bool
	// shown: an offer listed it.
	shown bool
	// mute: it has not answered for so long that it may not be there, whatever offers list.
	mute  bool
	again repeat
	// since is when wish was made.
	since time.Time
}

const (
	talkFirst = time.Second
	talkMost  = 30 * time.Second
	// talkTries is how often something is said before the executor counts as mute.
	talkTries = 6
)

// lapse notes that the executor ended. What is wanted of the next one is found anew.
func (t *talk) lapse() {
	t.said, t.sure, t.shown = nil, false, false
	t.again.stop()
}

// lapse notes that the executor of an agent ended. What it saw is not seen any more, but for what its host is.
func (c *Core) lapse(a *agent) {
	a.talk.lapse()
	a.seen.wire = findings{}
	c.examine(a)
}

// applied tells whether the executor that runs has applied what is wanted.
func (t *talk) applied() bool {
	return t.sure && t.wish != nil && t.said.GetGeneration() == t.wish.GetGeneration()
}

// complete tells whether all images are there, and nothing is wrong with its networks. Until then it is asked again, since
// what it says of itself may be lost.
func (t *talk) complete() bool {
	if len(t.said.GetConflicts()) > 0 || slices.ContainsFunc(t.said.GetNetworks(), func(n *padisv1.NetworkState) bool { return n.GetReason() != "" }) {
		return false
	}
	for _, w := range t.wish.GetImages() {
		if !t.image(w.GetImage()).GetPresent() {
			return false
		}
	}
	return true
}

// image is what the executor says of an image that it was told to have; nil if it has not said anything yet.
func (t *talk) image(name string) *padisv1.ImageState {
	if !t.applied() || !slices.ContainsFunc(t.wish.GetImages(), func(w *padisv1.ImageWish) bool { return w.GetImage() == name }) {
		return nil
	}
	for _, st := range t.said.GetImages() {
		if st.GetImage() == name {
			return st
		}
	}
	return nil
}

func (c *Core) heedAll() {
	for id := range c.agents {
		c.turn.heed[id] = true
	}
}

// listens tells whether there is an executor to talk to: it has spoken, or an offer or one of its tasks shows that it runs.
func (c *Core) listens(a *agent) bool {
	id := a.executor.GetExecutorId()
	if id == "" || !c.link.connected || !a.present {
		return false
	}
	if a.talk.sure || a.talk.shown {
		return true
	}
	for key := range a.slots {
		r := c.slots[key].rec
		if r.GetAgentId() != a.id || r.GetExecutorId() != id {
			continue
		}
		switch r.GetPhase() {
		case padisv1.Phase_STARTING, padisv1.Phase_RUNNING, padisv1.Phase_STOPPING:
			return true
		}
	}
	return false
}

// said takes in a word of an executor.
func (c *Core) said(now time.Time, e mesos.FromExecutor) {
	a := c.agents[e.AgentID]
	if a == nil || a.executor.GetExecutorId() != e.ExecutorID {
		return // One that is ending, or not ours to talk to.
	}
	said := &padisv1.FromExecutor{}
	if err := padisv1.Decode(e.Data, said); err != nil {
		c.fail(fmt.Errorf("message of executor %s on agent %s: %w", e.ExecutorID, e.AgentID, err))
		return
	}
	c.heard(now, a)
	a.vacant = false
	t := &a.talk
	if r := said.GetRenew(); r != nil {
		t.mute = false
		c.renewed(now, a, r)
		return
	}
	if !t.sure || said.GetGeneration() < t.said.GetGeneration() {
		t.again.start(now) // It has just started, or is heard for the first time.
	}
	t.said, t.sure, t.mute = said, true, false
	c.turn.agents[a.id], c.turn.heed[a.id] = true, true
	c.looks(a)
	for _, key := range slices.SortedFunc(maps.Keys(a.slots), compareSlots) {
		s := c.slots[key]
		if s == nil {
			continue
		}
		if t.applied() {
			c.discarded(now, a, s)
		}
		if c.slots[key] != s {
			continue
		}
		if s.rec.GetPrepulling() && s.rec.GetAgentId() == a.id {
			c.align(now, s)
		}
	}
	c.observe(a, said)
}

// discarded lays the ghosts whose containers the executor was told to discard, and which it has no more; and it ends the
// instance that waits for the adoption of a container which is not there.
func (c *Core) discarded(now time.Time, a *agent, s *slot) {
	gone := func(container string) bool {
		return container != "" && slices.Contains(a.talk.wish.GetDiscard(), container) && !slices.Contains(a.talk.said.GetOrphans(), container)
	}
	var over []string
	for _, g := range instance.Ghosts(s.rec) {
		if g.Agent == a.id && gone(g.Container) {
			over = append(over, g.Task)
		}
	}
	if answered(a, s) {
		c.finish(now, s, instance.Ending{Cause: instance.Collapsed, Certain: true, Reason: padisv1.ReasonContainerGone, Message: "the executor on " + a.hostname + " has no such container"})
	}
	if n := instance.Release(s.rec, over...); n != s.rec {
		c.put(s, n, nil)
	}
}

// speak says what is wanted to the executors that have not applied it yet.
func (c *Core) speak(now time.Time) {
	for _, id := range slices.Sorted(maps.Keys(c.turn.heed)) {
		if a := c.agents[id]; a != nil {
			c.wish(now, a)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(c.talking)) {
		a := c.talking[id]
		if c.agents[id] != a {
			delete(c.talking, id)
			continue
		}
		if !a.talk.again.due(now) {
			continue
		}
		a.talk.mute = a.talk.again.step >= talkTries && !a.talk.applied()
		if a.talk.mute && !c.runsExecutor(a) {
			// Nothing shows that it runs, and it does not answer: its end was not told.
			c.lapse(a)
			delete(c.talking, id)
			c.turn.agents[id] = true
			continue
		}
		a.talk.again.again(now, talkFirst, talkMost)
		data, err := padisv1.Encode(a.talk.wish)
		if err != nil {
			c.fail(fmt.Errorf("message to executor %s on agent %s: %w", a.executor.GetExecutorId(), id, err))
			continue
		}
		c.call(mesos.ToExecutor{AgentID: id, ExecutorID: a.executor.GetExecutorId(), Data: data})
		c.impatient(now, a)
	}
}

// wish finds what is wanted of the agent's executor. A wish that differs from the last one is a new generation; these
// grow with the clock, so that they also grow from one scheduler to the next.
func (c *Core) wish(now time.Time, a *agent) {
	t := &a.talk
	if !c.listens(a) {
		t.again.stop()
		delete(c.talking, a.id)
		return
	}
	w := &padisv1.ToExecutor{
		Generation: t.wish.GetGeneration(), ClientCa: c.cfg.ClientCA, Discard: c.discards(a), Images: c.images(a), Configs: c.configs(a),
		Leave: a.executor.GetLeaving(), Networks: c.changes(a), Announced: c.announced(a),
	}
	w.Balancers, w.Directed = c.balancersOf(a)
	overlays := c.overlaysOf(a)
	next := max(now.UnixMilli(), t.wish.GetGeneration()+1)
	if c.inquire(a, next) || t.wish == nil || !slices.Equal(t.overlays, overlays) || !proto.Equal(t.plain, w) {
		w.Generation = next
		t.plain, t.overlays, t.since = w, overlays, now
		t.wish = c.bounded(a, w, overlays)
		t.again.start(now)
	}
	c.looped(now, a, w.GetNetworks())
	switch {
	case t.applied() && !w.GetLeave() && t.complete() && len(a.seen.told) == 0:
		t.again.stop()
		delete(c.talking, a.id)
		return
	case t.again.at.IsZero():
		t.again.start(now)
	}
	c.talking[a.id] = a
}

// maxWish is how large a message to an executor may become, with room for what Mesos adds.
const maxWish = 1<<20 - 1<<12

// bounded puts a message together, and leaves out what is too much for one: what was left out stays as it is there.
func (c *Core) bounded(a *agent, w *padisv1.ToExecutor, overlays []*padisv1.Overlay) *padisv1.ToExecutor {
	out := &padisv1.ToExecutor{
		Generation: w.GetGeneration(), ClientCa: w.GetClientCa(), Discard: w.GetDiscard(), Leave: w.GetLeave(), Images: w.GetImages(),
		Networks: w.GetNetworks(), Announced: w.GetAnnounced(), Configs: w.GetConfigs(), Overlays: overlays,
		Balancers: w.GetBalancers(), Directed: w.GetDirected(),
	}
	var missing []string
	for proto.Size(out) > maxWish {
		switch {
		case len(out.Configs) > 0:
			last := len(out.Configs) - 1
			missing = append(missing, "the files of "+out.Configs[last].GetContainer())
			out.Configs = out.Configs[:last]
		case len(out.Overlays) > 0:
			last := len(out.Overlays) - 1
			missing = append(missing, "the overlay of network "+out.Overlays[last].GetNetwork())
			out.Overlays = out.Overlays[:last]
		case len(out.Images) > 0:
			last := len(out.Images) - 1
			missing = append(missing, "image "+out.Images[last].GetImage())
			out.Images = out.Images[:last]
		default:
			return out // What is left is bounded by what runs on one host.
		}
	}
	if len(missing) > 0 {
		c.fail(fmt.Errorf("message to the executor on %s is larger than %d bytes; it lacks %s: use smaller files, or split networks with very many instances",
			a.hostname, maxWish, strings.Join(missing, ", ")))
	}
	return out
}

// discards are the containers without a task that no instance claims, and those that haunt one and have no task any more.
func (c *Core) discards(a *agent) []string {
	claimed := map[string]bool{}
	var out []string
	for key := range a.slots {
		s := c.slots[key]
		if s.rec.GetAgentId() == a.id {
			claimed[s.rec.GetContainer()] = true
			if s.starved && !s.wanted() {
				out = append(out, s.rec.GetContainer())
			}
		}
		for _, g := range instance.Ghosts(s.rec) {
			if g.Agent != a.id || g.Container == "" {
				continue
			}
			claimed[g.Container] = true
			if s.ghosts[g.Task].ended && (a.lists() || !c.reclaimable(s, g.Task)) {
				out = append(out, g.Container)
			}
		}
	}
	for _, o := range a.talk.said.GetOrphans() {
		if !claimed[o] && a.talk.sure {
			out = append(out, o)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// images are those that instances on the agent wait for, and those that are declared for it.
func (c *Core) images(a *agent) []*padisv1.ImageWish {
	wishes := map[string]*padisv1.ImageWish{}
	add := func(image string, auths []*padisv1.RegistryAuth) {
		if wishes[image] == nil {
			wishes[image] = &padisv1.ImageWish{Image: image, RegistryAuths: auths, Registries: c.registries(a)}
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(a.slots), compareSlots) {
		s := c.slots[key]
		if image := c.nextImage(s); s.rec.GetPrepulling() && s.rec.GetAgentId() == a.id && image != "" {
			add(image, s.app.rec.GetRegistryAuths())
		}
	}
	for _, p := range c.cluster.GetPrepulls() {
		if !Selects(p.GetAgents(), a.hostname, a.attributes) {
			continue
		}
		for _, image := range p.GetImages() {
			add(image, p.GetAuths())
		}
	}
	var out []*padisv1.ImageWish
	for _, image := range slices.Sorted(maps.Keys(wishes)) {
		out = append(out, wishes[image])
	}
	return out
}

// configs are the files that shall change in containers while they run.
func (c *Core) configs(a *agent) []*padisv1.ConfigChange {
	var out []*padisv1.ConfigChange
	for key := range a.slots {
		s := c.slots[key]
		if s.rec.GetAgentId() != a.id || s.rec.GetContainer() == "" || s.rec.GetPhase() != padisv1.Phase_RUNNING {
			continue
		}
		change := &padisv1.ConfigChange{Container: s.rec.GetContainer()}
		for _, data := range mounted(s.app.rec, s.app.revisions[s.rec.GetRevision()].GetTemplate(), true) {
			if data.GetHash() != s.rec.GetConfigHashes()[data.GetName()] {
				change.Configs = append(change.Configs, data)
			}
		}
		if len(change.Configs) > 0 {
			out = append(out, change)
		}
	}
	slices.SortFunc(out, func(x, y *padisv1.ConfigChange) int { return cmp.Compare(x.GetContainer(), y.GetContainer()) })
	return out
}

// registries are what the agent must know of them. Where the mirrors are for other agents, what concerns the registry
// itself still holds.
func (c *Core) registries(a *agent) []*padisv1.Registry {
	var out, others []*padisv1.Registry
	for _, r := range c.cluster.GetRegistries() {
		if Selects(r.GetAgents(), a.hostname, a.attributes) {
			out = append(out, r)
		} else {
			others = append(others, &padisv1.Registry{Name: r.GetName(), Host: r.GetHost(), PlainHttp: r.GetPlainHttp(), Ca: r.GetCa()})
		}
	}
	for _, r := range others {
		if !slices.ContainsFunc(out, func(o *padisv1.Registry) bool { return o.GetHost() == r.GetHost() }) {
			out = append(out, r)
		}
	}
	return out
}

// Selects tells whether an agent has one of the attributes; all have, if there are none.
func Selects(sel []*padisv1.AgentSelector, hostname string, attributes map[string]string) bool {
	return len(sel) == 0 || slices.ContainsFunc(sel, func(s *padisv1.AgentSelector) bool {
		if s.GetAttribute() == place.Hostname {
			return hostname == s.GetValue()
		}
		value, has := attributes[s.GetAttribute()]
		return has && value == s.GetValue()
	})
}

// mounted are the ConfigMaps and Secrets that the template's files come from, by name; with live only those that change
// under the program.
func mounted(app *padisv1.WantedApp, t *padisv1.Template, live bool) []*padisv1.ConfigData {
	names := map[string]bool{}
	for _, v := range t.GetVolumes() {
		if f := v.GetConfig(); f != nil && (!live || f.GetOnChange() == padisv1.ConfigFiles_ON_CHANGE_SIGNAL) {
			names[f.GetConfig()] = true
		}
	}
	var out []*padisv1.ConfigData
	for _, data := range app.GetConfigs() {
		if names[data.GetName()] {
			out = append(out, data)
		}
	}
	slices.SortFunc(out, func(x, y *padisv1.ConfigData) int { return cmp.Compare(x.GetName(), y.GetName()) })
	return out
}
