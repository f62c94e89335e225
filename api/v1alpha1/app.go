package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// App runs a number of equal instances, each with its own routable address that it keeps through restarts,
// moves and updates.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Namespaced,shortName=app,categories=all;padis
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.replicas,statuspath=.status.replicas,selectorpath=.status.selector
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.summary`,description="Ready instances of those wanted"
// +kubebuilder:printcolumn:name="Up-to-date",type=integer,JSONPath=`.status.updatedReplicas`
// +kubebuilder:printcolumn:name="Available",type=string,JSONPath=`.status.conditions[?(@.type=="Available")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Available")].reason`
// +kubebuilder:printcolumn:name="Restarts",type=integer,JSONPath=`.status.restarts`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Available")].message`
//
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 57",message="the name is too long: instances are called NAME-SLOT, which must fit the 63 characters of a host name, so choose a name of at most 57 characters",reason=FieldValueInvalid
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="the name becomes part of host names: use only a-z, 0-9 and -, beginning and ending with a letter or digit",reason=FieldValueInvalid
type App struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What is wanted.
	Spec AppSpec `json:"spec"`
	// What is there. Written by Padis only.
	Status AppStatus `json:"status,omitempty"`
}

// AppList is a list of Apps.
//
// +kubebuilder:object:root=true
type AppList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []App `json:"items"`
}

// AppSpec is what the user wants of an App.
type AppSpec struct {
	// Number of instances. Instance i is called NAME-i and keeps its address until it is scaled in.
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10000
	Replicas *int32 `json:"replicas,omitempty"`
	// What runs in each instance.
	Template Template `json:"template"`
	// Interfaces of each instance: eth0, eth1 and so on. The first carries the default route. Two that take addresses of
	// different families of the same Network are one interface. Without any, the instance has no network but its loopback.
	// +optional
	// +kubebuilder:validation:MaxItems=4
	// +kubebuilder:validation:XValidation:rule="self.size() <= 1 || self.all(n, !has(n.network) || n.network.size() == 0)",message="an instance that has the network of its host has no other interfaces: remove the other entries, or name an IPPool instead of the Network"
	Networks []NetworkAttachment `json:"networks,omitempty"`
	// Addresses that instances accept on their loopback and never answer ARP for: those of load balancers that send them
	// packets as they are. No pool may hand them out. A change restarts nobody.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=45
	// +kubebuilder:validation:items:XValidation:rule="isIP(self)",message="must be an IP address, for example 10.44.0.100 or fd00:44::100"
	LoopbackAddresses []string `json:"loopbackAddresses,omitempty"`
	// What becomes of instances on agents that do not answer. A change restarts nobody.
	// +optional
	Unreachable UnreachablePolicy `json:"unreachable,omitempty"`
	// Where instances may run. Always enforced.
	// +optional
	Placement Placement `json:"placement,omitempty"`
	// How a changed template reaches the instances.
	// +optional
	Update UpdateStrategy `json:"update,omitempty"`
	// How instances that ended are started again.
	// +optional
	Restart RestartPolicy `json:"restart,omitempty"`
}

