package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Condition types of GitSources and Syncs.
const (
	// ConditionReady: the newest commit is fetched and verified, or applied and healthy.
	ConditionReady = "Ready"
	// ConditionReconciling: work is under way, or will be tried again.
	ConditionReconciling = "Reconciling"
	// ConditionStalled: nothing will happen before somebody changes something.
	ConditionStalled = "Stalled"
	// ConditionHealthy: all objects of a Sync are healthy.
	ConditionHealthy = "Healthy"
)

// Annotations of objects that Syncs apply, and of Syncs.
const (
	// AnnotationSync is the NAMESPACE/NAME of the Sync that an object is of. It is set by Padis.
	AnnotationSync = "padis.io/sync"
	// AnnotationWave is when an object is applied: those of a lower number must be healthy before. Default is 0.
	AnnotationWave = "padis.io/wave"
	// AnnotationPrune with the value disabled keeps an object that has left the repository.
	AnnotationPrune = "padis.io/prune"
	// AnnotationFetch, on a GitSource, has it fetched at once whenever its value changes. Webhooks set it; people may, too.
	AnnotationFetch = "padis.io/fetch"
	// AnnotationConfirmPrune, on a Sync, names the commit whose deletions are meant although they exceed pruneLimit.
	AnnotationConfirmPrune = "padis.io/confirm-prune"
	// AnnotationConfirmRewrite, on a GitSource, names the commit that is meant although the branch was force-pushed or the tag moved.
	AnnotationConfirmRewrite = "padis.io/confirm-rewrite"
)

// PruneDisabled is the value of AnnotationPrune.
const PruneDisabled = "disabled"

// Drift policies.
const (
	DriftCorrect = "Correct"
	DriftReport  = "Report"
)

// Actions of change windows.
const (
	WindowAllow = "Allow"
	WindowDeny  = "Deny"
)

// Events that a Sync tells of.
const (
	NotifyApplied  = "Applied"
	NotifyHealthy  = "Healthy"
	NotifyFailed   = "Failed"
	NotifyDrift    = "Drift"
	NotifyRollback = "Rollback"
	NotifyRefused  = "Refused"
)

// Sync keeps what is declared in a path of a GitSource in force.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Namespaced,categories=padis
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Source",type=string,JSONPath=`.spec.sourceRef.name`
// +kubebuilder:printcolumn:name="Path",type=string,JSONPath=`.spec.path`
// +kubebuilder:printcolumn:name="Applied",type=string,JSONPath=`.status.lastAppliedCommit`
// +kubebuilder:printcolumn:name="Objects",type=integer,JSONPath=`.status.objects`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
type Sync struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What is wanted.
	Spec SyncSpec `json:"spec"`
	// How far it is. Written by Padis only.
	Status SyncStatus `json:"status,omitempty"`
}

// SyncList is a list of Syncs.
//
// +kubebuilder:object:root=true
type SyncList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Sync `json:"items"`
}

