package declared

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/reconcile/config"

	"google.golang.org/protobuf/proto"
)

// maxShare bounds all Registries together, and all ImagePrepulls: what is declared for the cluster is one record.
const maxShare = padisv1.MaxSize / 4

// registries judges them one by one, by name.
func (v *View) registries(in Input) {
	problems := map[string]v1alpha1.Problem{}
	for _, p := range v1alpha1.ValidateRegistries(in.Registries) {
		problems[strings.TrimPrefix(p.Object, "registry/")] = p
	}
	taken := 0
	for _, r := range sortedBy(in.Registries, func(a, b *v1alpha1.Registry) int { return strings.Compare(a.Name, b.Name) }) {
		p, bad := problems[r.Name]
		switch {
		case r.DeletionTimestamp != nil:
			v.Registries[r.Name] = accepted("is being deleted")
			continue
		case bad:
			v.Registries[r.Name] = refused(p.Reason, "%s: %q %s", p.Field, p.Value, p.Message)
			continue
		}
		out := &padisv1.Registry{
			Name: r.Name, Host: r.Spec.Host, Mirrors: slices.Clone(r.Spec.Mirrors), Agents: selectors(r.Spec.Agents),
			PlainHttp: r.Spec.PlainHTTP, Ca: r.Spec.CABundle, MirrorsOnly: r.Spec.MirrorsOnly,
		}
		if taken += proto.Size(out); taken > maxShare {
			v.Registries[r.Name] = refused(padisv1.ReasonInvalid, "the Registries up to this one by name take %d bytes, more than the %d that can be kept: shorten spec.caBundle", taken, maxShare)
			continue
		}
		v.Registries[r.Name] = accepted("agents pull by it")
		v.Cluster.Registries = append(v.Cluster.Registries, out)
	}
}

// upgrades takes the one that there may be.
func (v *View) upgrades(in Input) {
	for _, u := range sortedBy(in.Upgrades, func(a, b *v1alpha1.ExecutorUpgrade) int { return strings.Compare(a.Name, b.Name) }) {
		switch {
		case u.DeletionTimestamp != nil:
			v.Upgrades[u.Name] = accepted("is being deleted")
			continue
		case u.Name != v1alpha1.UpgradeName:
			v.Upgrades[u.Name] = refused(padisv1.ReasonInvalid, "there is one ExecutorUpgrade for the whole cluster, called %s: delete this one", v1alpha1.UpgradeName)
			continue
		}
		v.Upgrades[u.Name] = accepted("executors are replaced by it")
		v.Cluster.ExecutorUpgrade = &padisv1.ExecutorUpgrade{
			ArtifactSha256: u.Spec.ArtifactSHA256, Paused: u.Spec.Paused, MaxParallel: max(1, u.Spec.MaxParallel), RestartProcesses: u.Spec.RestartProcesses,
		}
	}
}

// Key names an ImagePrepull in View.Prepulls.
func Key(namespace, name string) string { return namespace + "/" + name }

// prepulls are in force when their credentials are there.
func (v *View) prepulls(in Input) {
	taken := 0
	for _, p := range sortedBy(in.Prepulls, func(a, b *v1alpha1.ImagePrepull) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	}) {
		key := Key(p.Namespace, p.Name)
		if p.DeletionTimestamp != nil {
			v.Prepulls[key] = accepted("is being deleted")
			continue
		}
		auths, problem := config.Auths("spec.imagePullSecrets", p.Namespace, p.Spec.ImagePullSecrets, in.Secrets)
		if problem != nil {
			v.Prepulls[key] = refused(problem.Reason, "%s", problem.Message)
			continue
		}
		out := &padisv1.Prepull{Namespace: p.Namespace, Name: p.Name, Images: sortedStrings(p.Spec.Images), Agents: selectors(p.Spec.Agents), Auths: auths}
		if taken += proto.Size(out); taken > maxShare {
			v.Prepulls[key] = refused(padisv1.ReasonInvalid, "the ImagePrepulls up to this one by name take %d bytes with their credentials, more than the %d that can be kept: delete those that are done", taken, maxShare)
			continue
		}
		v.Prepulls[key] = accepted("agents pull %s", images(len(p.Spec.Images)))
		v.Cluster.Prepulls = append(v.Cluster.Prepulls, out)
	}
}

func images(n int) string {
	if n == 1 {
		return "1 image"
	}
	return fmt.Sprintf("%d images", n)
}

func selectors(in []v1alpha1.AgentSelector) []*padisv1.AgentSelector {
	var out []*padisv1.AgentSelector
	for _, s := range in {
		out = append(out, &padisv1.AgentSelector{Attribute: s.Attribute, Value: s.Value})
	}
	return out
}
