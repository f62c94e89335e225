package runtime

// AgentImage is what became of one image that shall be on one agent.
//
// +kubebuilder:object:generate=false
type AgentImage struct {
	// Agent is the Mesos id, Host the name.
	Agent, Host string
	Image       string
	Present     bool
	// Reason and Message say why it is not there, or not yet.
	Reason, Message string
}

// Upgrade is how far the replacement of executors is.
//
// +kubebuilder:object:generate=false
type Upgrade struct {
	// Target is the SHA-256 of the executor that the scheduler offers.
	Target string
	// Total executors run instances; Updated of them are of the target.
	Total, Updated int
	// Upgrading are the hosts whose executor was told to leave, or whose containers still wait for the next one.
	Upgrading []string
	// Skipped says, by host, why an older executor is left alone, or does not end.
	Skipped map[string]string
	// Message says what is waited for; empty if nothing is.
	Message string
}
