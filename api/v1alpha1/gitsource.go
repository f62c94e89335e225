package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Ways to verify what a source delivers.
const (
	VerifyNone         = "None"
	VerifyCommit       = "Commit"
	VerifyTag          = "Tag"
	VerifyTagAndCommit = "TagAndCommit"
)

// Types of signers.
const (
	SignerSSH  = "SSH"
	SignerGPG  = "GPG"
	SignerX509 = "X509"
)

// Types of webhooks.
const (
	WebhookGitHub  = "GitHub"
	WebhookGitLab  = "GitLab"
	WebhookGitea   = "Gitea"
	WebhookGeneric = "Generic"
)

// GitSource is a git repository that Syncs take declarations from.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Namespaced,shortName=gitsrc,categories=padis
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="URL",type=string,JSONPath=`.spec.url`
// +kubebuilder:printcolumn:name="Ref",type=string,JSONPath=`.status.ref`
// +kubebuilder:printcolumn:name="Commit",type=string,JSONPath=`.status.commit`
// +kubebuilder:printcolumn:name="Signer",type=string,JSONPath=`.status.signer.identity`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
type GitSource struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What is wanted.
	Spec GitSourceSpec `json:"spec"`
	// What was fetched. Written by Padis only.
	Status GitSourceStatus `json:"status,omitempty"`
}

// GitSourceList is a list of GitSources.
//
// +kubebuilder:object:root=true
type GitSourceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []GitSource `json:"items"`
}

// GitSourceSpec describes a repository, and whom to believe.
//
// +kubebuilder:validation:XValidation:rule="!has(self.knownHosts) || self.knownHosts.size() == 0 || !self.url.matches('^(https?|file)://')",message="only ssh has known hosts: unset it, or use an ssh URL",fieldPath=".knownHosts"
// +kubebuilder:validation:XValidation:rule="!has(self.caBundle) || self.caBundle.size() == 0 || self.url.startsWith('https://')",message="only https has certificates: unset it, or use an https URL",fieldPath=".caBundle"
// +kubebuilder:validation:XValidation:rule="!has(self.verify) || !has(self.verify.mode) || self.verify.mode in ['None', 'Commit'] || (has(self.ref) && ((has(self.ref.tag) && self.ref.tag.size() > 0) || (has(self.ref.semver) && self.ref.semver.size() > 0)))",message="only a tag has the signature of a tag: set ref.tag or ref.semver, or use the mode Commit",fieldPath=".verify.mode"
type GitSourceSpec struct {
	// URL of the repository: https, http, ssh or file, or user@host:path for ssh. Credentials belong into secretRef.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="self.matches('^(https?|ssh|file)://[^\\\\s]+$') || self.matches('^[A-Za-z0-9_][-A-Za-z0-9_.]*@[A-Za-z0-9][-A-Za-z0-9.]*:[^\\\\s]+$')",message="must be the URL of a repository, for example https://git.example.com/shop.git, ssh://git@git.example.com/shop.git or git@git.example.com:shop.git"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^https?://[^/]*@') && !self.matches('^ssh://[^/]*:[^/]*@')",message="must not hold credentials, which everybody who sees the GitSource would see: put username and password into the Secret of secretRef"
	URL string `json:"url"`
	// What of the repository is wanted; without it, its default branch.
	// +optional
	Ref GitRef `json:"ref,omitempty"`
	// Directories and files that are read; without any, all. Everything is fetched, but for files of more than 10 MiB where the
	// server allows that (uploadpack.allowFilter); what is outside is not read, compared or counted, submodules there are not
	// fetched, and signers need not be allowed to change it.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=512
	// +kubebuilder:validation:items:XValidation:rule="!self.startsWith('/') && !self.matches('(^|/)[.][.](/|$)')",message="must be a path within the repository, for example clusters/berlin"
	Paths []string `json:"paths,omitempty"`
	// How often the repository is asked; webhooks make it faster.
	// +optional
	// +kubebuilder:default="1m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}s)?$') && self.size() > 0 && duration(self) >= duration('5s') && duration(self) <= duration('168h')",message="must be a time from 5s to 168h, for example 1m"
	Interval *metav1.Duration `json:"interval,omitempty"`
	// How long one fetch may take.
	// +optional
	// +kubebuilder:default="1m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}s)?$') && self.size() > 0 && duration(self) >= duration('1s') && duration(self) <= duration('1h')",message="must be a time from 1s to 1h, for example 1m"
	Timeout *metav1.Duration `json:"timeout,omitempty"`
	// Secret with the credentials: username and password, or bearerToken, or identity (a private key for ssh) with its
	// password if it has one.
	// +optional
	SecretRef *SecretReference `json:"secretRef,omitempty"`
	// Keys of ssh servers, as lines of a known_hosts file. Without them those of the key known_hosts of the Secret are
	// used; servers with other keys are refused.
	// +optional
	// +kubebuilder:validation:MaxLength=65536
	KnownHosts string `json:"knownHosts,omitempty"`
	// Certificates, in PEM, of the authorities that may have signed that of the server, beside those of the host.
	// +optional
	// +kubebuilder:validation:MaxLength=131072
	// +kubebuilder:validation:XValidation:rule="self.size() == 0 || self.contains('-----BEGIN CERTIFICATE-----')",message="must be certificates in PEM: -----BEGIN CERTIFICATE----- and so on"
	CABundle string `json:"caBundle,omitempty"`
	// Proxy that the server is reached by.
	// +optional
	Proxy *GitProxy `json:"proxy,omitempty"`
	// Fetch submodules, too.
	// +optional
	Submodules bool `json:"submodules,omitempty"`
	// Fetch nothing more until it is unset.
	// +optional
	Suspend bool `json:"suspend,omitempty"`
	// Calls by which the server says that something was pushed.
	// +optional
	Webhook *GitWebhook `json:"webhook,omitempty"`
	// Whose signatures are believed. Without it, everything that the server delivers is.
	// +optional
	Verify *GitVerify `json:"verify,omitempty"`
}

