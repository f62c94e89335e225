package v1alpha1

import (
	"fmt"
	"slices"
	"strings"

	padisv1 "padis.io/padis/proto/padis/v1"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// usual are the capabilities that every container has, so that they may be added without asking, after drop: [ALL].
var usual = []string{
	"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW", "SETFCAP", "SETGID", "SETPCAP",
	"SETUID", "SYS_CHROOT",
}

// others are the rest of Linux's capabilities.
var others = []string{
	"AUDIT_CONTROL", "AUDIT_READ", "BLOCK_SUSPEND", "BPF", "CHECKPOINT_RESTORE", "DAC_READ_SEARCH", "IPC_LOCK", "IPC_OWNER", "LEASE",
	"LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "NET_ADMIN", "NET_BROADCAST", "PERFMON", "SYSLOG", "SYS_ADMIN", "SYS_BOOT",
	"SYS_MODULE", "SYS_NICE", "SYS_PACCT", "SYS_PTRACE", "SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "WAKE_ALARM",
}

// SeccompUnconfined is the profile without a filter of system calls.
const SeccompUnconfined = "Unconfined"

func knownCapability(name string) bool {
	return slices.Contains(usual, name) || slices.Contains(others, name)
}

// validateCapabilities finds names that Linux does not know.
func validateCapabilities(s *Security) field.ErrorList {
	if s == nil {
		return nil
	}
	var errs field.ErrorList
	path := field.NewPath("spec", "template", "security", "capabilities")
	check := func(list string, names []string) {
		for i, name := range names {
			if !knownCapability(name) && (list == "add" || name != "ALL") {
				errs = append(errs, field.Invalid(path.Child(list).Index(i), name, "is no capability of Linux: write it as capabilities(7) does, without CAP_, for example NET_ADMIN"))
			}
		}
	}
	check("add", s.Capabilities.Add)
	check("drop", s.Capabilities.Drop)
	return errs
}

// TenantOf gives the tenant that a namespace belongs to: the oldest that names it, nil if none does.
func TenantOf(namespace string, tenants []Tenant) *Tenant {
	for _, t := range byAge(tenants, tenantAge) {
		if slices.Contains(t.Spec.Namespaces, namespace) {
			return t
		}
	}
	return nil
}

// AsksPrivileges tells whether an App asks anything of its hosts that needs a Tenant's leave.
func AsksPrivileges(a *App) bool {
	t := &a.Spec.Template
	return t.Security != nil && (len(t.Security.Capabilities.Add) > 0 || t.Security.AllowPrivilegeEscalation || t.Security.SeccompProfile == SeccompUnconfined) ||
		slices.ContainsFunc(t.Volumes, func(v Volume) bool { return v.HostPath != nil || v.NFS != nil })
}

// ValidatePrivileges finds what an App asks of its hosts and its Tenant does not grant. t is the Tenant of the App's
// namespace, nil if it has none.
func ValidatePrivileges(a *App, t *Tenant) []Problem {
	var out []Problem
	refuse := func(at, value, reason, format string, args ...any) {
		out = append(out, Problem{Object: appObject(a), Field: at, Value: value, Reason: reason, Message: fmt.Sprintf(format, args...)})
	}
	grants := TenantSpec{}
	owner := "of the namespace's Tenant, which there is none of: declare one"
	if t != nil {
		grants, owner = t.Spec, "of Tenant "+t.Name
	}
	for i := range a.Spec.Template.Volumes {
		v := &a.Spec.Template.Volumes[i]
		at := fmt.Sprintf("spec.template.volumes[%d]", i)
		if h := v.HostPath; h != nil && !slices.ContainsFunc(grants.HostPaths, func(p string) bool { return below(h.Path, p) }) {
			refuse(at+".hostPath.path", h.Path, padisv1.ReasonVolumeForbidden,
				"is not below a path that namespace %s may use: use another kind of volume, or add the path to spec.hostPaths %s", a.Namespace, owner)
		}
		if n := v.NFS; n != nil && len(grants.NFSServers) > 0 && !slices.Contains(grants.NFSServers, n.Server) {
			refuse(at+".nfs.server", n.Server, padisv1.ReasonVolumeForbidden,
				"is no NFS server that namespace %s may use: use one of %s, or add it to spec.nfsServers %s", a.Namespace, strings.Join(grants.NFSServers, ", "), owner)
		}
	}
	if s := a.Spec.Template.Security; s != nil {
		for i, c := range s.Capabilities.Add {
			if !slices.Contains(usual, c) && !slices.Contains(grants.Privileges.Capabilities, c) {
				refuse(fmt.Sprintf("spec.template.security.capabilities.add[%d]", i), c, padisv1.ReasonPrivilegeForbidden,
					"is not granted to namespace %s: do without it, or add it to spec.privileges.capabilities %s", a.Namespace, owner)
			}
		}
		if s.SeccompProfile == SeccompUnconfined && !grants.Privileges.SeccompUnconfined {
			refuse("spec.template.security.seccompProfile", s.SeccompProfile, padisv1.ReasonPrivilegeForbidden,
				"is not granted to namespace %s: do without it, or set spec.privileges.seccompUnconfined %s", a.Namespace, owner)
		}
		if s.AllowPrivilegeEscalation && !grants.Privileges.PrivilegeEscalation {
			refuse("spec.template.security.allowPrivilegeEscalation", "true", padisv1.ReasonPrivilegeForbidden,
				"is not granted to namespace %s: do without it, or set spec.privileges.privilegeEscalation %s", a.Namespace, owner)
		}
	}
	return out
}

// below tells whether path is prefix or below it; both are clean and absolute. A path with .. is below nothing.
func below(path, prefix string) bool {
	if slices.Contains(strings.Split(path, "/"), "..") || !strings.HasPrefix(path, "/") {
		return false
	}
	return path == prefix || strings.HasPrefix(path, strings.TrimSuffix(prefix, "/")+"/")
}
