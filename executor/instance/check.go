package instance

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"padis.io/padis/executor/volume"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// MaxAttachments bounds the interfaces of an instance.
const MaxAttachments = 16

// Limits of what a launch may ask for.
const (
	maxChecks    = 64
	maxArtifacts = 256
	maxTaskID    = 200
	// hostNameMax is Linux's limit (__NEW_UTS_LEN).
	hostNameMax = 64
	// maxAmount keeps what is computed from resources far from the end of an int64.
	maxAmount = 1 << 40
)

// Signals that a program can be asked to end by, or told of changes.
var signals = []string{"SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGKILL"}

func invalid(format string, args ...any) *Failure {
	return &Failure{padisv1.ReasonInvalidLaunch, fmt.Sprintf(format, args...)}
}

func check(p Plan, h Host) *Failure {
	t := p.Launch.GetTemplate()
	for _, e := range t.GetEnv() {
		if e.GetName() == "" || strings.ContainsAny(e.GetName(), "=\x00") {
			return invalid("%q is not the name of an environment variable", e.GetName())
		}
	}
	for _, w := range words(t) {
		if strings.ContainsRune(w, 0) {
			return invalid("%q contains a zero byte", w)
		}
	}
	if s := t.GetStop().GetSignal(); s != "" && !slices.Contains(signals, s) {
		return invalid("there is no stop signal %q; use one of %s", s, strings.Join(signals, ", "))
	}
	if t.GetStop().GetGracePeriodMs() < 0 || len(t.GetArtifacts()) > maxArtifacts || len(t.GetHealthChecks()) > maxChecks {
		return invalid("a negative grace period, more than %d artifacts or more than %d health checks", maxArtifacts, maxChecks)
	}
	for i, h := range t.GetHealthChecks() {
		if msg := badCheck(h); msg != "" {
			return invalid("healthChecks[%d]: %s", i, msg)
		}
	}
	r := t.GetResources()
	for _, v := range []int64{r.GetCpuMilli(), r.GetMemoryMib(), r.GetDiskMib(), r.GetPids()} {
		if v < 0 || v > maxAmount {
			return invalid("template.resources: %d is not between 0 and %d", v, int64(maxAmount))
		}
	}
	switch {
	case t.GetImage() == "":
		return checkProgram(t)
	case p.Launch.GetAdopt():
		return nil // it is there as it is
	}
	if f := checkContainer(t); f != nil {
		return f
	}
	if _, f := volume.Make(p.Files.Dir, h.State, p.Launch); f != nil {
		return &Failure{f.Reason, f.Message}
	}
	return nil
}

// words are the texts of a template that the kernel ends at a zero byte.
func words(t *padisv1.Template) []string {
	out := slices.Concat([]string{t.GetImage(), t.GetWorkingDir(), t.GetUser()}, t.GetCommand(), t.GetArgs())
	for _, e := range t.GetEnv() {
		out = append(out, e.GetValue())
	}
	return out
}

// checkProgram checks what only a plain program of the host has, and what it cannot have.
func checkProgram(t *padisv1.Template) *Failure {
	if len(t.GetCommand()) == 0 || t.GetCommand()[0] == "" {
		return &Failure{padisv1.ReasonCommandNotFound, "the template has no command; set template.command, or template.image"}
	}
	if len(t.GetVolumes()) > 0 || t.GetSecurity() != nil || t.GetInit() {
		return invalid("volumes, security and init are for containers; set template.image")
	}
	return nil
}

func checkContainer(t *padisv1.Template) *Failure {
	switch {
	case len(t.GetCommand()) > 0 && t.GetCommand()[0] == "":
		return &Failure{padisv1.ReasonCommandNotFound, "the first word of template.command is empty; leave the command out to run the image's"}
	case len(t.GetArtifacts()) > 0:
		return invalid("template.artifacts are for programs of the host; put the files into the image, or use volumes")
	case t.GetWorkingDir() != "" && !path.IsAbs(t.GetWorkingDir()):
		return invalid("template.workingDir: %q is not an absolute path in the container", t.GetWorkingDir())
	}
	for _, c := range slices.Concat(t.GetSecurity().GetAddCapabilities(), t.GetSecurity().GetDropCapabilities()) {
		if !capability(c) {
			return invalid("template.security: %q is not the name of a capability; write it like NET_ADMIN", c)
		}
	}
	for _, v := range t.GetVolumes() {
		c := v.GetConfig()
		if c.GetOnChange() == padisv1.ConfigFiles_ON_CHANGE_SIGNAL && c.GetSignal() != "" && !slices.Contains(signals, c.GetSignal()) {
			return invalid("volume %s: there is no signal %q; use one of %s", v.GetName(), c.GetSignal(), strings.Join(signals, ", "))
		}
	}
	return nil
}

func capability(s string) bool {
	return s != "" && !strings.HasPrefix(s, "CAP_") && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_')
	})
}

func badCheck(h *padisv1.HealthCheck) string {
	port, command := int32(1), []string{"x"}
	switch {
	case h.GetTcp() != nil:
		port = h.GetTcp().GetPort()
	case h.GetHttp() != nil:
		port = h.GetHttp().GetPort()
	case h.GetCommand() != nil:
		command = h.GetCommand().GetCommand()
	default:
		return "set one of tcp, http and command"
	}
	if port < 1 || port > 65535 {
		return fmt.Sprintf("port %d is not between 1 and 65535", port)
	}
	if len(command) == 0 || command[0] == "" || strings.ContainsRune(strings.Join(command, ""), 0) {
		return "the command is empty or contains a zero byte"
	}
	return ""
}

// ValidName tells whether s can be the name of a task or container, and so of a file.
func ValidName(s string) bool { return fileName(s) }

func fileName(s string) bool {
	return s != "" && len(s) <= maxTaskID && s[0] != '.' && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_')
	})
}

func hostName(s string) bool { return fileName(s) && len(s) <= hostNameMax }