// GitRef names a commit. At most one field but branch is set; a commit may have a branch that it must be on.
//
// +kubebuilder:validation:XValidation:rule="(has(self.branch) && self.branch.size() > 0 ? 1 : 0) + (has(self.tag) && self.tag.size() > 0 ? 1 : 0) + (has(self.semver) && self.semver.size() > 0 ? 1 : 0) <= 1",message="set one of branch, tag and semver"
// +kubebuilder:validation:XValidation:rule="!has(self.commit) || self.commit.size() == 0 || ((!has(self.tag) || self.tag.size() == 0) && (!has(self.semver) || self.semver.size() == 0))",message="a commit stands for itself: unset tag and semver, or unset commit",fieldPath=".commit"
type GitRef struct {
	// Newest commit of a branch.
	// +optional
	// +kubebuilder:validation:MaxLength=255
	Branch string `json:"branch,omitempty"`
	// Commit of a tag.
	// +optional
	// +kubebuilder:validation:MaxLength=255
	Tag string `json:"tag,omitempty"`
	// Tag with the highest version in a range, for example ">=1.4.0 <2.0.0" or "~1.4".
	// +optional
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:XValidation:rule="self.size() == 0 || self.matches('^[-0-9A-Za-z.+*^~<>=!|, ]+$')",message="must be a range of versions, for example \">=1.4.0 <2.0.0\" or \"~1.4\""
	Semver string `json:"semver,omitempty"`
	// A commit, by its whole hash.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.size() == 0 || self.matches('^([0-9a-f]{40}|[0-9a-f]{64})$')",message="must be the whole hash of a commit, in lower case (git rev-parse HEAD)"
	Commit string `json:"commit,omitempty"`
}

// GitProxy is a proxy for the server of a repository.
type GitProxy struct {
	// URL of the proxy. Credentials belong into secretRef.
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.matches('^(https?|socks5)://[^/?#@\\\\s]+/?$')",message="must be the URL of a proxy without credentials, for example http://proxy.example.com:3128"
	URL string `json:"url"`
	// Secret with username and password.
	// +optional
	SecretRef *SecretReference `json:"secretRef,omitempty"`
}