// SyncSpec says what is applied from where, when and how.
type SyncSpec struct {
	// Where declarations come from.
	SourceRef SourceReference `json:"sourceRef"`
	// Directory or file in the repository; without it, all of it.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="!self.startsWith('/') && !self.matches('(^|/)[.][.](/|$)')",message="must be a path within the repository, for example clusters/berlin"
	Path string `json:"path,omitempty"`
	// Namespace that all namespaced objects are in; those that name another are refused. Without it, objects that name none are
	// in that of the Sync.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.size() == 0 || self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="must be the name of a namespace, for example shop"
	TargetNamespace string `json:"targetNamespace,omitempty"`
	// What ${NAME} in the files stands for. Later ones win.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=128
	Variables []SyncVariable `json:"variables,omitempty"`
	// Secret whose keys ending in .agekey decrypt what sops has encrypted.
	// +optional
	DecryptionSecretRef *SecretReference `json:"decryptionSecretRef,omitempty"`
	// How the Helm chart in path is rendered. Charts need not be configured: a directory with a Chart.yaml is rendered as
	// helm template would, and what it renders to is treated as what any file says.
	// +optional
	Helm *SyncHelm `json:"helm,omitempty"`
	// ServiceAccount, of the namespace of the Sync, by whose rights objects are read and written: it needs the verbs get, create,
	// patch, and delete to prune; with list, large Syncs are faster. Without it, the Sync may only touch its own namespace.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	ServiceAccount string `json:"serviceAccount,omitempty"`
	// Delete objects that have left the repository, and all of them when the Sync is deleted. Those with the annotation
	// padis.io/prune: disabled stay.
	// +optional
	Prune bool `json:"prune,omitempty"`
	// How many objects one commit may delete without confirmation.
	// +optional
	PruneLimit *PruneLimit `json:"pruneLimit,omitempty"`
	// What becomes of fields that others have changed: Correct puts them back, Report only tells.
	// +optional
	// +kubebuilder:default=Correct
	// +kubebuilder:validation:Enum=Correct;Report
	Drift string `json:"drift,omitempty"`
	// How long writing may take.
	// +optional
	// +kubebuilder:default="5m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}s)?$') && self.size() > 0 && duration(self) >= duration('1s') && duration(self) <= duration('24h')",message="must be a time from 1s to 24h, for example 5m"
	Timeout *metav1.Duration `json:"timeout,omitempty"`
	// How long the objects of a wave may take to be healthy before the Sync has failed.
	// +optional
	// +kubebuilder:default="10m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}s)?$') && self.size() > 0 && duration(self) >= duration('1s') && duration(self) <= duration('168h')",message="must be a time from 1s to 168h, for example 10m"
	HealthTimeout *metav1.Duration `json:"healthTimeout,omitempty"`
	// How a failed attempt is repeated.
	// +optional
	Retry SyncRetry `json:"retry,omitempty"`
	// Syncs that must be ready before.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	DependsOn []SyncReference `json:"dependsOn,omitempty"`
	// When anything is changed: within one of those that allow, if there are any, and never within one that denies. What is
	// under way is held up at their end; what others have changed meanwhile is reported, and put back in the next one.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Windows []ChangeWindow `json:"windows,omitempty"`
	// Change nothing more until it is unset. A Sync that is deleted meanwhile leaves its objects.
	// +optional
	Suspend bool `json:"suspend,omitempty"`
	// An earlier commit that is in force in place of a bad one.
	// +optional
	Rollback *SyncRollback `json:"rollback,omitempty"`
	// Objects that are left as they are, each until a commit says of it what the bad one did not: padis rollback app sets it.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	Undo []SyncUndo `json:"undo,omitempty"`
	// Who is told of what.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	Notifications []SyncNotification `json:"notifications,omitempty"`
}

