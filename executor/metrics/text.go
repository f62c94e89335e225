package metrics

import (
	"bytes"
	"maps"
	"slices"
	"strconv"
	"strings"

	"padis.io/padis/proto/padis/stream"
)

func write(b *bytes.Buffer, s source, r reader) {
	instances := s.Instances()
	writeExecutor(b, s.Counters(), instances)
	writeInstances(b, instances, r)
}

func writeExecutor(b *bytes.Buffer, c Counters, instances []Instance) {
	family(b, "padis_executor_build_info", "gauge", "The executor's version; always 1.")
	sample(b, "padis_executor_build_info", labels("version", c.Version), 1)
	phases := map[string]int{}
	for _, i := range instances {
		phases[i.Phase]++
	}
	family(b, "padis_executor_instances", "gauge", "Instances that the executor has, by phase.")
	for _, p := range slices.Sorted(maps.Keys(phases)) {
		sample(b, "padis_executor_instances", labels("phase", p), float64(phases[p]))
	}
	for _, m := range [...]struct {
		name, help string
		value      uint64
	}{
		{"padis_executor_pulls_total", "Pulls of images.", c.Pulls},
		{"padis_executor_pull_failures_total", "Pulls of images that failed.", c.PullFailures},
		{"padis_executor_pull_bytes_total", "Bytes of images that came over the network.", c.PullBytes},
		{"padis_executor_adoptions_total", "Containers that were adopted from another executor.", c.Adoptions},
		{"padis_executor_starts_total", "Instances that were to be started.", c.Starts},
		{"padis_executor_start_failures_total", "Instances that could not be started.", c.StartFailures},
		{"padis_executor_agent_reconnects_total", "Connections to the Mesos agent after the first.", c.Reconnects},
		{"padis_executor_log_bytes_total", "Bytes of output that instances wrote.", c.LogBytes},
		{"padis_executor_log_dropped_bytes_total", "Bytes of output that could not be kept.", c.LogDroppedBytes},
	} {
		family(b, m.name, "counter", m.help)
		sample(b, m.name, "", float64(m.value))
	}
	for _, m := range [...]struct {
		name, kind, help string
		value            uint64
	}{
		{"padis_executor_attached_interfaces", "gauge", "Interfaces that instances have.", c.Interfaces},
		{"padis_executor_attached_addresses", "gauge", "Addresses that instances have.", c.Addresses},
		{"padis_executor_address_conflicts_total", "counter", "Addresses of instances that somebody else was seen to use.", c.Conflicts},
		{"padis_executor_lease_renewals_total", "counter", "Renewals of leases that the scheduler granted.", c.Renewals},
		{"padis_executor_lease_expiries_total", "counter", "Leases that were not renewed in time; addresses were taken down.", c.Expiries},
	} {
		family(b, m.name, m.kind, m.help)
		sample(b, m.name, "", float64(m.value))
	}
	c.AttachDuration.write(b, "padis_executor_attach_duration_seconds", "Time in which the network of an instance was configured.")
	c.StartDuration.write(b, "padis_executor_start_duration_seconds", "Time from the launch of an instance until its program ran.")
}

func (h *Histogram) write(b *bytes.Buffer, name, help string) {
	family(b, name, "histogram", help)
	var total uint64
	for i, n := range h.counts {
		total += n
		le := "+Inf"
		if i < len(bounds) {
			le = strconv.FormatFloat(bounds[i], 'g', -1, 64)
		}
		sample(b, name+"_bucket", labels("le", le), float64(total))
	}
	sample(b, name+"_sum", "", h.sum)
	sample(b, name+"_count", "", float64(total))
}

