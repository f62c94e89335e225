// Package plan holds what `padis plan` shows: what would happen if objects were applied, as text for people and as JSON for
// `padis apply --plan` and other programs. Pure.
package plan

import "encoding/json"

// Plan is what would happen.
type Plan struct {
	// Version of this form.
	Version int `json:"version"`
	// World is a digest of all that the plan depends on, but for the changes themselves. A plan holds while it is the same.
	World string `json:"world"`
	// Parts are digests of parts of the world, by name, to say what of it has changed.
	Parts map[string]string `json:"parts,omitempty"`
	// Objects are those that were given, by kind, namespace and name.
	Objects []Object `json:"objects,omitempty"`
	// Apps are those with instances to which something happens, by namespace and name.
	Apps []App `json:"apps,omitempty"`
	// Addresses are those that are leased or given back.
	Addresses []Address `json:"addresses,omitempty"`
	Quotas    []Quota   `json:"quotas,omitempty"`
	// Unfinished says why nothing is known of what comes later; empty if all has come to rest.
	Unfinished string `json:"unfinished,omitempty"`
	// UnfinishedIn are the namespaces that Unfinished tells of; none if of none in particular.
	UnfinishedIn []string `json:"-"`
	// Sync is whose commit it is; nil if manifests were given.
	Sync *Sync `json:"sync,omitempty"`
	// Kept are objects that have left the repository of the Sync and stay.
	Kept []Kept `json:"kept,omitempty"`
	// Violations are limits and rules that stand against all of it, or against all deletions.
	Violations []Refusal `json:"violations,omitempty"`
	// Manifests are what was given, in the order in which it is to be applied. They hold contents of Secrets, if any were
	// given; nothing that is shown does.
	Manifests []json.RawMessage `json:"manifests,omitempty"`
	// Deletions are what is to be deleted then, in this order.
	Deletions []Deletion `json:"deletions,omitempty"`
	// ServerSide says how the manifests are applied; nil is as kubectl apply does without --server-side.
	ServerSide *ServerSide `json:"serverSide,omitempty"`
}

// Sync is the Sync that a plan is of, and what it would apply.
type Sync struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Commit and the Ref that it was found by; empty for a working copy, which From names.
	Commit string `json:"commit,omitempty"`
	Ref    string `json:"ref,omitempty"`
	From   string `json:"from"`
	// Notes are why it would not be applied at once, and what else holds of it.
	Notes []string `json:"notes,omitempty"`
}

// Kept is an object that stays although its repository has it no more.
type Kept struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	Message   string `json:"message"`
}

// Deletion is an object to delete, unless it is another by then.
type Deletion struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name"`
	UID        string `json:"uid"`
}

// ServerSide is server-side apply.
type ServerSide struct {
	FieldManager string `json:"fieldManager"`
	Force        bool   `json:"force,omitempty"`
}

// Version is that of the form that this package writes.
const Version = 1

// Action is what happens to an object.
type Action string

// Actions.
const (
	Create    Action = "create"
	Update    Action = "update"
	Unchanged Action = "unchanged"
	Delete    Action = "delete"
)

// Object is one that would be written or deleted.
type Object struct {
	Kind string `json:"kind"`
	// Namespace is empty for kinds of the whole cluster.
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	Action    Action `json:"action"`
	// Fields are those that an update changes, by path.
	Fields []Field `json:"fields,omitempty"`
	// Refusals say why the API server would not take it. It stays as it is then, also in what else the plan says.
	Refusals []Refusal `json:"refusals,omitempty"`
	// Verdict says why it would not be in force although the API server takes it; nil if it would be.
	Verdict *Refusal `json:"verdict,omitempty"`
	// Because says with what else it is deleted; empty if that was asked for.
	Because string `json:"because,omitempty"`
}

