package why

import padisv1 "padis.io/padis/proto/padis/v1"

// Remedy says what a person can do about a reason; it is empty where waiting is all there is to do, and for words that
// are not reasons of ours.
func Remedy(reason string) string {
	switch reason {
	case padisv1.ReasonNoOffers:
		return "see `padis get agents`: start agents, or free resources that other frameworks hold"
	case padisv1.ReasonInsufficientCPU:
		return "lower spec.template.resources.cpu, scale something in, or add agents; `padis get agents` shows what is used"
	case padisv1.ReasonInsufficientMemory:
		return "lower spec.template.resources.memory, scale something in, or add agents; `padis get agents` shows what is used"
	case padisv1.ReasonInsufficientDisk:
		return "lower spec.template.resources.disk, scale something in, or add agents; `padis get agents` shows what is used"
	case padisv1.ReasonConstraintUnique:
		return "there are fewer agents with distinct values of the attribute than instances: add agents, scale in, or use MaxPer instead of Unique"
	case padisv1.ReasonConstraintMaxPer:
		return "raise the value of the MaxPer constraint, add agents, or scale in"
	case padisv1.ReasonConstraintCluster:
		return "no agent with the constraint's value has room: add agents with this attribute, or drop the Cluster constraint"
	case padisv1.ReasonConstraintGroupBy:
		return "agents with too few distinct values of the attribute have room: add agents, or lower the value of the GroupBy constraint"
	case padisv1.ReasonConstraintLike, padisv1.ReasonConstraintUnlike:
		return "compare the regular expression, which must match the whole value, with the attributes in `padis get agents -o yaml`"
	case padisv1.ReasonTenantIsolation:
		return "the agents with room run a tenant that this one must not meet: add agents, or change notColocatedWith of the Tenants"
	case padisv1.ReasonAgentDedicated:
		return "the agents with room are dedicated to another tenant, or this tenant's dedicated agents are full: see spec.dedicated in `padis get tenants -o yaml`"
	case padisv1.ReasonAgentUnavailable:
		return "agents are draining or unreachable: see `padis get agents`"
	case padisv1.ReasonPoolExhausted:
		return "add ranges to the IPPool, or scale in an App that uses it; `padis get addresses` shows who holds what"
	case padisv1.ReasonPoolNotFound:
		return "apply the IPPool, or name another in spec.networks; `padis get ippools` lists them"
	case padisv1.ReasonNetworkNotFound:
		return "apply the Network that the IPPool names; `padis get networks` lists them"
	case padisv1.ReasonPoolForbidden:
		return "add the namespace to spec.namespaces of the IPPool, or use another pool"
	case padisv1.ReasonAddressInUse:
		return "`padis get addresses` shows who holds the address: release it there, or choose another in spec.networks"
	case padisv1.ReasonAddressOutsidePool:
		return "choose an address within the ranges of the IPPool"
	case padisv1.ReasonAddressReserved:
		return "choose another address, or take it out of spec.reserved of the IPPool"
	case padisv1.ReasonMesosDisconnected:
		return "see whether the Mesos master runs and the scheduler's log for what it answers"
	case padisv1.ReasonRuntimeUnavailable:
		return "containers need containerd on the agent's host: install and start it, see that the executor reaches its socket, or keep the App to other agents with spec.placement"
	case padisv1.ReasonUnhealthy, padisv1.ReasonHealthCheckFailed:
		return "look at the program's output (`padis logs`) and at spec.template.healthChecks: path, port, grace period"
	case padisv1.ReasonExited:
		return "the program ended by itself: look at its output with `padis logs --previous`"
	case padisv1.ReasonAgentUnreachable:
		return "see whether the host is up and the Mesos agent on it runs"
	case padisv1.ReasonExecutorLost:
		return "see the executor's output in the sandbox on the agent"
	case padisv1.ReasonArtifactFailed:
		return "check that the agent reaches spec.template.artifacts[].uri and that sha256 is that of the file"
	case padisv1.ReasonCommandNotFound:
		return "check spec.template.command: the program must be in the image, or, without an image, on the agent's host or come as an artifact"
	case padisv1.ReasonNetworkFailed:
		return "check the Network's bridge and parent on the agent's host (`padis get networks -o wide`); an interface with an address of its own is a parent with spec.takeParent only"
	case padisv1.ReasonAddressAnswered:
		return "something still answers at the address: the earlier host of the instance, or a foreign machine; find it by its hardware address and switch it off"
	case padisv1.ReasonInvalidLaunch:
		return "scheduler and executor do not understand each other: upgrade the older one"
	case padisv1.ReasonSandboxFailed:
		return "check permissions and free space of the agent's work directory"
	case padisv1.ReasonUserNotFound:
		return "create the user of spec.template.user in the image, or, without an image, on the agents' hosts, or give a number"
	case padisv1.ReasonInsufficientSpace:
		return "free space on the agent's host, or lower spec.template.logs.maxSize"
	case padisv1.ReasonVolumeFailed:
		return "check spec.template.volumes: a hostPath must be on the agent's host, an NFS server must be reached from it and export the path"
	case padisv1.ReasonConstraintInvalid:
		return "correct spec.placement.constraints: the value must fit the operator"
	case padisv1.ReasonInvalid:
		return "correct the declaration as the message says"
	case padisv1.ReasonPoolOverlap:
		return "give the IPPools CIDRs that do not overlap; `padis get ippools` lists them"
	case padisv1.ReasonPoolInUse:
		return "delete or move the Apps that hold addresses of the IPPool first; `padis get addresses` shows them"
	case padisv1.ReasonNetworkInUse:
		return "delete or move the IPPools of the Network first; `padis get ippools` lists them"
	case padisv1.ReasonNamespaceTaken:
		return "a namespace belongs to one Tenant: take it out of the other's spec.namespaces"
	case padisv1.ReasonTenantNotFound:
		return "apply the Tenant that notColocatedWith names, or correct the name"
	case padisv1.ReasonPaused:
		return "unset spec.update.paused to go on"
	default:
		if text := networkRemedy(reason); text != "" {
			return text
		}
		if text := balanceRemedy(reason); text != "" {
			return text
		}
		return containerRemedy(reason)
	}
}

