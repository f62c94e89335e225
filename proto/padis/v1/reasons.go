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

	// Why an instance could not be started on its agent.
	ReasonArtifactFailed    = "ArtifactFailed"
	ReasonCommandNotFound   = "CommandNotFound"
	ReasonNetworkFailed     = "NetworkFailed"
	ReasonAddressAnswered   = "AddressAnswered"
	ReasonInvalidLaunch     = "InvalidLaunch"
	ReasonSandboxFailed     = "SandboxFailed"
	ReasonUserNotFound      = "UserNotFound"
	ReasonInsufficientSpace = "InsufficientSpace"
)
