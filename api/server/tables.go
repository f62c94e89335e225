package server

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	coordv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
)

// table shows objects of one kind in the columns that kubectl shows for it.
type table struct {
	columns []metav1.TableColumnDefinition
	row     func(o kruntime.Object, now time.Time) []any
}

// columns reads "Name:type" and, for those shown only with -o wide, "Name:type:wide".
func columns(specs ...string) []metav1.TableColumnDefinition {
	out := make([]metav1.TableColumnDefinition, 0, len(specs))
	for _, s := range specs {
		parts := strings.Split(s, ":")
		c := metav1.TableColumnDefinition{Name: parts[0], Type: parts[1]}
		if parts[0] == "Name" {
			c.Format = "name"
		}
		if len(parts) > 2 {
			c.Priority = 1
		}
		out = append(out, c)
	}
	return out
}

// ConvertToTable implements rest.TableConvertor.
func (t table) ConvertToTable(_ context.Context, obj, opts kruntime.Object) (*metav1.Table, error) {
	out := &metav1.Table{}
	if o, ok := opts.(*metav1.TableOptions); !ok || o == nil || !o.NoHeaders {
		out.ColumnDefinitions = t.columns
	}
	now := time.Now()
	add := func(o kruntime.Object) error {
		out.Rows = append(out.Rows, metav1.TableRow{Cells: t.row(o, now), Object: kruntime.RawExtension{Object: o}})
		return nil
	}
	if list, ok := obj.(metav1.ListMetaAccessor); ok {
		m := list.GetListMeta()
		out.ResourceVersion, out.Continue, out.RemainingItemCount = m.GetResourceVersion(), m.GetContinue(), m.GetRemainingItemCount()
		return out, meta.EachListItem(obj, add)
	}
	m, err := meta.Accessor(obj)
	if err != nil {
		return nil, fmt.Errorf("%T cannot be shown as a table: %w", obj, err)
	}
	out.ResourceVersion = m.GetResourceVersion()
	return out, add(obj)
}

func since(t, now time.Time) string {
	if t.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(now.Sub(t))
}

func namespaceTable() table {
	return table{columns("Name:string", "Status:string", "Age:string"), func(o kruntime.Object, now time.Time) []any {
		n := o.(*corev1.Namespace)
		phase := n.Status.Phase
		if n.DeletionTimestamp != nil {
			phase = corev1.NamespaceTerminating
		}
		return []any{n.Name, string(phase), since(n.CreationTimestamp.Time, now)}
	}}
}

func secretTable() table {
	return table{columns("Name:string", "Type:string", "Data:integer", "Age:string"), func(o kruntime.Object, now time.Time) []any {
		s := o.(*corev1.Secret)
		return []any{s.Name, string(s.Type), int64(len(s.Data)), since(s.CreationTimestamp.Time, now)}
	}}
}

func configMapTable() table {
	return table{columns("Name:string", "Data:integer", "Age:string"), func(o kruntime.Object, now time.Time) []any {
		c := o.(*corev1.ConfigMap)
		return []any{c.Name, int64(len(c.Data) + len(c.BinaryData)), since(c.CreationTimestamp.Time, now)}
	}}
}

func leaseTable() table {
	return table{columns("Name:string", "Holder:string", "Age:string"), func(o kruntime.Object, now time.Time) []any {
		l := o.(*coordv1.Lease)
		holder := ""
		if l.Spec.HolderIdentity != nil {
			holder = *l.Spec.HolderIdentity
		}
		return []any{l.Name, holder, since(l.CreationTimestamp.Time, now)}
	}}
}

func eventTable() table {
	return table{columns("Last Seen:string", "Type:string", "Reason:string", "Object:string", "Subobject:string:wide", "Source:string:wide", "Message:string",
		"First Seen:string:wide", "Count:integer:wide", "Name:string:wide"), eventRow}
}

func eventRow(o kruntime.Object, now time.Time) []any {
	e := o.(*corev1.Event)
	first, last, count := e.FirstTimestamp.Time, e.LastTimestamp.Time, int64(e.Count)
	if first.IsZero() {
		first = e.EventTime.Time
	}
	if e.Series != nil {
		last, count = e.Series.LastObservedTime.Time, int64(e.Series.Count)
	}
	if last.IsZero() {
		last = first
	}
	if count == 0 {
		count = 1
	}
	object := strings.ToLower(e.InvolvedObject.Kind) + "/" + e.InvolvedObject.Name
	source := e.Source.Component
	if source == "" {
		source = e.ReportingController
	}
	if e.Source.Host != "" {
		source += ", " + e.Source.Host
	}
	message := strings.TrimSpace(e.Message)
	if strings.ContainsFunc(message, func(r rune) bool { return !strconv.IsPrint(r) && r != '\n' }) {
		message = strconv.Quote(message)
	}
	return []any{since(last, now), e.Type, e.Reason, object, e.InvolvedObject.FieldPath, source, message, since(first, now), count, e.Name}
}
