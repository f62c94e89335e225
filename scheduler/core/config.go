package core

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// Config is what the operator sets. The zero value of each duration means its default.
type Config struct {
	// Role that the framework subscribes with; offers of other roles are declined.
	Role          string
	FrameworkName string
	// Artifact is the executor that agents fetch.
	Artifact Artifact
	// ClientCA is the PEM of the authority whose clients may use the access endpoints of executors.
	ClientCA string
	// Executor is what one executor takes of its agent; default 0.1 CPU and 64 MiB.
	Executor mesos.Amounts
	// Seed breaks ties of placement.
	Seed uint64

	// OfferHold is how long offers are kept that fit nothing we want, while something is wanted. Default 1 s; then they
	// are declined for RefuseShort, so that other frameworks are not starved.
	OfferHold time.Duration
	// RefuseShort, default 5 s, and RefuseLong, default 1 h, are the filters of declined offers while something is
	// wanted and while nothing is. REVIVE ends both.
	RefuseShort, RefuseLong time.Duration
	// ReconcileInterval is the time between rounds of reconciliation over all tasks. Default 10 min.
	ReconcileInterval time.Duration
	// AskMax bounds the back-off with which one question is repeated until it is answered: 1 s, 2 s, 4 s ... Default 60 s.
	AskMax time.Duration
	// UnreachableReplaceAfter is how long an unreachable instance is waited for. Default 0: it is replaced at once.
	UnreachableReplaceAfter time.Duration
	// UnknownReplaceAfter is the same for a running task that the master does not know, which can mean that the
	// master has just lost its memory. Default 30 s.
	UnknownReplaceAfter time.Duration
	// KillRetry is the first pause before a KILL is repeated; it doubles up to AskMax. Default 5 s.
	KillRetry time.Duration
	// LaunchTimeout is how long a launch may stay without news before it is asked for. Default 30 s.
	LaunchTimeout time.Duration
	// LaunchGiveUp is how long it may stay STAGING by the master's word before it is killed and started anew. Default 5 min.
	LaunchGiveUp time.Duration
	// StartBound is how long after its launch an instance that was never seen to run may still configure its addresses.
	// Only what is configured answers a probe, so until then an instance that cannot be reached is not replaced.
	// Default 2 min.
	StartBound time.Duration
	// GhostPatience is how long the master must not know a task on an agent that is away, until its end counts as
	// certain. It is longer than Mesos gives its agents to come back after a failover (10 min). Default 15 min.
	GhostPatience time.Duration
}

// Artifact names the executor's binary.
type Artifact struct {
	// URI from which the Mesos fetcher gets it.
	URI string
	// SHA256 is its checksum, lower-case hex.
	SHA256 string
}

func (c Config) withDefaults() Config {
	for _, d := range []struct {
		at *time.Duration
		is time.Duration
	}{
		{&c.OfferHold, time.Second}, {&c.RefuseShort, 5 * time.Second}, {&c.RefuseLong, time.Hour},
		{&c.ReconcileInterval, 10 * time.Minute}, {&c.AskMax, time.Minute}, {&c.UnknownReplaceAfter, 30 * time.Second},
		{&c.KillRetry, 5 * time.Second}, {&c.LaunchTimeout, 30 * time.Second}, {&c.LaunchGiveUp, 5 * time.Minute},
		{&c.StartBound, 2 * time.Minute}, {&c.GhostPatience, 15 * time.Minute},
	} {
		if *d.at <= 0 {
			*d.at = d.is
		}
	}
	if c.Executor == (mesos.Amounts{}) {
		c.Executor = mesos.Amounts{CPUMilli: 100, MemoryMilli: 64 * 1000}
	}
	return c
}

// executorName is the file that the fetcher leaves in the sandbox.
const executorName = "padis-executor"

// newExecutor is the executor that the configuration asks for on an agent. Its id is a digest of all that Mesos wants
// to see unchanged, so that another artifact is another executor.
func (c Config) newExecutor(agentID string) *padisv1.ExecutorRecord {
	r := &padisv1.ExecutorRecord{
		AgentId: agentID, ArtifactUri: c.Artifact.URI, ArtifactSha256: c.Artifact.SHA256,
		Command: fmt.Sprintf(`echo "%s  %s" | sha256sum -c --quiet - && exec ./%s`, c.Artifact.SHA256, executorName, executorName),
		Resources: &padisv1.Resources{
			CpuMilli: c.Executor.CPUMilli, MemoryMib: c.Executor.MemoryMilli / 1000, DiskMib: c.Executor.DiskMilli / 1000,
		},
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%s\n%d %d %d\n%s", r.ArtifactUri, r.ArtifactSha256, r.Command,
		r.Resources.CpuMilli, r.Resources.MemoryMib, r.Resources.DiskMib, c.Role))
	r.ExecutorId = "padis-" + hex.EncodeToString(sum[:6])
	return r
}

// executorInfo is the ExecutorInfo of a record: the same for each launch, as Mesos demands.
func (c Config) executorInfo(r *padisv1.ExecutorRecord) mesos.Executor {
	e := mesos.Executor{
		ID: r.GetExecutorId(), Name: executorName, Command: r.GetCommand(),
		URIs: []mesos.URI{{Value: r.GetArtifactUri(), Executable: true, Cache: true, OutputFile: executorName}},
	}
	for _, x := range []struct {
		name  string
		milli int64
	}{{"cpus", r.GetResources().GetCpuMilli()}, {"mem", r.GetResources().GetMemoryMib() * 1000}, {"disk", r.GetResources().GetDiskMib() * 1000}} {
		if x.milli > 0 {
			e.Resources = append(e.Resources, mesos.Resource{Name: x.name, Milli: x.milli, AllocatedTo: c.Role})
		}
	}
	return e
}

func amounts(r *padisv1.Resources) mesos.Amounts {
	return mesos.Amounts{CPUMilli: r.GetCpuMilli(), MemoryMilli: r.GetMemoryMib() * 1000, DiskMilli: r.GetDiskMib() * 1000}
}