// GitWebhook says who may call, and how.
type GitWebhook struct {
	// Who calls: GitHub, GitLab, Gitea, or Generic with the header X-Padis-Signature-256: sha256=HMAC of the body.
	// +kubebuilder:validation:Enum=GitHub;GitLab;Gitea;Generic
	Type string `json:"type"`
	// Secret whose key token is shared with the server, of at least 16 bytes. Calls without it are refused.
	SecretRef SecretReference `json:"secretRef"`
}

// GitVerify says whose signatures are believed.
//
// +kubebuilder:validation:XValidation:rule="(has(self.mode) && self.mode == 'None') || (has(self.signers) && self.signers.size() > 0)",message="without signers nothing would ever be applied: list those who may sign, or use the mode None",fieldPath=".signers"
type GitVerify struct {
	// What must be signed: Commit, Tag, TagAndCommit, or None.
	// +optional
	// +kubebuilder:default=Commit
	// +kubebuilder:validation:Enum=None;Commit;Tag;TagAndCommit
	Mode string `json:"mode,omitempty"`
	// Who may sign. For each changed file one of them must have signed who may change it.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	Signers []GitSigner `json:"signers,omitempty"`
}

// GitSigner is a set of keys, and what they may change.
//
// +kubebuilder:validation:XValidation:rule="has(self.secretKeyRef) != has(self.configMapKeyRef)",message="set exactly one of secretKeyRef and configMapKeyRef",reason=FieldValueRequired
type GitSigner struct {
	// What the keys are: SSH, lines of an allowed_signers file; GPG, public keys in armour; X509, certificates of
	// authorities in PEM.
	// +kubebuilder:validation:Enum=SSH;GPG;X509
	Type string `json:"type"`
	// A key of a Secret that holds them.
	// +optional
	SecretKeyRef *KeyReference `json:"secretKeyRef,omitempty"`
	// A key of a ConfigMap that holds them.
	// +optional
	ConfigMapKeyRef *KeyReference `json:"configMapKeyRef,omitempty"`
	// Identities of the keys that count, for example ops@example.com; without any, all.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=256
	Identities []string `json:"identities,omitempty"`
	// Files that they may change, for example clusters/berlin/** or apps/*.yaml; without any, all.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=512
	// +kubebuilder:validation:items:XValidation:rule="!self.startsWith('/') && !self.matches('(^|/)[.][.](/|$)')",message="must be a path within the repository, for example clusters/berlin/**"
	Paths []string `json:"paths,omitempty"`
}

// KeyReference names a key of a ConfigMap or Secret of the same namespace.
type KeyReference struct {
	// Name of the ConfigMap or Secret.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Key in it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key"`
}

// GitSourceStatus is what was fetched of a GitSource.
type GitSourceStatus struct {
	// The generation of the spec that this status speaks of.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// The newest commit that was fetched and verified: Syncs see this one.
	// +optional
	Commit string `json:"commit,omitempty"`
	// The paths that were read of it; without any, all.
	// +optional
	// +listType=atomic
	Paths []string `json:"paths,omitempty"`
	// The branch or tag that it is of.
	// +optional
	Ref string `json:"ref,omitempty"`
	// Who wrote it.
	// +optional
	Author string `json:"author,omitempty"`
	// First line of its message.
	// +optional
	Subject string `json:"subject,omitempty"`
	// When it was made.
	// +optional
	CommitTime *metav1.Time `json:"commitTime,omitempty"`
	// Who signed it; empty if nobody had to.
	// +optional
	Signer *Signer `json:"signer,omitempty"`
	// The newest commit that was not believed; empty if the newest is.
	// +optional
	Refused string `json:"refused,omitempty"`
	// When the server has answered last.
	// +optional
	LastFetchTime *metav1.Time `json:"lastFetchTime,omitempty"`
	// Path of the API server that the git server has to call with POST: https://API/webhooks/NAMESPACE/NAME.
	// +optional
	WebhookPath string `json:"webhookPath,omitempty"`
	// Ready, Reconciling and Stalled, each with a reason and a sentence that says what to do.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Signer is who signed a commit or tag.
type Signer struct {
	// SSH, GPG or X509.
	Type string `json:"type"`
	// Whom the key is known as.
	Identity string `json:"identity"`
	// Fingerprint of the key.
	Key string `json:"key"`
}