// SourceReference names a GitSource.
type SourceReference struct {
	// Namespace of the GitSource; without it, that of the Sync.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace,omitempty"`
	// Name of the GitSource.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// SyncReference names a Sync.
type SyncReference struct {
	// Namespace of the Sync; without it, the same.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace,omitempty"`
	// Name of the Sync.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// SyncVariable is one variable with its value, or all keys of a ConfigMap or Secret.
//
// +kubebuilder:validation:XValidation:rule="(has(self.name) && self.name.size() > 0 ? 1 : 0) + (has(self.configMapRef) ? 1 : 0) + (has(self.secretRef) ? 1 : 0) == 1",message="set exactly one of name, configMapRef and secretRef",reason=FieldValueRequired
// +kubebuilder:validation:XValidation:rule="(has(self.name) && self.name.size() > 0) || !has(self.value) || self.value.size() == 0",message="a value is that of a name: set name, or unset value",fieldPath=".value"
// +kubebuilder:validation:XValidation:rule="!has(self.optional) || !self.optional || has(self.configMapRef) || has(self.secretRef)",message="only a ConfigMap or Secret can be missing: unset optional",fieldPath=".optional"
type SyncVariable struct {
	// Name of the variable.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.size() == 0 || self.matches('^[A-Za-z_][A-Za-z0-9_]*$')",message="must be letters, digits and _, not beginning with a digit, for example REPLICAS"
	Name string `json:"name,omitempty"`
	// Its value.
	// +optional
	// +kubebuilder:validation:MaxLength=65536
	Value string `json:"value,omitempty"`
	// ConfigMap, of the namespace of the Sync, whose keys are variables.
	// +optional
	ConfigMapRef *ConfigMapReference `json:"configMapRef,omitempty"`
	// Secret, of the namespace of the Sync, whose keys are variables.
	// +optional
	SecretRef *SecretReference `json:"secretRef,omitempty"`
	// The ConfigMap or Secret need not be there.
	// +optional
	Optional bool `json:"optional,omitempty"`
}

// ConfigMapReference names a ConfigMap.
type ConfigMapReference struct {
	// Name of the ConfigMap.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// PruneLimit bounds what one commit may delete. Whichever is reached first counts.
type PruneLimit struct {
	// Objects.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Count *int32 `json:"count,omitempty"`
	// Objects in percent of those that the Sync has applied.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	Percent *int32 `json:"percent,omitempty"`
}

// SyncRetry says how a failed attempt is repeated. Each time, the wait is twice as long. A newer commit does not wait.
type SyncRetry struct {
	// Wait before the first repetition.
	// +optional
	// +kubebuilder:default="5s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}s)?$') && self.size() > 0 && duration(self) >= duration('1s') && duration(self) <= duration('24h')",message="must be a time from 1s to 24h, for example 5s"
	Interval *metav1.Duration `json:"interval,omitempty"`
	// Longest wait.
	// +optional
	// +kubebuilder:default="5m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}s)?$') && self.size() > 0 && duration(self) >= duration('1s') && duration(self) <= duration('24h')",message="must be a time from 1s to 24h, for example 5m"
	Max *metav1.Duration `json:"max,omitempty"`
}

// ChangeWindow is a time of the week. It is open while a clock in its time zone shows a time in it: hours that a clock
// skips in spring are not there, and those that it repeats in autumn are there twice.
type ChangeWindow struct {
	// Allow or Deny.
	// +optional
	// +kubebuilder:default=Allow
	// +kubebuilder:validation:Enum=Allow;Deny
	Action string `json:"action,omitempty"`
	// Days on which it begins; without any, every day.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=7
	// +kubebuilder:validation:items:Enum=Mon;Tue;Wed;Thu;Fri;Sat;Sun
	Days []string `json:"days,omitempty"`
	// Time of the day at which it begins, for example 22:00.
	// +kubebuilder:validation:MaxLength=5
	// +kubebuilder:validation:XValidation:rule="self.matches('^([01][0-9]|2[0-3]):[0-5][0-9]$')",message="must be a time from 00:00 to 23:59"
	From string `json:"from"`
	// Time of the day at which it has ended, for example 04:00: the next day, if that is not after from.
	// +kubebuilder:validation:MaxLength=5
	// +kubebuilder:validation:XValidation:rule="self.matches('^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$')",message="must be a time from 00:00 to 24:00"
	To string `json:"to"`
	// Time zone, by its name in the IANA database.
	// +optional
	// +kubebuilder:default=UTC
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.size() == 0 || self.matches('^[A-Za-z][-+A-Za-z0-9_]*(/[A-Za-z0-9][-+A-Za-z0-9_]*)*$')",message="must be the name of a time zone, for example Europe/Berlin"
	TimeZone string `json:"timeZone,omitempty"`
}

// SyncRollback keeps an earlier commit in force until one arrives that changes what the bad one has changed.
//
// +kubebuilder:validation:XValidation:rule="!has(self.from) || self.from.size() == 0 || self.from != self.to",message="is the commit to go back to: name the bad one",fieldPath=".from"
type SyncRollback struct {
	// Commit that is in force.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9a-f]{40}|[0-9a-f]{64})$')",message="must be the whole hash of a commit, in lower case (git rev-parse HEAD)"
	To string `json:"to"`
	// The bad commit. Without it, no commit ends the rollback.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.size() == 0 || self.matches('^([0-9a-f]{40}|[0-9a-f]{64})$')",message="must be the whole hash of a commit, in lower case (git rev-parse HEAD)"
	From string `json:"from,omitempty"`
	// Stay until the rollback is removed, whatever arrives.
	// +optional
	Pinned bool `json:"pinned,omitempty"`
}

// SyncUndo leaves one object as it is, although a commit says otherwise: it is not applied, put back or deleted.
type SyncUndo struct {
	// API group of the object, empty for the core; without it, that of Padis.
	// +optional
	// +kubebuilder:default=padis.io
	// +kubebuilder:validation:MaxLength=253
	Group string `json:"group"`
	// Kind of the object.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind"`
	// Namespace of the object; empty if it has none.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace,omitempty"`
	// Name of the object.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// The bad commit. What it says of the object is not applied, from whichever commit it comes.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9a-f]{40}|[0-9a-f]{64})$')",message="must be the whole hash of a commit, in lower case (git rev-parse HEAD)"
	From string `json:"from"`
}

// SyncNotification says who is told of what: a JSON object with text, event, sync, commit, author, reason, message, time and id is
// sent with POST, as incoming webhooks of Slack and Mattermost take it. What is not taken is sent again for some 20 minutes.
type SyncNotification struct {
	// Secret of the namespace of the Sync with the key url; with token if the receiver wants a bearer token; with ca.crt if its
	// certificate is of an authority that the host does not know. The URL is http or https; addresses of this host and
	// link-local ones are refused, and redirects are not followed.
	SecretRef SecretReference `json:"secretRef"`
	// Of what; without any, of all.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=6
	// +kubebuilder:validation:items:Enum=Applied;Healthy;Failed;Drift;Rollback;Refused
	Events []string `json:"events,omitempty"`
}