// Template is what runs in an instance: a command is a plain process, an image is a container, and both together are a
// container whose program is the command.
//
// +kubebuilder:validation:XValidation:rule="(has(self.command) && self.command.size() > 0) || (has(self.image) && self.image.size() > 0)",message="set command (a plain process), image (a container), or both (a container that runs the command)",reason=FieldValueRequired
// +kubebuilder:validation:XValidation:rule="!has(self.volumes) || self.volumes.size() == 0 || (has(self.image) && self.image.size() > 0)",message="only containers have volumes: set image, or use artifacts",fieldPath=".volumes",reason=FieldValueForbidden
// +kubebuilder:validation:XValidation:rule="!has(self.artifacts) || self.artifacts.size() == 0 || !has(self.image) || self.image.size() == 0",message="a container has its files in its image: unset artifacts, or use volumes",fieldPath=".artifacts",reason=FieldValueForbidden
// +kubebuilder:validation:XValidation:rule="!has(self.security) || (has(self.image) && self.image.size() > 0)",message="only containers can be restricted: set image",fieldPath=".security",reason=FieldValueForbidden
// +kubebuilder:validation:XValidation:rule="!has(self.init) || !self.init || (has(self.image) && self.image.size() > 0)",message="only containers have an init: set image",fieldPath=".init",reason=FieldValueForbidden
// +kubebuilder:validation:XValidation:rule="!has(self.imagePullPolicy) || (has(self.image) && self.image.size() > 0)",message="there is no image to pull: set image",fieldPath=".imagePullPolicy",reason=FieldValueForbidden
// +kubebuilder:validation:XValidation:rule="!has(self.imagePullSecrets) || self.imagePullSecrets.size() == 0 || (has(self.image) && self.image.size() > 0)",message="there is no image to pull: set image",fieldPath=".imagePullSecrets",reason=FieldValueForbidden
// +kubebuilder:validation:XValidation:rule="!has(self.resources) || !has(self.resources.pids) || (has(self.image) && self.image.size() > 0)",message="only containers can be limited to a number of processes: set image",fieldPath=".resources.pids",reason=FieldValueForbidden
type Template struct {
	// Labels of the instances, beside padis.io/app.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	Labels map[string]string `json:"labels,omitempty"`
	// Program and arguments, not run through a shell. A name without a slash is looked up in PATH. With an image it takes
	// the place of the image's entrypoint and arguments.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:XValidation:rule="self.size() == 0 || self[0].size() > 0",message="the first element is the program and must not be empty"
	Command []string `json:"command,omitempty"`
	// Arguments after the command; with an image and no command, in place of the image's own.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=256
	Args []string `json:"args,omitempty"`
	// OCI image to run as a container, for example registry.example.com/shop:1.4 or one by its digest, shop@sha256:...
	// +optional
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.size() == 0 || self.matches('^(([A-Za-z0-9][-A-Za-z0-9.]*|[[][0-9a-fA-F:]+[]])(:[0-9]{1,5})?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*(:[A-Za-z0-9_][-A-Za-z0-9_.]{0,127})?(@[a-z0-9]+:[0-9a-f]{32,128})?$')",message="must be an image as HOST/NAME:TAG or HOST/NAME@sha256:DIGEST, for example registry.example.com/shop:1.4"
	Image string `json:"image,omitempty"`
	// When the registry is asked: IfNotPresent, if the agent does not have the image, or Always, at each start. An image
	// by digest is never asked for twice. Default is IfNotPresent.
	// +optional
	// +kubebuilder:validation:Enum=IfNotPresent;Always
	ImagePullPolicy string `json:"imagePullPolicy,omitempty"`
	// Secrets of the type kubernetes.io/dockerconfigjson with the credentials of registries.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	ImagePullSecrets []SecretReference `json:"imagePullSecrets,omitempty"`
	// Environment variables. PADIS_INSTANCE, PADIS_APP, PADIS_NAMESPACE, PADIS_SLOT, PADIS_HOST and PADIS_ADDRESS are always set.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=256
	Env []EnvVar `json:"env,omitempty"`
	// Variables from all keys of ConfigMaps and Secrets. Later ones take the place of earlier ones of the same name, and
	// env of all.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	EnvFrom []EnvFromSource `json:"envFrom,omitempty"`
	// Working directory; default is the image's, and without an image the instance's sandbox.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	WorkingDir string `json:"workingDir,omitempty"`
	// User to run as: a name or a number, optionally with :group; default is the image's, and without an image the user
	// of the executor.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	User string `json:"user,omitempty"`
	// What the container may do.
	// +optional
	Security *Security `json:"security,omitempty"`
	// Run a small init as the first process, which passes signals on and reaps orphans.
	// +optional
	Init bool `json:"init,omitempty"`
	// Directories that the container sees beside its image.
	// +optional
	// +listType=map
	// +listMapKey=mountPath
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:XValidation:rule="self.all(v, self.exists_one(w, w.name == v.name))",message="two volumes have the same name: give each its own"
	Volumes []Volume `json:"volumes,omitempty"`
	// Files fetched into the sandbox before the program starts.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Artifacts []Artifact `json:"artifacts,omitempty"`
	// What each instance takes of its agent. What is not set is that of spec.defaultResources of the namespace's Tenant, or
	// else 100m of CPU, 32Mi of memory and no disk.
	// +optional
	Resources Resources `json:"resources,omitempty"`
	// Ports the program listens on; information for people, health checks and load balancers.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	Ports []Port `json:"ports,omitempty"`
	// An instance is ready when all of its health checks pass, and is restarted when one fails for good.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=8
	HealthChecks []HealthCheck `json:"healthChecks,omitempty"`
	// How the program is asked to end.
	// +optional
	// +kubebuilder:default={}
	Stop Stop `json:"stop,omitempty"`
	// How much of the output is kept.
	// +optional
	// +kubebuilder:default={}
	Logs LogPolicy `json:"logs,omitempty"`
}

