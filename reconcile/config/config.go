// Package config turns the ConfigMaps and Secrets that a declaration refers to into what travels to the executors:
// variables, files and credentials. Pure.
//
// Values of variables become part of a revision, so that a changed value is an update like any other. Files travel beside
// the revisions, under a hash; only a volume that asks to be restarted on a change carries the hash in its revision.
package config

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"

	corev1 "k8s.io/api/core/v1"
)

// Kind is one of the two kinds that hold configuration.
type Kind string

// The kinds.
const (
	ConfigMap Kind = "ConfigMap"
	Secret    Kind = "Secret"
)

// Ref names a ConfigMap or Secret.
type Ref struct {
	Kind            Kind
	Namespace, Name string
}

// String gives "configmap/settings", as the executors know it.
func (r Ref) String() string { return strings.ToLower(string(r.Kind)) + "/" + r.Name }

// Object is the content of a ConfigMap or Secret.
type Object struct {
	// Type of a Secret.
	Type string
	Data map[string][]byte
}

// Objects are those that are there.
type Objects map[Ref]Object

// OfConfigMap takes the content out of a ConfigMap.
func OfConfigMap(c *corev1.ConfigMap) Object {
	o := Object{Data: map[string][]byte{}}
	for k, v := range c.Data {
		o.Data[k] = []byte(v)
	}
	maps.Copy(o.Data, c.BinaryData)
	return o
}

// OfSecret takes the content out of a Secret.
func OfSecret(s *corev1.Secret) Object { return Object{Type: string(s.Type), Data: s.Data} }

// Problem says why a declaration cannot be put in force: a padisv1.Reason constant, and a sentence with the remedy.
type Problem struct{ Reason, Message string }

func (p *Problem) Error() string { return p.Message }

func missing(at, format string, args ...any) *Problem {
	return &Problem{padisv1.ReasonConfigNotFound, at + ": " + fmt.Sprintf(format, args...)}
}

func invalid(at, format string, args ...any) *Problem {
	return &Problem{padisv1.ReasonInvalid, at + ": " + fmt.Sprintf(format, args...)}
}

func (o Objects) get(at string, r Ref) (Object, *Problem) {
	found, ok := o[r]
	if !ok {
		return found, missing(at, "there is no %s %q in namespace %s: create it, or name another", r.Kind, r.Name, r.Namespace)
	}
	return found, nil
}

func (o Object) key(at string, r Ref, key string) ([]byte, *Problem) {
	value, ok := o.Data[key]
	if !ok {
		return nil, missing(at, "%s %q in namespace %s has no key %q: add it, or name one that is there (%s)", r.Kind, r.Name, r.Namespace, key, someKeys(o.Data))
	}
	return value, nil
}

// someKeys names the first few keys.
func someKeys(data map[string][]byte) string {
	const most = 5
	keys := slices.Sorted(maps.Keys(data))
	switch {
	case len(keys) == 0:
		return "it is empty"
	case len(keys) > most:
		return fmt.Sprintf("%s and %d more", strings.Join(keys[:most], ", "), len(keys)-most)
	}
	return strings.Join(keys, ", ")
}

// Refs lists what an App refers to, each once, sorted.
func Refs(a *v1alpha1.App) []Ref {
	var out []Ref
	add := func(kind Kind, name string) { out = append(out, Ref{kind, a.Namespace, name}) }
	t := &a.Spec.Template
	for _, e := range t.Env {
		if e.ValueFrom == nil {
			continue
		}
		if k := e.ValueFrom.ConfigMapKeyRef; k != nil {
			add(ConfigMap, k.Name)
		}
		if k := e.ValueFrom.SecretKeyRef; k != nil {
			add(Secret, k.Name)
		}
	}
	for _, e := range t.EnvFrom {
		if e.ConfigMapRef != nil {
			add(ConfigMap, e.ConfigMapRef.Name)
		}
		if e.SecretRef != nil {
			add(Secret, e.SecretRef.Name)
		}
	}
	for i := range t.Volumes {
		if kind, files := Files(&t.Volumes[i]); files != nil {
			add(kind, files.Name)
		}
	}
	for _, s := range t.ImagePullSecrets {
		add(Secret, s.Name)
	}
	return distinct(out)
}

