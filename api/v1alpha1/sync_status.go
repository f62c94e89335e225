package v1alpha1

import (
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// MaxHistory is the number of applied commits that the status of a Sync lists.
const MaxHistory = 10

// MaxReported is the number of conflicts, drifted fields and unhealthy objects that the status of a Sync lists.
const MaxReported = 50

// MaxTelling is the number of messages that wait for the receivers of notifications of a Sync. Of more, the newest are kept.
const MaxTelling = 16

// SyncStatus is how far a Sync is.
type SyncStatus struct {
	// The generation of the spec that this status speaks of.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// The newest commit of the source.
	// +optional
	SeenCommit string `json:"seenCommit,omitempty"`
	// The commit that was tried last.
	// +optional
	LastAttemptedCommit string `json:"lastAttemptedCommit,omitempty"`
	// The last commit all of which was applied.
	// +optional
	LastAppliedCommit string `json:"lastAppliedCommit,omitempty"`
	// When that was.
	// +optional
	LastAppliedTime *metav1.Time `json:"lastAppliedTime,omitempty"`
	// Commits all of which was applied, the newest first; at most 10 are listed, and each once. The first that is not rolled
	// back is the one in force. A rollback moves none of them; one to a commit that is not listed puts that first.
	// +optional
	// +listType=atomic
	History []AppliedCommit `json:"history,omitempty"`
	// Who wrote that commit.
	// +optional
	Author string `json:"author,omitempty"`
	// Who signed it.
	// +optional
	Signer *Signer `json:"signer,omitempty"`
	// Attempts in a row that have failed.
	// +optional
	Failures int32 `json:"failures,omitempty"`
	// An attempt has begun and not succeeded, so that what is there may be a part of each of two commits.
	// +optional
	Incomplete bool `json:"incomplete,omitempty"`
	// The commit of which a part was written by attempts that have not succeeded.
	// +optional
	PartlyAppliedCommit string `json:"partlyAppliedCommit,omitempty"`
	// When the next attempt is.
	// +optional
	NextAttemptTime *metav1.Time `json:"nextAttemptTime,omitempty"`
	// Digest of everything but the repository that the last attempt depended on: spec and variables.
	// +optional
	Settings string `json:"settings,omitempty"`
	// The same of the last commit all of which was applied.
	// +optional
	AppliedSettings string `json:"appliedSettings,omitempty"`
	// The rollback of the spec that a commit has ended.
	// +optional
	ReleasedRollback *ReleasedRollback `json:"releasedRollback,omitempty"`
	// Objects of spec.undo that are left as they are, as KIND/NAMESPACE/NAME.
	// +optional
	// +listType=atomic
	Undone []string `json:"undone,omitempty"`
	// What holds and the receivers of notifications have been told, or are being told.
	// +optional
	// +listType=map
	// +listMapKey=event
	// +listMapKey=of
	Told []ToldEvent `json:"told,omitempty"`
	// Messages that the receivers of notifications have not taken yet; at most 16 are kept.
	// +optional
	// +listType=map
	// +listMapKey=id
	Telling []Message `json:"telling,omitempty"`
	// Objects that the Sync has applied.
	// +optional
	Objects int32 `json:"objects,omitempty"`
	// These objects.
	// +optional
	// +listType=atomic
	Inventory []InventoryGroup `json:"inventory,omitempty"`
	// Fields that others hold with another value; at most 50 are listed.
	// +optional
	// +listType=atomic
	Conflicts []FieldReport `json:"conflicts,omitempty"`
	// Fields that others have changed; at most 50 are listed.
	// +optional
	// +listType=atomic
	Drift []FieldReport `json:"drift,omitempty"`
	// Objects that are not healthy; at most 50 are listed.
	// +optional
	// +listType=atomic
	Unhealthy []ObjectReport `json:"unhealthy,omitempty"`
	// Objects that are to be deleted and wait for confirmation.
	// +optional
	PendingPrune int32 `json:"pendingPrune,omitempty"`
	// Ready, Reconciling, Stalled and Healthy, each with a reason and a sentence that says what to do.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// AppliedCommit is a commit that was in force.
type AppliedCommit struct {
	// The commit.
	Commit string `json:"commit"`
	// When all of it was applied.
	Time metav1.Time `json:"time"`
	// Who wrote it.
	// +optional
	Author string `json:"author,omitempty"`
	// A rollback went back from it, or past it, and it was not applied again since. padis rollback sync does not choose it by
	// itself.
	// +optional
	RolledBack bool `json:"rolledBack,omitempty"`
}

// ToldEvent is something that the receivers of notifications have been told.
type ToldEvent struct {
	// Applied, Healthy, Failed, Drift, Rollback or Refused.
	Event string `json:"event"`
	// What tells it from the others of its type: the commit, and the reason if it has one.
	Of string `json:"of"`
}

// Message is what receivers of notifications are told. It is in the status before it is sent, so that a restart may tell it
// twice, and not never.
type Message struct {
	// What tells the message from others: receivers may get it more than once.
	ID string `json:"id"`
	// Applied, Healthy, Failed, Drift, Rollback or Refused.
	Event string `json:"event"`
	// The commit that it is about.
	// +optional
	Commit string `json:"commit,omitempty"`
	// Who wrote that commit.
	// +optional
	Author string `json:"author,omitempty"`
	// Why, as in the condition.
	// +optional
	Reason string `json:"reason,omitempty"`
	// The same as a sentence.
	// +optional
	Message string `json:"message,omitempty"`
	// When it was found out.
	Time metav1.Time `json:"time"`
}

// ReleasedRollback is a rollback that a commit has ended.
type ReleasedRollback struct {
	// Commit that was in force.
	To string `json:"to"`
	// The bad commit.
	From string `json:"from"`
	// The commit that has ended it.
	By string `json:"by"`
}

// InventoryGroup are objects of one kind in one namespace. Names are one text because a Sync may have tens of thousands of
// objects: a list of so many is looked at one by one with each status that is written.
type InventoryGroup struct {
	// API group of the kind; empty for the core.
	// +optional
	Group string `json:"group,omitempty"`
	// API version that they were applied in.
	Version string `json:"version"`
	// Kind of the objects.
	Kind string `json:"kind"`
	// Namespace of the objects; empty if they have none.
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// Their names, sorted, one a line.
	Names string `json:"names"`
}

// List gives the names one by one.
func (g *InventoryGroup) List() []string { return strings.Split(g.Names, "\n") }

// FieldReport is a field that is not as the repository says.
type FieldReport struct {
	// The object, as KIND/NAMESPACE/NAME.
	Object string `json:"object"`
	// Path of the field.
	Path string `json:"path"`
	// What the repository says.
	// +optional
	Want string `json:"want,omitempty"`
	// What is there.
	// +optional
	Is string `json:"is,omitempty"`
	// Field manager that has set it.
	// +optional
	By string `json:"by,omitempty"`
	// When that was.
	// +optional
	At *metav1.Time `json:"at,omitempty"`
	// If it is changed again as soon as it is put back: by whom, how often, and when it is put back again.
	// +optional
	Contest string `json:"contest,omitempty"`
}

// ObjectReport is an object that is not healthy.
type ObjectReport struct {
	// The object, as KIND/NAMESPACE/NAME.
	Object string `json:"object"`
	// Progressing, Failed or Unknown.
	Health string `json:"health"`
	// Why.
	// +optional
	Reason string `json:"reason,omitempty"`
	// The same as a sentence.
	// +optional
	Message string `json:"message,omitempty"`
}