// EnvVar is one environment variable.
//
// +kubebuilder:validation:XValidation:rule="!has(self.valueFrom) || !has(self.value) || self.value.size() == 0",message="set value or valueFrom, not both",fieldPath=".valueFrom"
type EnvVar struct {
	// Name of the variable.
	// +kubebuilder:validation:Pattern=`^[A-Za-z_][A-Za-z0-9_]*$`
	// +kubebuilder:validation:MaxLength=256
	Name string `json:"name"`
	// Value of the variable, taken as it is.
	// +optional
	// +kubebuilder:validation:MaxLength=32768
	Value string `json:"value,omitempty"`
	// Take the value from a ConfigMap or Secret.
	// +optional
	ValueFrom *EnvSource `json:"valueFrom,omitempty"`
}

// Artifact is a file or archive that the program needs.
type Artifact struct {
	// http://, https:// or file:// address.
	// +kubebuilder:validation:Pattern=`^(https?|file)://.+`
	// +kubebuilder:validation:MaxLength=2048
	URI string `json:"uri"`
	// SHA-256 of the file, lower-case hex. What does not match is refused.
	// +kubebuilder:validation:Pattern=`^[0-9a-f]{64}$`
	SHA256 string `json:"sha256"`
	// Where to put it, below the sandbox; default is the last element of the URI.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="!self.startsWith('/') && !self.split('/').exists(p, p == '..')",message="must stay below the sandbox: use a relative path without .."
	Path string `json:"path,omitempty"`
	// Unpack a tar (plain or gzip) or zip archive.
	// +optional
	Extract bool `json:"extract,omitempty"`
	// Set the executable bits.
	// +optional
	Executable bool `json:"executable,omitempty"`
}

// Resources are what an instance takes of its agent.
type Resources struct {
	// CPUs, for example 500m or 2.
	// +optional
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).compareTo(quantity('1m')) >= 0",message="must be at least 1m"
	CPU *resource.Quantity `json:"cpu,omitempty"`
	// Memory, for example 64Mi.
	// +optional
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).compareTo(quantity('4Mi')) >= 0",message="must be at least 4Mi"
	Memory *resource.Quantity `json:"memory,omitempty"`
	// Disk, for example 1Gi.
	// +optional
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).compareTo(quantity('0')) >= 0",message="must be not negative"
	Disk *resource.Quantity `json:"disk,omitempty"`
	// Processes and threads that a container may have at once; without it there is no limit.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4194304
	Pids *int64 `json:"pids,omitempty"`
}

// Port is a port that the program listens on.
type Port struct {
	// Name of the port, for example http.
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +kubebuilder:validation:MaxLength=15
	Name string `json:"name"`
	// Number of the port.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`
	// TCP or UDP.
	// +optional
	// +kubebuilder:default=TCP
	// +kubebuilder:validation:Enum=TCP;UDP
	Protocol string `json:"protocol,omitempty"`
}

