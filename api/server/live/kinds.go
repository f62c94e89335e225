package live

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"

	"padis.io/padis/api/runtime"
)

// kind is what differs between the stores.
type kind[T Object] struct {
	resource, singular string
	short, categories  []string
	namespaced         bool
	object             func() T
	list               func(items []T, version string) kruntime.Object
	items              func(list kruntime.Object) []T
	fields             func(T) fields.Set
	columns            []metav1.TableColumnDefinition
	row                func(o T, now time.Time) []any
}

// Stores are the three projections.
type Stores struct {
	Instances *Store[*runtime.Instance]
	Agents    *Store[*runtime.Agent]
	Addresses *Store[*runtime.Address]
}

// NewStores makes empty stores. The clock gives the versions their start and objects without a creation time theirs.
func NewStores(clock func() time.Time) *Stores {
	return &Stores{
		Instances: newStore(instanceKind(), clock),
		Agents:    newStore(agentKind(), clock),
		Addresses: newStore(addressKind(), clock),
	}
}

func column(name, typ, description string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: name, Type: typ, Description: description}
}

func wide(name, typ, description string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: name, Type: typ, Description: description, Priority: 1}
}

func nameColumn() metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: "Name", Type: "string", Format: "name", Description: "Name of the object"}
}

func age(t metav1.Time, now time.Time) string {
	if t.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(now.Sub(t.Time))
}

func orNone(s string) string {
	if s == "" {
		return "<none>"
	}
	return s
}

func instanceKind() kind[*runtime.Instance] {
	return kind[*runtime.Instance]{
		resource: "instances", singular: "instance", short: []string{"inst"}, categories: []string{"all", "padis"}, namespaced: true,
		object: func() *runtime.Instance { return &runtime.Instance{} },
		list: func(items []*runtime.Instance, version string) kruntime.Object {
			out := &runtime.InstanceList{ListMeta: metav1.ListMeta{ResourceVersion: version}, Items: make([]runtime.Instance, len(items))}
			for i, o := range items {
				o.DeepCopyInto(&out.Items[i])
			}
			return out
		},
		items: func(list kruntime.Object) []*runtime.Instance { return pointers(list.(*runtime.InstanceList).Items) },
		fields: func(o *runtime.Instance) fields.Set {
			return fields.Set{
				"metadata.name": o.Name, "metadata.namespace": o.Namespace, "status.app": o.Status.App, "status.phase": o.Status.Phase,
				"status.host": o.Status.Host, "status.ready": strconv.FormatBool(o.Status.Ready),
			}
		},
		columns: []metav1.TableColumnDefinition{
			nameColumn(),
			column("Ready", "boolean", "Whether it runs and its health checks pass"),
			column("Phase", "string", "Where it is in its life"),
			column("Host", "string", "Host name of its agent"),
			column("Address", "string", "Addresses of its interfaces"),
			column("Restarts", "integer", "How often it was started again"),
			column("Age", "string", "Time since it was created"),
			wide("Revision", "string", "Hash of the template it runs"),
			wide("Reason", "string", "Why it is where it is"),
			wide("Message", "string", "What to do about it"),
			wide("Task", "string", "Mesos task id"),
		},
		row: func(o *runtime.Instance, now time.Time) []any {
			s := &o.Status
			return []any{o.Name, s.Ready, s.Phase, orNone(s.Host), orNone(strings.Join(s.Addresses, ",")), s.Restarts, age(o.CreationTimestamp, now),
				orNone(s.Revision), orNone(s.Reason), orNone(s.Message), orNone(s.TaskID)}
		},
	}
}