// networkRemedy is about what goes wrong on the wire.
func networkRemedy(reason string) string {
	switch reason {
	case padisv1.ReasonAddressQuotaExceeded:
		return "scale in another App of the tenant, or raise spec.addressQuotas of the Tenant; `padis get addresses` shows who holds what"
	case padisv1.ReasonPortInUse:
		return "instances with the network of their host share its ports: add agents, scale in, or choose another port in spec.template.ports"
	case padisv1.ReasonAddressConflict:
		return "find the machine by its hardware address and switch it off, or give it another address; `padis ip show ADDRESS` says what is known"
	case padisv1.ReasonLeaseExpired:
		return "the instance gave its addresses up because it heard nothing of the scheduler: see whether its host reaches the Mesos master; spec.unreachable.lease says how long it waits"
	case padisv1.ReasonForeignAddresses:
		return "give these machines other addresses, or reserve what they have with `padis ip reserve`"
	case padisv1.ReasonPeerDown:
		return "compare spec.bgp of the Network, or the BGPPeer and spec.bgp of the LoadBalancer, with the configuration of the router: address, asn, password"
	default:
		return ""
	}
}

// balanceRemedy is about LoadBalancers.
func balanceRemedy(reason string) string {
	switch reason {
	case padisv1.ReasonTooFewServers:
		return "get more instances of the backends' Apps ready, or lower spec.minServers; `padis why app/NAME` says why instances are not"
	case padisv1.ReasonNoDirectors:
		return "raise spec.directors.replicas, or see with `padis get instances` why no director runs"
	case padisv1.ReasonFewerDirectors:
		return "see which director does not announce, and why, with `padis describe lb NAME`"
	case padisv1.ReasonTooManyPaths:
		return "lower spec.directors.replicas, or raise the equal-cost paths of the router and spec.maximumPaths of its BGPPeer"
	case padisv1.ReasonPeerNotFound:
		return "apply the BGPPeer that spec.bgp.peers names, or correct the name; `padis get bgppeers` lists them"
	case padisv1.ReasonNoPeers:
		return "apply a BGPPeer for each router that shall have the VIPs"
	case padisv1.ReasonNoBackends:
		return "apply the App that spec.backends names, in the namespace of the LoadBalancer, or correct the name or the labels"
	case padisv1.ReasonBackendUnreachable:
		return "give the App a pool of the same Network as spec.directors.networks, and a driver with a segment: bridge, vlan or vxlan"
	case padisv1.ReasonRelayUnavailable:
		return "the host's kernel must let the executor attach eBPF programs (Linux 6.6 or newer, CAP_BPF and CAP_NET_ADMIN); until then changes may break connections of its instances"
	case padisv1.ReasonDataplaneUnavailable:
		return "set spec.dataplane to Auto or to one that the hosts' kernel has, or keep directors to other hosts with spec.directors.placement"
	case padisv1.ReasonCheckFailed:
		return "see that the instance listens on the VIP (0.0.0.0 or ::, not its own address alone) and answers as spec.healthChecks expect"
	case padisv1.ReasonHostSilent:
		return "see whether the host is up and its executor reaches the Mesos agent; flows of its instances come back with it"
	default:
		return ""
	}
}

