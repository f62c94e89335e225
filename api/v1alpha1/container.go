package v1alpha1

import "k8s.io/apimachinery/pkg/api/resource"

// Values of imagePullPolicy.
const (
	PullIfNotPresent = "IfNotPresent"
	PullAlways       = "Always"
)

// Values of onChange of a volume.
const (
	OnChangeNone    = "None"
	OnChangeRestart = "Restart"
	OnChangeSignal  = "Signal"
)

// SecretReference names a Secret of the same namespace.
type SecretReference struct {
	// Name of the Secret.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// EnvSource is where the value of a variable comes from. Exactly one of configMapKeyRef and secretKeyRef is set.
//
// +kubebuilder:validation:XValidation:rule="has(self.configMapKeyRef) != has(self.secretKeyRef)",message="set exactly one of configMapKeyRef and secretKeyRef",reason=FieldValueRequired
type EnvSource struct {
	// A key of a ConfigMap. A changed value is an update of the App.
	// +optional
	ConfigMapKeyRef *KeySelector `json:"configMapKeyRef,omitempty"`
	// A key of a Secret. A changed value is an update of the App.
	// +optional
	SecretKeyRef *KeySelector `json:"secretKeyRef,omitempty"`
}

// KeySelector selects a key of a ConfigMap or Secret of the same namespace.
type KeySelector struct {
	// Name of the ConfigMap or Secret.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Key in it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key"`
	// Without the object or the key the variable is not set, and the App goes on.
	// +optional
	Optional bool `json:"optional,omitempty"`
}

// EnvFromSource makes a variable of each key. Exactly one of configMapRef and secretRef is set.
//
// +kubebuilder:validation:XValidation:rule="has(self.configMapRef) != has(self.secretRef)",message="set exactly one of configMapRef and secretRef",reason=FieldValueRequired
type EnvFromSource struct {
	// Put before each key to make the name of the variable.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^([A-Za-z_][A-Za-z0-9_]*)?$`
	Prefix string `json:"prefix,omitempty"`
	// All keys of a ConfigMap.
	// +optional
	ConfigMapRef *ObjectSelector `json:"configMapRef,omitempty"`
	// All keys of a Secret.
	// +optional
	SecretRef *ObjectSelector `json:"secretRef,omitempty"`
}

// ObjectSelector selects a ConfigMap or Secret of the same namespace.
type ObjectSelector struct {
	// Name of the ConfigMap or Secret.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Without the object no variable is set, and the App goes on.
	// +optional
	Optional bool `json:"optional,omitempty"`
}

// Security is what a container may do. Without it a container has the usual capabilities, the usual filter of system
// calls, and cannot gain privileges.
type Security struct {
	// Capabilities beside, or instead of, the usual ones.
	// +optional
	Capabilities Capabilities `json:"capabilities,omitempty"`
	// The container cannot write to its image; volumes and /tmp stay as they are.
	// +optional
	ReadOnlyRootFilesystem bool `json:"readOnlyRootFilesystem,omitempty"`
	// Programs may gain privileges by setuid bits and file capabilities. Must be granted by
	// spec.privileges.privilegeEscalation of the namespace's Tenant.
	// +optional
	AllowPrivilegeEscalation bool `json:"allowPrivilegeEscalation,omitempty"`
	// Filter of system calls: Default, or Unconfined for none, which must be granted by spec.privileges.seccompUnconfined of
	// the namespace's Tenant.
	// +optional
	// +kubebuilder:default=Default
	// +kubebuilder:validation:Enum=Default;Unconfined
	SeccompProfile string `json:"seccompProfile,omitempty"`
}

// Capabilities of Linux, without CAP_, for example NET_ADMIN.
type Capabilities struct {
	// Capabilities that the program has beside the usual ones. Those that are not among the usual ones must be granted
	// by spec.privileges.capabilities of the namespace's Tenant.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=41
	// +kubebuilder:validation:items:MaxLength=32
	// +kubebuilder:validation:items:XValidation:rule="self.matches('^[A-Z][A-Z_]*[A-Z]$') && !self.startsWith('CAP_') && self != 'ALL'",message="must be the name of one capability without CAP_, for example NET_ADMIN"
	Add []string `json:"add,omitempty"`
	// Capabilities that the program does not have; ALL takes away all that are not in add.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=42
	// +kubebuilder:validation:items:MaxLength=32
	// +kubebuilder:validation:items:XValidation:rule="self.matches('^[A-Z][A-Z_]*[A-Z]$') && !self.startsWith('CAP_')",message="must be ALL or the name of one capability without CAP_, for example NET_RAW"
	Drop []string `json:"drop,omitempty"`
}

// Volume is a directory that a container sees. Exactly one of hostPath, emptyDir, nfs, configMap, secret and
// addressLogs is set.
//
// +kubebuilder:validation:XValidation:rule="[has(self.hostPath), has(self.emptyDir), has(self.nfs), has(self.configMap), has(self.secret), has(self.addressLogs)].filter(x, x).size() == 1",message="set exactly one of hostPath, emptyDir, nfs, configMap, secret and addressLogs",reason=FieldValueRequired
type Volume struct {
	// Name of the volume; each volume has its own.
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`
	// Where the container sees it.
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.matches('^(/[^/]+)+$') && !self.matches('/[.][.]?(/|$)')",message="must be an absolute path without .., and not / itself, for example /etc/shop"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^/(proc|sys)(/|$)') && self != '/dev'",message="/proc, /sys and /dev belong to the container itself: choose another path"
	MountPath string `json:"mountPath"`
	// The container cannot write to it.
	// +optional
	ReadOnly bool `json:"readOnly,omitempty"`
	// A directory or file of the host, which must be there. The Tenant of the namespace must allow it in spec.hostPaths.
	// +optional
	HostPath *HostPathVolume `json:"hostPath,omitempty"`
	// An empty directory that lives as long as the instance's run.
	// +optional
	EmptyDir *EmptyDirVolume `json:"emptyDir,omitempty"`
	// A directory of an NFS server.
	// +optional
	NFS *NFSVolume `json:"nfs,omitempty"`
	// The keys of a ConfigMap as files.
	// +optional
	ConfigMap *FilesVolume `json:"configMap,omitempty"`
	// The keys of a Secret as files, which are kept in memory only.
	// +optional
	Secret *FilesVolume `json:"secret,omitempty"`
	// A directory that is kept for the instance's first address, whatever runs there, on whichever host it was.
	// +optional
	AddressLogs *AddressLogsVolume `json:"addressLogs,omitempty"`
}

// HostPathVolume is a directory or file of the host.
type HostPathVolume struct {
	// Absolute path on the host.
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.matches('^(/|(/[^/]+)+)$') && !self.matches('/[.][.]?(/|$)')",message="must be an absolute path without .., for example /srv/data"
	Path string `json:"path"`
}

// EmptyDirVolume is an empty directory.
type EmptyDirVolume struct {
	// How much it may hold, at least 1Mi, for example 64Mi; without it, it is bounded by what holds it.
	// +optional
	Size *resource.Quantity `json:"size,omitempty"`
	// Memory keeps it in memory, where it counts as the instance's; empty keeps it on the host's disk.
	// +optional
	// +kubebuilder:validation:Enum="";Memory
	Medium string `json:"medium,omitempty"`
}

// NFSVolume is a directory of an NFS server.
type NFSVolume struct {
	// Name or address of the server.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9]([-A-Za-z0-9.:]*[A-Za-z0-9])?$`
	Server string `json:"server"`
	// Absolute path on the server.
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.startsWith('/') && !self.matches('/[.][.](/|$)')",message="must be an absolute path without .., for example /exports/shop"
	Path string `json:"path"`
	// Options of the mount, for example vers=4.1 or soft.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=64
	// +kubebuilder:validation:items:Pattern=`^[A-Za-z0-9][A-Za-z0-9._=:/-]*$`
	Options []string `json:"options,omitempty"`
}

// FilesVolume shows the keys of a ConfigMap or Secret of the same namespace as files.
//
// +kubebuilder:validation:XValidation:rule="(has(self.onChange) && self.onChange == 'Signal') == (has(self.signal) && self.signal.size() > 0)",message="signal is needed with onChange: Signal, and with that only",fieldPath=".signal"
type FilesVolume struct {
	// Name of the ConfigMap or Secret.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Only these keys; without any, all keys, each as a file of its name.
	// +optional
	// +listType=map
	// +listMapKey=path
	// +kubebuilder:validation:MaxItems=64
	Items []KeyToPath `json:"items,omitempty"`
	// Permissions of the files; default is 0444, for Secrets 0400.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=511
	DefaultMode *int32 `json:"defaultMode,omitempty"`
	// What happens when the content changes. None: the files change at the next start. Restart: instances are replaced, as
	// at any update. Signal: the files change, then the program is sent signal.
	// +optional
	// +kubebuilder:default=None
	// +kubebuilder:validation:Enum=None;Restart;Signal
	OnChange string `json:"onChange,omitempty"`
	// The signal of onChange: Signal.
	// +optional
	// +kubebuilder:validation:Enum=SIGHUP;SIGUSR1;SIGUSR2;SIGINT;SIGQUIT;SIGTERM;SIGWINCH
	Signal string `json:"signal,omitempty"`
}

// KeyToPath is one key as a file.
type KeyToPath struct {
	// Key of the ConfigMap or Secret.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key"`
	// Path of the file, below mountPath.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="self.matches('^[^/]+(/[^/]+)*$') && !self.matches('(^|/)[.][.]?(/|$)')",message="must stay below mountPath: use a relative path without .."
	Path string `json:"path"`
}

// AddressLogsVolume has no settings.
type AddressLogsVolume struct{}