func agentKind() kind[*runtime.Agent] {
	return kind[*runtime.Agent]{
		resource: "agents", singular: "agent", categories: []string{"padis"},
		object: func() *runtime.Agent { return &runtime.Agent{} },
		list: func(items []*runtime.Agent, version string) kruntime.Object {
			out := &runtime.AgentList{ListMeta: metav1.ListMeta{ResourceVersion: version}, Items: make([]runtime.Agent, len(items))}
			for i, o := range items {
				o.DeepCopyInto(&out.Items[i])
			}
			return out
		},
		items: func(list kruntime.Object) []*runtime.Agent { return pointers(list.(*runtime.AgentList).Items) },
		fields: func(o *runtime.Agent) fields.Set {
			return fields.Set{"metadata.name": o.Name, "status.hostname": o.Status.Hostname, "status.host": o.Status.Hostname, "status.state": o.Status.State}
		},
		columns: []metav1.TableColumnDefinition{
			nameColumn(),
			column("Host", "string", "Host name"),
			column("State", "string", "Whether it can be used"),
			column("Instances", "integer", "Instances on it"),
			column("CPU", "string", "CPUs taken by instances, of all"),
			column("Memory", "string", "Memory taken by instances, of all"),
			column("Age", "string", "Time since it was first seen"),
			wide("Version", "string", "Mesos version"),
			wide("Attributes", "string", "Attributes of the agent"),
		},
		row: func(o *runtime.Agent, now time.Time) []any {
			s := &o.Status
			return []any{o.Name, orNone(s.Hostname), s.State, s.Instances, cpus(s.Used.CPUMilli) + "/" + cpus(s.Total.CPUMilli),
				mebibytes(s.Used.MemoryMiB) + "/" + mebibytes(s.Total.MemoryMiB), age(o.CreationTimestamp, now), orNone(s.Version), attributes(s.Attributes)}
		},
	}
}

func addressKind() kind[*runtime.Address] {
	return kind[*runtime.Address]{
		resource: "addresses", singular: "address", short: []string{"addr"}, categories: []string{"padis"},
		object: func() *runtime.Address { return &runtime.Address{} },
		list: func(items []*runtime.Address, version string) kruntime.Object {
			out := &runtime.AddressList{ListMeta: metav1.ListMeta{ResourceVersion: version}, Items: make([]runtime.Address, len(items))}
			for i, o := range items {
				o.DeepCopyInto(&out.Items[i])
			}
			return out
		},
		items: func(list kruntime.Object) []*runtime.Address { return pointers(list.(*runtime.AddressList).Items) },
		fields: func(o *runtime.Address) fields.Set {
			return fields.Set{"metadata.name": o.Name, "status.pool": o.Status.Pool, "status.namespace": o.Status.Namespace,
				"status.instance": o.Status.Instance, "status.host": o.Status.Host, "status.network": o.Status.Network, "status.state": o.Status.State}
		},
		columns: []metav1.TableColumnDefinition{
			{Name: "Address", Type: "string", Format: "name", Description: "The address"},
			column("State", "string", "Allocated, Cooling (given back, and given to nobody else yet) or Foreign (used by others)"),
			column("Pool", "string", "IPPool that it is of"),
			column("Namespace", "string", "Namespace of the instance that holds it"),
			column("Instance", "string", "Instance that holds it"),
			column("Host", "string", "Host where it is configured now"),
			column("Age", "string", "Time since it was leased, or given back"),
			wide("Network", "string", "Network that it is on"),
			wide("Former", "string", "Instance that had it, while it is cooling"),
			wide("Conflict", "string", "Who else uses it"),
		},
		row: func(o *runtime.Address, now time.Time) []any {
			s := &o.Status
			since := o.CreationTimestamp
			if s.Since != nil {
				since = *s.Since
			}
			state := s.State
			if s.Conflict != "" && state == runtime.AddressAllocated {
				state += " (conflict)"
			}
			return []any{o.Name, state, s.Pool, orNone(s.Namespace), orNone(s.Instance), orNone(s.Host), age(since, now),
				orNone(s.Network), orNone(s.Former), orNone(s.Conflict)}
		},
	}
}

func pointers[E any](in []E) []*E {
	out := make([]*E, len(in))
	for i := range in {
		out[i] = &in[i]
	}
	return out
}

// cpus prints thousandths as CPUs: 500 is 0.5.
func cpus(milli int64) string { return strconv.FormatFloat(float64(milli)/1000, 'f', -1, 64) }

func mebibytes(n int64) string {
	if n >= 10*1024 {
		return fmt.Sprintf("%.1fGi", float64(n)/1024)
	}
	return fmt.Sprintf("%dMi", n)
}

func attributes(m map[string]string) string {
	out := make([]string, 0, len(m))
	for k, v := range m {
		out = append(out, k+"="+v)
	}
	sort.Strings(out)
	return orNone(strings.Join(out, ","))
}
