package gitops

import (
	"errors"
	"slices"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestWhatTheServerSaysIsForWhoHasWrittenTheManifest(t *testing.T) {
	const typed = "failed to create typed patch object (shop/web; padis.io/v1alpha1, Kind=App): "
	for _, c := range []struct {
		err  error
		want string
	}{
		{errors.New(typed + ".spec.replicaz: field not declared in schema"), "spec.replicaz: there is no such field: correct its name, or take it out"},
		{errors.New(typed + `.spec.template.env[name="P"].value: expected string, got &value.valueUnstructured{Value:987654321}`), `spec.template.env[name="P"].value: must be a text: put it in quotes`},
		{errors.New(typed + ".spec.replicas: expected numeric (int or float), got string"), "spec.replicas: must be a number, without quotes"},
		{errors.New(typed + ".spec.paused: expected boolean, got hunter2\nhunter3"), "spec.paused: must be true or false, without quotes"},
		{errors.New(typed + ".spec.networks: expected list, got &{map[a:hunter2]}"), "spec.networks: must be a list"},
		{errors.New(typed + "errors:\n  .spec.template: expected map, got hunter2\n  .spec.x: field not declared in schema\n  .spec.ports: duplicate entries for key [name=\"http\"]"),
			"spec.template: must be a mapping of names to values, spec.x: there is no such field: correct its name, or take it out, spec.ports: duplicate entries for key [name=\"http\"]"},
		{apierrors.NewForbidden(schema.GroupResource{Resource: "configmaps"}, "a", errors.New(`User "system:serviceaccount:shop:bot" cannot patch resource "configmaps" in API group "" in the namespace "shop": ask the administrator`)),
			`configmaps "a" is forbidden: User "system:serviceaccount:shop:bot" cannot patch resource "configmaps" in API group "" in the namespace "shop": bind a Role that allows it to the service account`},
		{apierrors.NewForbidden(schema.GroupResource{Resource: "namespaces"}, "a", errors.New(`User "u" cannot get resource "namespaces" in API group "" at the cluster scope: ask`)),
			`namespaces "a" is forbidden: User "u" cannot get resource "namespaces" in API group "" at the cluster scope: bind a Role that allows it to the service account`},
		{apierrors.NewForbidden(schema.GroupResource{Resource: "configmaps"}, "a", errors.New("the namespace is being deleted")), `configmaps "a" is forbidden: the namespace is being deleted`},
		{errors.New("anything else"), "anything else"},
	} {
		if got := said(c.err); got != c.want {
			t.Errorf("%q and not %q", got, c.want)
		}
	}
}

func TestLinesAreSortedAsPeopleCount(t *testing.T) {
	lines := []string{"a.yaml:10: x", "b.yaml: y", "a.yaml:9: x", "a.yaml: whole", "a.yaml:9: a"}
	sortByPlace(lines)
	if want := []string{"a.yaml: whole", "a.yaml:9: a", "a.yaml:9: x", "a.yaml:10: x", "b.yaml: y"}; !slices.Equal(lines, want) {
		t.Errorf("%q", lines)
	}
}
