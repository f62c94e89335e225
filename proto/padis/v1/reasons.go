package padisv1

// Reasons are the words that the log, the event, the status condition and
// `padis why` all use. Each is a constant so that they cannot drift apart.
const (
	// Why an instance has no agent.
	ReasonNoOffers           = "NoOffers"
	ReasonInsufficientCPU    = "InsufficientCPU"
	ReasonInsufficientMemory = "InsufficientMemory"
	ReasonInsufficientDisk   = "InsufficientDisk"
	ReasonConstraintUnique   = "ConstraintUnique"
	ReasonConstraintMaxPer   = "ConstraintMaxPer"
	ReasonConstraintCluster  = "ConstraintCluster"
	ReasonConstraintGroupBy  = "ConstraintGroupBy"
	ReasonConstraintLike     = "ConstraintLike"
	ReasonConstraintUnlike   = "ConstraintUnlike"
	ReasonConstraintInvalid  = "ConstraintInvalid"
	ReasonTenantIsolation    = "TenantIsolation"
	ReasonAgentDedicated     = "AgentDedicated"
	ReasonAgentUnavailable   = "AgentUnavailable"
	ReasonPoolExhausted      = "PoolExhausted"
	ReasonPoolNotFound       = "PoolNotFound"
	ReasonNetworkNotFound    = "NetworkNotFound"
	ReasonPoolForbidden      = "PoolForbidden"
	ReasonAddressInUse       = "AddressInUse"
	ReasonAddressOutsidePool = "AddressOutsidePool"
	ReasonAddressReserved    = "AddressReserved"
	ReasonAwaitingRelease    = "AwaitingRelease"
	// The tenant holds as many addresses as its quota allows.
	ReasonAddressQuotaExceeded = "AddressQuotaExceeded"
	// An instance with the host's own network would listen on a port that another one there has.
	ReasonPortInUse          = "PortInUse"
	ReasonMesosDisconnected  = "MesosDisconnected"
	ReasonRuntimeUnavailable = "RuntimeUnavailable"

	// Why an instance is where it is in its life.
	ReasonPlaced            = "Placed"
	ReasonStarting          = "Starting"
	ReasonRunning           = "Running"
	ReasonReady             = "Ready"
	ReasonUnhealthy         = "Unhealthy"
	ReasonHealthCheckFailed = "HealthCheckFailed"
	ReasonExited            = "Exited"
	ReasonKilled            = "Killed"
	ReasonBackOff           = "BackOff"
	ReasonStopping          = "Stopping"
	ReasonUpdating          = "Updating"
	ReasonScaledIn          = "ScaledIn"
	ReasonAgentUnreachable  = "AgentUnreachable"
	ReasonAgentGone         = "AgentGone"
	ReasonExecutorLost      = "ExecutorLost"
	ReasonTaskLost          = "TaskLost"

	// How it stands with a LoadBalancer, its directors and its real servers.
	// It is announced as it should be.
	ReasonAnnounced = "Announced"
	// Nothing is announced: no real server is in rotation, or fewer than minServers.
	ReasonTooFewServers = "TooFewServers"
	// No director runs that could announce.
	ReasonNoDirectors = "NoDirectors"
	// Directors announce, but not all that should.
	ReasonFewerDirectors = "FewerDirectors"
	// More directors than the router has equal-cost paths.
	ReasonTooManyPaths = "TooManyPaths"
	// A LoadBalancer names a router that is not declared, or not in force.
	ReasonPeerNotFound = "PeerNotFound"
	// No router is declared that VIPs could be announced to.
	ReasonNoPeers = "NoPeers"
	// A backend selects no App.
	ReasonNoBackends = "NoBackends"
	// The App's instances cannot be real servers: no address in the directors' network, or a driver without a segment.
	ReasonBackendUnreachable = "BackendUnreachable"
	// The host of a real server cannot send on what belongs to another: changes may break connections.
	ReasonRelayUnavailable = "RelayUnavailable"
	// The dataplane that is asked for does not work on the host.
	ReasonDataplaneUnavailable = "DataplaneUnavailable"
	// A VIP has no lease.
	ReasonAwaitingVIP = "AwaitingVIP"
	// A real server is on its way into rotation: its VIPs are being configured, or hosts and directors are being told.
	ReasonJoining = "Joining"
	// A real server is out of rotation and keeps what connections it has.
	ReasonDraining = "Draining"
	// Directors do not reach it on the path that clients take.
	ReasonCheckFailed = "CheckFailed"
	// The host of a real server does not answer.
	ReasonHostSilent = "HostSilent"

	// Why an instance could not be started on its agent.
	ReasonArtifactFailed  = "ArtifactFailed"
	ReasonCommandNotFound = "CommandNotFound"
	ReasonNetworkFailed   = "NetworkFailed"
	ReasonAddressAnswered = "AddressAnswered"
	// Somebody else uses an address of the instance.
	ReasonAddressConflict = "AddressConflict"
	// The instance could not renew its lease: its interfaces are down.
	ReasonLeaseExpired      = "LeaseExpired"
	ReasonInvalidLaunch     = "InvalidLaunch"
	ReasonSandboxFailed     = "SandboxFailed"
	ReasonUserNotFound      = "UserNotFound"
	ReasonInsufficientSpace = "InsufficientSpace"
	ReasonVolumeFailed      = "VolumeFailed"
	ReasonVolumeForbidden   = "VolumeForbidden"
	// A capability is added that the Tenant does not grant.
	ReasonPrivilegeForbidden = "PrivilegeForbidden"

	// What becomes of images and containers.
	ReasonPulling             = "Pulling"
	ReasonPrepulling          = "Prepulling"
	ReasonImageInvalid        = "ImageInvalid"
	ReasonImageNotFound       = "ImageNotFound"
	ReasonImageUnauthorized   = "ImageUnauthorized"
	ReasonImageArchitecture   = "ImageArchitecture"
	ReasonImageCorrupt        = "ImageCorrupt"
	ReasonRegistryUnavailable = "RegistryUnavailable"
	ReasonOOMKilled           = "OOMKilled"
	ReasonAdopting            = "Adopting"
	ReasonContainerGone       = "ContainerGone"
	ReasonContainerFailed     = "ContainerFailed"
	ReasonUpgrading           = "Upgrading"
	ReasonConfigNotFound      = "ConfigNotFound"

	// Why a declaration is not in force, and how far an App has come.
	ReasonAccepted       = "Accepted"
	ReasonInvalid        = "Invalid"
	ReasonPoolOverlap    = "PoolOverlap"
	ReasonPoolInUse      = "PoolInUse"
	ReasonNetworkInUse   = "NetworkInUse"
	ReasonNamespaceTaken = "NamespaceTaken"
	// Machines that are not Padis' use addresses of the pool.
	ReasonForeignAddresses = "ForeignAddresses"
	// A router has no session with a host.
	ReasonPeerDown         = "PeerDown"
	ReasonTenantNotFound   = "TenantNotFound"
	ReasonComplete         = "Complete"
	ReasonScaledOut        = "ScaledOut"
	ReasonScaledToZero     = "ScaledToZero"
	ReasonUpdated          = "Updated"
	ReasonPaused           = "Paused"
	ReasonReaddressing     = "Readdressing"
	ReasonPlacementChanged = "PlacementChanged"
)