// HealthCheck says how to find out whether an instance can serve. Exactly one of tcp, http and command is set.
//
// +kubebuilder:validation:XValidation:rule="[has(self.tcp), has(self.http), has(self.command)].filter(x, x).size() == 1",message="set exactly one of tcp, http and command; for several probes write several health checks",reason=FieldValueRequired
// +kubebuilder:validation:XValidation:rule="!has(self.timeout) || !has(self.interval) || !self.timeout.matches('^[0-9.hms]+[hms]$') || !self.interval.matches('^[0-9.hms]+[hms]$') || duration(self.timeout) <= duration(self.interval)",messageExpression="'timeout ' + self.timeout + ' is longer than interval ' + self.interval + '; probes would overlap: raise the interval or lower the timeout'",fieldPath=".timeout"
type HealthCheck struct {
	// A connection can be opened.
	// +optional
	TCP *TCPProbe `json:"tcp,omitempty"`
	// A GET is answered as expected.
	// +optional
	HTTP *HTTPProbe `json:"http,omitempty"`
	// A program, run in the instance, exits 0.
	// +optional
	Command *CommandProbe `json:"command,omitempty"`
	// Failures are not counted before the first success or before this time has passed.
	// +optional
	// +kubebuilder:default="30s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}([.][0-9]{1,3})?s)?([0-9]{1,9}ms)?$') && self.size() > 0 && duration(self) >= duration('0s')",message="must be a time not negative, written like 500ms, 10s or 1m30s"
	GracePeriod *metav1.Duration `json:"gracePeriod,omitempty"`
	// Time between probes.
	// +optional
	// +kubebuilder:default="5s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}([.][0-9]{1,3})?s)?([0-9]{1,9}ms)?$') && self.size() > 0 && duration(self) > duration('0s')",message="must be a time longer than zero, written like 500ms, 10s or 1m30s"
	Interval *metav1.Duration `json:"interval,omitempty"`
	// A probe that takes longer has failed.
	// +optional
	// +kubebuilder:default="2s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}([.][0-9]{1,3})?s)?([0-9]{1,9}ms)?$') && self.size() > 0 && duration(self) > duration('0s')",message="must be a time longer than zero, written like 500ms, 10s or 1m30s"
	Timeout *metav1.Duration `json:"timeout,omitempty"`
	// Consecutive failures after which the instance is restarted.
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	FailureThreshold int32 `json:"failureThreshold,omitempty"`
	// Consecutive successes after which the instance is ready.
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	SuccessThreshold int32 `json:"successThreshold,omitempty"`
}

// TCPProbe opens a connection to the instance's first address.
type TCPProbe struct {
	// Port that is connected to.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`
}

// HTTPProbe sends a GET to the instance's first address.
type HTTPProbe struct {
	// Port that is asked.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`
	// Path of the request, with its query.
	// +optional
	// +kubebuilder:default="/"
	// +kubebuilder:validation:Pattern=`^/`
	// +kubebuilder:validation:MaxLength=1024
	Path string `json:"path,omitempty"`
	// Status codes that count as success; default is 200 to 399.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:Minimum=100
	// +kubebuilder:validation:items:Maximum=599
	Statuses []int32 `json:"statuses,omitempty"`
	// Text that the body must contain.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	BodyContains string `json:"bodyContains,omitempty"`
	// Headers of the request.
	// +optional
	// +kubebuilder:validation:MaxProperties=16
	Headers map[string]string `json:"headers,omitempty"`
}

// CommandProbe runs a program in the instance.
type CommandProbe struct {
	// Program and arguments, not run through a shell.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	// +listType=atomic
	Command []string `json:"command"`
}

// Stop says how the program is asked to end.
type Stop struct {
	// Signal that asks the program to end.
	// +optional
	// +kubebuilder:default=SIGTERM
	// +kubebuilder:validation:Enum=SIGTERM;SIGINT;SIGQUIT;SIGHUP;SIGUSR1;SIGUSR2;SIGWINCH;SIGKILL
	Signal string `json:"signal,omitempty"`
	// Time after which the program is killed.
	// +optional
	// +kubebuilder:default="10s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}([.][0-9]{1,3})?s)?([0-9]{1,9}ms)?$') && self.size() > 0 && duration(self) >= duration('0s')",message="must be a time not negative, written like 500ms, 10s or 1m30s"
	GracePeriod *metav1.Duration `json:"gracePeriod,omitempty"`
}

// LogPolicy bounds the output that is kept for each of stdout and stderr.
type LogPolicy struct {
	// Size at which a file is rotated.
	// +optional
	// +kubebuilder:default="10Mi"
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).compareTo(quantity('4Ki')) >= 0",message="must be at least 4Ki"
	MaxSize resource.Quantity `json:"maxSize,omitempty"`
	// Number of files kept, the current one included.
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	MaxFiles int32 `json:"maxFiles,omitempty"`
}

