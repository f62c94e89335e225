package usage

// metrics are those that a cgroup or the processes themselves can tell.
type metrics struct{ cpu, memory, pids, io bool }

func (m metrics) any() bool { return m.cpu || m.memory || m.pids || m.io }

// cgroups fills in what the instance's own cgroups tell, and returns what they do not.
func cgroups(p places, b *buffer, s *Sample) (missing metrics) {
	missing.cpu = !cpu(p.cpu, b, s)
	missing.memory = !memory(p.memory, b, s)
	missing.pids = !processes(p.pids, b, s)
	missing.io = !blocks(p.io, b, s)
	return missing
}

func cpu(p place, b *buffer, s *Sample) bool {
	if p.dir == "" {
		return false
	}
	if p.v2 {
		text, err := b.read(p.dir + "/cpu.stat")
		s.CPUNanos = value(text, "usage_usec") * 1000
		return err == nil
	}
	text, err := b.read(p.dir + "/cpuacct.usage")
	s.CPUNanos = number(text)
	return err == nil
}

// memory is the working set: what is used without the part of the page cache that the kernel would drop first. Only a
// cgroup knows limits and kills.
func memory(p place, b *buffer, s *Sample) bool {
	if p.dir == "" {
		return false
	}
	current, inactive, events := "/memory.usage_in_bytes", "total_inactive_file", "/memory.oom_control"
	if p.v2 {
		current, inactive, events = "/memory.current", "inactive_file", "/memory.events"
	}
	text, err := b.read(p.dir + current)
	if err != nil {
		return false
	}
	s.MemoryBytes = number(text)
	text, err = b.read(p.dir + "/memory.stat")
	if err != nil {
		return false
	}
	s.MemoryBytes -= min(s.MemoryBytes, value(text, inactive))
	s.MemoryLimitBytes = value(text, "hierarchical_memory_limit")
	if p.v2 {
		// The root of a mount has none.
		if text, err = b.read(p.dir + "/memory.max"); err == nil {
			s.MemoryLimitBytes = number(text)
		}
	}
	if text, err = b.read(p.dir + events); err == nil {
		s.OOMKills = value(text, "oom_kill")
	}
	return true
}

func processes(p place, b *buffer, s *Sample) bool {
	if p.dir == "" {
		return false
	}
	text, err := b.read(p.dir + "/cgroup.procs")
	s.Processes = lines(text)
	return err == nil
}

func blocks(p place, b *buffer, s *Sample) bool {
	if p.dir == "" {
		return false
	}
	if p.v2 {
		text, err := b.read(p.dir + "/io.stat")
		s.ReadBytes, s.WriteBytes = parseIOStat(text)
		return err == nil
	}
	text, err := b.read(p.dir + "/blkio.throttle.io_service_bytes_recursive")
	if err != nil {
		text, err = b.read(p.dir + "/blkio.throttle.io_service_bytes")
	}
	s.ReadBytes, s.WriteBytes = parseBlkio(text)
	return err == nil
}