// containerRemedy is about what only containers meet.
func containerRemedy(reason string) string {
	switch reason {
	case padisv1.ReasonVolumeForbidden:
		return "use another kind of volume, or have spec.hostPaths or spec.nfsServers of the namespace's Tenant extended"
	case padisv1.ReasonPrivilegeForbidden:
		return "do without the capability, or have spec.privileges.capabilities of the namespace's Tenant extended"
	case padisv1.ReasonConfigNotFound:
		return "create the ConfigMap, the Secret or the key that the message names: the App goes on by itself when it is there"
	case padisv1.ReasonImageInvalid:
		return "correct spec.template.image: HOST/NAME:TAG or HOST/NAME@sha256:DIGEST of an image for Linux"
	case padisv1.ReasonImageNotFound:
		return "push the image, or correct name and tag in spec.template.image; a mirror of a Registry may lag behind"
	case padisv1.ReasonImageUnauthorized:
		return "name a Secret of type kubernetes.io/dockerconfigjson with valid credentials in spec.template.imagePullSecrets"
	case padisv1.ReasonImageArchitecture:
		return "push the image for the agent's architecture too, or keep the App to other agents with spec.placement"
	case padisv1.ReasonImageCorrupt:
		return "what the registry or its mirror sent is not what the manifest says: push the image again, or repair the mirror"
	case padisv1.ReasonRegistryUnavailable:
		return "see whether the agent's host reaches the registry, its name resolves and its certificate is known; mirrors and authorities are declared with a Registry"
	case padisv1.ReasonOOMKilled:
		return "raise spec.template.resources.memory, or have the program use less; volumes in memory count, too"
	case padisv1.ReasonContainerFailed:
		return "see the message and the log of containerd on the agent's host; it is tried again"
	case padisv1.ReasonAdopting:
		return "the program runs on: if no new executor takes it over within a minute, see whether the agent runs and offers resources for an executor"
	case padisv1.ReasonUpgrading:
		return "the program runs on while its executor is replaced: see `padis get executorupgrades`"
	case padisv1.ReasonPulling, padisv1.ReasonPrepulling:
		return "wait for the image; a mirror near the agents (Registry) or an ImagePrepull makes the next time shorter"
	default:
		return ""
	}
}