// NetworkAttachment asks for an address of a pool on an interface, or for the network of the host.
//
// +kubebuilder:validation:XValidation:rule="[has(self.pool) && self.pool.size() > 0, has(self.network) && self.network.size() > 0].filter(x, x).size() == 1",message="set exactly one of pool (an IPPool that gives the address) and network (a Network with the driver host)",reason=FieldValueRequired
// +kubebuilder:validation:XValidation:rule="!has(self.network) || self.network.size() == 0 || !has(self.addresses) || self.addresses.size() == 0",message="instances with the network of their host have the addresses of the host: unset addresses",fieldPath=".addresses",reason=FieldValueForbidden
// +kubebuilder:validation:XValidation:rule="!has(self.network) || self.network.size() == 0 || !has(self.bandwidth)",message="the network of a host is not limited for one instance: unset bandwidth",fieldPath=".bandwidth",reason=FieldValueForbidden
type NetworkAttachment struct {
	// Name of an IPPool.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Pool string `json:"pool,omitempty"`
	// Instead of a pool: name of a Network with the driver host. Instances have the interfaces and addresses of their host.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Network string `json:"network,omitempty"`
	// Fixed addresses: the first for instance 0, the second for instance 1 and so on. Instances beyond the list get
	// any free address of the pool.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10000
	// +kubebuilder:validation:items:MaxLength=45
	// +kubebuilder:validation:items:XValidation:rule="isIP(self)",message="must be an IP address, for example 10.44.0.10 or fd00:44::10"
	Addresses []string `json:"addresses,omitempty"`
	// What each instance may send and receive by this interface; what is not set is that of the Network. A change restarts
	// nobody. Of two entries that are one interface the first one counts.
	// +optional
	Bandwidth *Bandwidth `json:"bandwidth,omitempty"`
}

// Values of replace of an UnreachablePolicy.
const (
	ReplaceDefault = "Default"
	ReplaceNever   = "Never"
	ReplaceAfter   = "After"
	ReplaceLease   = "Lease"
)

// UnreachablePolicy says when an instance is started elsewhere whose agent does not answer. It may still serve there.
//
// +kubebuilder:validation:XValidation:rule="(has(self.replace) && self.replace == 'After') == has(self.after)",message="after is needed with replace: After, and with that only",fieldPath=".after"
// +kubebuilder:validation:XValidation:rule="(has(self.replace) && self.replace == 'Lease') == has(self.lease)",message="lease is needed with replace: Lease, and with that only",fieldPath=".lease"
type UnreachablePolicy struct {
	// Default: as the scheduler is set up. Never: when the agent comes back, or is marked gone. After: `after` the agent was
	// found unreachable. Lease: as soon as the instance has certainly given up its addresses, since it may use them only for
	// `lease` without word from the scheduler; it then also stops serving when the control plane is away that long.
	// +optional
	// +kubebuilder:default=Default
	// +kubebuilder:validation:Enum=Default;Never;After;Lease
	Replace string `json:"replace,omitempty"`
	// With After: how long to wait.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}([.][0-9]{1,3})?s)?([0-9]{1,9}ms)?$') && self.size() > 0 && duration(self) >= duration('0s')",message="must be a time not negative, written like 500ms, 10s or 1m30s"
	After *metav1.Duration `json:"after,omitempty"`
	// With Lease: how long an instance serves without word from the scheduler, at least 10s.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}([.][0-9]{1,3})?s)?([0-9]{1,9}ms)?$') && self.size() > 0 && duration(self) >= duration('10s')",message="must be a time of at least 10s, for example 30s: less would end instances at every short failure"
	Lease *metav1.Duration `json:"lease,omitempty"`
}

// Placement says where instances may run.
type Placement struct {
	// All constraints hold for each instance, always.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	Constraints []Constraint `json:"constraints,omitempty"`
}

// Constraint restricts the agents that an instance may run on.
//
// +kubebuilder:validation:XValidation:rule="self.operator != 'MaxPer' || (has(self.value) && self.value.matches('^[1-9][0-9]{0,5}$'))",message="MaxPer needs a whole number above 0: how many instances may share a value of the attribute",fieldPath=".value",reason=FieldValueRequired
// +kubebuilder:validation:XValidation:rule="self.operator != 'GroupBy' || !has(self.value) || self.value.size() == 0 || self.value.matches('^[1-9][0-9]{0,5}$')",message="GroupBy takes no value, or a whole number above 0: the least number of values to spread over",fieldPath=".value"
// +kubebuilder:validation:XValidation:rule="!(self.operator in ['Like', 'Unlike']) || (has(self.value) && self.value.size() > 0)",message="Like and Unlike need a value: the regular expression that the attribute is compared with",fieldPath=".value",reason=FieldValueRequired
// +kubebuilder:validation:XValidation:rule="self.operator != 'Unique' || !has(self.value) || self.value.size() == 0",message="Unique takes no value; to allow several instances per value use MaxPer",fieldPath=".value"
type Constraint struct {
	// hostname, or an attribute of the agents.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Attribute string `json:"attribute"`
	// Unique: no two instances share a value. MaxPer: at most `value` do. Cluster: all instances where the attribute
	// equals `value`, or, without it, where the first one is. GroupBy: spread evenly over the values, `value` is the
	// least number of values. Like and Unlike: the attribute matches, or does not match, the regular expression `value`.
	// +kubebuilder:validation:Enum=Unique;MaxPer;Cluster;GroupBy;Like;Unlike
	Operator string `json:"operator"`
	// What the operator compares with: a number for MaxPer and GroupBy, a value for Cluster, a regular expression that must
	// match the whole attribute for Like and Unlike.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Value string `json:"value,omitempty"`
}