// PullRefs lists the Secrets that an ImagePrepull refers to.
func PullRefs(p *v1alpha1.ImagePrepull) []Ref {
	var out []Ref
	for _, s := range p.Spec.ImagePullSecrets {
		out = append(out, Ref{Secret, p.Namespace, s.Name})
	}
	return distinct(out)
}

func distinct(refs []Ref) []Ref {
	slices.SortFunc(refs, func(a, b Ref) int {
		return cmp.Or(strings.Compare(string(a.Kind), string(b.Kind)), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	return slices.Compact(refs)
}

// Files gives the source of a volume that shows a ConfigMap or Secret; nil for other volumes.
func Files(v *v1alpha1.Volume) (Kind, *v1alpha1.FilesVolume) {
	switch {
	case v.ConfigMap != nil:
		return ConfigMap, v.ConfigMap
	case v.Secret != nil:
		return Secret, v.Secret
	}
	return "", nil
}

// Data gives the contents that an App's volumes show, by name: of each ConfigMap or Secret only the keys that a volume
// shows.
func Data(a *v1alpha1.App, objects Objects) ([]*padisv1.ConfigData, *Problem) {
	data := map[Ref]map[string][]byte{}
	for i := range a.Spec.Template.Volumes {
		v := &a.Spec.Template.Volumes[i]
		kind, files := Files(v)
		if files == nil {
			continue
		}
		at := fmt.Sprintf("spec.template.volumes[%d].%s", i, map[Kind]string{ConfigMap: "configMap", Secret: "secret"}[kind])
		r := Ref{kind, a.Namespace, files.Name}
		o, p := objects.get(at+".name", r)
		if p != nil {
			return nil, p
		}
		if data[r] == nil {
			data[r] = map[string][]byte{}
		}
		if len(files.Items) == 0 {
			maps.Copy(data[r], o.Data)
		}
		for n, item := range files.Items {
			value, p := o.key(fmt.Sprintf("%s.items[%d].key", at, n), r, item.Key)
			if p != nil {
				return nil, p
			}
			data[r][item.Key] = value
		}
	}
	var out []*padisv1.ConfigData
	for r, d := range data {
		out = append(out, &padisv1.ConfigData{Name: r.String(), Hash: Hash(d), Data: d})
	}
	slices.SortFunc(out, func(a, b *padisv1.ConfigData) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// Hash is over the sorted keys and values. It must never change for the same content: instances that restart on changes
// would all restart when Padis is upgraded.
func Hash(data map[string][]byte) string {
	h := sha256.New()
	write := func(b []byte) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	for _, k := range slices.Sorted(maps.Keys(data)) {
		write([]byte(k))
		write(data[k])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Auths gives the credentials in the Secrets named, by registry; where two have some for the same registry, the first.
// at is the path of the list.
func Auths(at, namespace string, names []v1alpha1.SecretReference, objects Objects) ([]*padisv1.RegistryAuth, *Problem) {
	var out []*padisv1.RegistryAuth
	for i, n := range names {
		here := fmt.Sprintf("%s[%d].name", at, i)
		o, p := objects.get(here, Ref{Secret, namespace, n.Name})
		if p != nil {
			return nil, p
		}
		if o.Type != v1alpha1.DockerConfigType {
			return nil, invalid(here, "Secret %q in namespace %s is of type %q: name one of type %s, which kubectl create secret docker-registry makes",
				n.Name, namespace, o.Type, v1alpha1.DockerConfigType)
		}
		credentials, err := v1alpha1.ParseDockerConfig(o.Data[v1alpha1.DockerConfigKey])
		if err != nil {
			return nil, invalid(here, "key %s of Secret %q in namespace %s %v", v1alpha1.DockerConfigKey, n.Name, namespace, err)
		}
		for _, c := range credentials {
			if !slices.ContainsFunc(out, func(a *padisv1.RegistryAuth) bool { return a.Registry == c.Registry }) {
				out = append(out, &padisv1.RegistryAuth{Registry: c.Registry, Username: c.Username, Password: c.Password, IdentityToken: c.IdentityToken})
			}
		}
	}
	slices.SortFunc(out, func(a, b *padisv1.RegistryAuth) int { return strings.Compare(a.Registry, b.Registry) })
	return out, nil
}