// measured are the metrics of instances that have a process.
var measured = [...]struct {
	name, kind, help string
	value            func(stream.Usage) float64
}{
	{"padis_instance_cpu_seconds_total", "counter", "Time on a CPU.", func(u stream.Usage) float64 { return float64(u.CPUNanos) / 1e9 }},
	{"padis_instance_memory_working_set_bytes", "gauge", "Memory in use, without what the kernel would drop first.", func(u stream.Usage) float64 { return float64(u.MemoryBytes) }},
	{"padis_instance_memory_limit_bytes", "gauge", "Memory that may be used; 0 is without a limit.", func(u stream.Usage) float64 { return float64(u.MemoryLimitBytes) }},
	{"padis_instance_network_receive_bytes_total", "counter", "Bytes received, without the loopback interface.", func(u stream.Usage) float64 { return float64(u.RxBytes) }},
	{"padis_instance_network_transmit_bytes_total", "counter", "Bytes sent, without the loopback interface.", func(u stream.Usage) float64 { return float64(u.TxBytes) }},
	{"padis_instance_block_read_bytes_total", "counter", "Bytes read from block devices.", func(u stream.Usage) float64 { return float64(u.ReadBytes) }},
	{"padis_instance_block_write_bytes_total", "counter", "Bytes written to block devices.", func(u stream.Usage) float64 { return float64(u.WriteBytes) }},
	{"padis_instance_processes", "gauge", "Processes.", func(u stream.Usage) float64 { return float64(u.Processes) }},
	{"padis_instance_tcp_connections", "gauge", "Established TCP connections.", func(u stream.Usage) float64 { return float64(u.TCPEstablished) }},
	{"padis_instance_tcp_listeners", "gauge", "Listening TCP sockets.", func(u stream.Usage) float64 { return float64(u.TCPListen) }},
	{"padis_instance_oom_kills_total", "counter", "Processes that were killed for want of memory.", func(u stream.Usage) float64 { return float64(u.OOMKills) }},
}

func writeInstances(b *bytes.Buffer, instances []Instance, r reader) {
	// Each pair of namespace, app, name and container must be there once; how they are ordered does not matter, but that
	// it is always the same makes answers compress and compare well.
	instances = slices.Clone(instances)
	slices.SortFunc(instances, func(x, y Instance) int { return strings.Compare(x.Container+"\x00"+x.Name, y.Container+"\x00"+y.Name) })
	names := make([]string, len(instances))
	used := make([]stream.Usage, len(instances))
	running := make([]bool, len(instances))
	family(b, "padis_instance_ready", "gauge", "Whether the instance is ready.")
	for n, i := range instances {
		names[n] = labels("namespace", i.Namespace, "app", i.App, "instance", i.Name, "tenant", i.Tenant, "container", i.Container)
		ready := 0.0
		if i.Ready {
			ready = 1
		}
		sample(b, "padis_instance_ready", names[n], ready)
		if i.PID > 0 {
			u, err := r.Read(i.PID)
			// One that ends meanwhile is left out, as it will be from now on.
			used[n], running[n] = u, err == nil
		}
	}
	for _, m := range measured {
		family(b, m.name, m.kind, m.help)
		for n := range instances {
			if running[n] {
				sample(b, m.name, names[n], m.value(used[n]))
			}
		}
	}
}

func family(b *bytes.Buffer, name, kind, help string) {
	b.WriteString("# HELP " + name + " " + help + "\n# TYPE " + name + " " + kind + "\n")
}

func sample(b *bytes.Buffer, name, labels string, value float64) {
	b.WriteString(name)
	b.WriteString(labels)
	b.WriteByte(' ')
	b.Write(strconv.AppendFloat(b.AvailableBuffer(), value, 'g', -1, 64))
	b.WriteByte('\n')
}

var escape = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

// labels are pairs of a name and a value.
func labels(pairs ...string) string {
	var s strings.Builder
	for i := 0; i+1 < len(pairs); i += 2 {
		s.WriteByte("{,"[min(i, 1)])
		s.WriteString(pairs[i] + `="` + escape.Replace(strings.ToValidUTF8(pairs[i+1], "\uFFFD")) + `"`)
	}
	return s.String() + "}"
}