// UpdateStrategy says how a changed template reaches the instances. Each instance is replaced in place: it is
// stopped, then started with the new template, and keeps its name and addresses.
type UpdateStrategy struct {
	// Number of instances that may be not ready because of the update.
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	MaxUnavailable int32 `json:"maxUnavailable,omitempty"`
	// Stop replacing instances until it is unset.
	// +optional
	Paused bool `json:"paused,omitempty"`
}

// RestartPolicy says how instances that ended are started again.
//
// +kubebuilder:validation:XValidation:rule="!has(self.initialDelay) || !has(self.maxDelay) || !self.initialDelay.matches('^[0-9.hms]+[hms]$') || !self.maxDelay.matches('^[0-9.hms]+[hms]$') || duration(self.initialDelay) <= duration(self.maxDelay)",messageExpression="'initialDelay ' + self.initialDelay + ' is longer than maxDelay ' + self.maxDelay + ': lower it or raise maxDelay'",fieldPath=".initialDelay"
type RestartPolicy struct {
	// Delay after the first failure; doubles at each further one.
	// +optional
	// +kubebuilder:default="1s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}([.][0-9]{1,3})?s)?([0-9]{1,9}ms)?$') && self.size() > 0 && duration(self) > duration('0s')",message="must be a time longer than zero, written like 500ms, 10s or 1m30s"
	InitialDelay *metav1.Duration `json:"initialDelay,omitempty"`
	// Longest delay between two starts.
	// +optional
	// +kubebuilder:default="5m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}([.][0-9]{1,3})?s)?([0-9]{1,9}ms)?$') && self.size() > 0 && duration(self) > duration('0s')",message="must be a time longer than zero, written like 500ms, 10s or 1m30s"
	MaxDelay *metav1.Duration `json:"maxDelay,omitempty"`
	// An instance that was ready this long starts again with the initial delay.
	// +optional
	// +kubebuilder:default="1m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}([.][0-9]{1,3})?s)?([0-9]{1,9}ms)?$') && self.size() > 0 && duration(self) >= duration('0s')",message="must be a time not negative, written like 500ms, 10s or 1m30s"
	StableAfter *metav1.Duration `json:"stableAfter,omitempty"`
}

// AppStatus is what is there of an App.
type AppStatus struct {
	// The generation of the spec that this status speaks of.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Instances that exist in any state.
	Replicas int32 `json:"replicas,omitempty"`
	// Instances whose program runs.
	RunningReplicas int32 `json:"runningReplicas,omitempty"`
	// Instances that run and whose health checks pass.
	ReadyReplicas int32 `json:"readyReplicas,omitempty"`
	// Instances that run the newest template.
	UpdatedReplicas int32 `json:"updatedReplicas,omitempty"`
	// Instances that wait for an agent or an address.
	PendingReplicas int32 `json:"pendingReplicas,omitempty"`
	// Ready of wanted, for people.
	Summary string `json:"summary,omitempty"`
	// Restarts of all instances together.
	Restarts int64 `json:"restarts,omitempty"`
	// Hash of the newest template.
	Revision string `json:"revision,omitempty"`
	// Label selector of the instances, for the scale subresource.
	Selector string `json:"selector,omitempty"`
	// Available, Progressing and Updated, each with a reason and a sentence that says what to do.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Condition types.
const (
	// ConditionAvailable: all wanted instances are ready.
	ConditionAvailable = "Available"
	// ConditionProgressing: something is being started, stopped or replaced.
	ConditionProgressing = "Progressing"
	// ConditionAccepted: the declaration was understood and is valid together with the others.
	ConditionAccepted = "Accepted"
)

// LabelApp is set on every instance of an App.
const LabelApp = "padis.io/app"