// Refusal says why not, in the words that whoever refuses it has.
type Refusal struct {
	// Reason is one of padisv1's constants or of the API's; empty if only the message is known.
	Reason string `json:"reason,omitempty"`
	// Field that it is about; empty if the message names it, or if it is about the whole object.
	Field   string `json:"field,omitempty"`
	Message string `json:"message"`
}

// Fate is what happens to an instance.
type Fate string

// Fates.
const (
	// Started: there was none before, or it did not run.
	Started Fate = "create"
	// Replaced on the agent where it is.
	Replaced Fate = "replace"
	// Moved: replaced on another agent.
	Moved Fate = "move"
	// Stopped for good.
	Stopped Fate = "stop"
	// Waiting: it is wanted and does not run.
	Waiting Fate = "wait"
)

// App is what happens to the instances of an App, or to the directors of a LoadBalancer.
type App struct {
	Namespace string     `json:"namespace"`
	Name      string     `json:"name"`
	Instances []Instance `json:"instances,omitempty"`
	Rollout   *Rollout   `json:"rollout,omitempty"`
}

// Instance is one to which something happens.
type Instance struct {
	Name string `json:"name"`
	Fate Fate   `json:"fate"`
	// From and To are hosts; empty where it does not run.
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
	// Batch of the rollout in which it is replaced, from 1; 0 if in none.
	Batch     int      `json:"batch,omitempty"`
	Addresses []string `json:"addresses,omitempty"`
	// Cause is why it is replaced or moved. Reason is the constant why it waits. Why tells of all others why they go where they
	// go.
	Cause  string `json:"cause,omitempty"`
	Reason string `json:"reason,omitempty"`
	Why    string `json:"why,omitempty"`
}

// Rollout is how instances are replaced one after the other.
type Rollout struct {
	// Batches are the slots that are replaced together.
	Batches [][]int32 `json:"batches,omitempty"`
	// Replicas are declared, Minimum of them may not be missed because of the update, and Lowest were ready when fewest were.
	Replicas int32 `json:"replicas"`
	Minimum  int32 `json:"minimum"`
	Lowest   int32 `json:"lowest"`
	// Held are the slots that stay outdated, and Because why.
	Held    []int32 `json:"held,omitempty"`
	Because string  `json:"because,omitempty"`
}

// Address is one that changes hands.
type Address struct {
	Network string `json:"network"`
	Pool    string `json:"pool"`
	Address string `json:"address"`
	// From and To are who holds it, for example "shop/web-0" or "loadbalancer shop/front"; empty if nobody does.
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
	// Cooling: it is given back, and rests for a time.
	Cooling bool `json:"cooling,omitempty"`
}

// Quota is one of addresses that is used up or exceeded.
type Quota struct {
	Tenant string `json:"tenant"`
	Pool   string `json:"pool"`
	Max    int64  `json:"max"`
	Held   int64  `json:"held"`
	// Refused are the instances that wait because of it, and Namespaces where.
	Refused    int64    `json:"refused,omitempty"`
	Namespaces []string `json:"namespaces,omitempty"`
}

// Codes with which `padis plan` exits.
const (
	ExitNone    = 0
	ExitError   = 1
	ExitChanges = 2
)

// ExitCode is 0 if nothing would happen, 2 if something would, and 1 if it cannot be applied as it was given.
func (p *Plan) ExitCode() int {
	switch {
	case p.Refused():
		return ExitError
	case p.Changes():
		return ExitChanges
	}
	return ExitNone
}

// Refused tells whether the API server would refuse an object, or something stands against the whole.
func (p *Plan) Refused() bool {
	if len(p.Violations) > 0 {
		return true
	}
	for i := range p.Objects {
		if len(p.Objects[i].Refusals) > 0 {
			return true
		}
	}
	return false
}

// Changes tells whether anything would happen.
func (p *Plan) Changes() bool {
	for i := range p.Objects {
		if p.Objects[i].Action != Unchanged {
			return true
		}
	}
	return len(p.Apps)+len(p.Addresses) > 0
}
