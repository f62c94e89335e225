package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"
)

var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// env collects variables; a later one of the same name takes the place of an earlier one.
type env struct {
	list []*padisv1.EnvVar
	at   map[string]int
}

func (e *env) set(name, value string) {
	if n, ok := e.at[name]; ok {
		e.list[n] = &padisv1.EnvVar{Name: name, Value: value}
		return
	}
	e.at[name] = len(e.list)
	e.list = append(e.list, &padisv1.EnvVar{Name: name, Value: value})
}

// Env gives the variables of an App, with the values that they have now.
func Env(a *v1alpha1.App, objects Objects) ([]*padisv1.EnvVar, *Problem) {
	e := &env{at: map[string]int{}}
	for i, from := range a.Spec.Template.EnvFrom {
		if p := e.addAll(fmt.Sprintf("spec.template.envFrom[%d]", i), a.Namespace, from, objects); p != nil {
			return nil, p
		}
	}
	for i, v := range a.Spec.Template.Env {
		if v.ValueFrom == nil {
			e.set(v.Name, v.Value)
			continue
		}
		at := fmt.Sprintf("spec.template.env[%d].valueFrom", i)
		value, set, p := one(at, a.Namespace, v.ValueFrom, objects)
		if p != nil {
			return nil, p
		}
		if set {
			e.set(v.Name, value)
		}
	}
	return e.list, nil
}

// addAll makes a variable of each key.
func (e *env) addAll(at, namespace string, from v1alpha1.EnvFromSource, objects Objects) *Problem {
	kind, selector, field := ConfigMap, from.ConfigMapRef, "configMapRef"
	if selector == nil {
		kind, selector, field = Secret, from.SecretRef, "secretRef"
	}
	if selector == nil || from.ConfigMapRef != nil && from.SecretRef != nil {
		return invalid(at, "set exactly one of configMapRef and secretRef")
	}
	r := Ref{kind, namespace, selector.Name}
	o, p := objects.get(at+"."+field, r)
	if p != nil {
		if selector.Optional {
			return nil
		}
		return p
	}
	for _, key := range slices.Sorted(maps.Keys(o.Data)) {
		name := from.Prefix + key
		if !variable.MatchString(name) {
			return invalid(at+"."+field, "key %q of %s %q makes %q, which is no name of a variable: rename the key, or take the others one by one with env", key, kind, selector.Name, name)
		}
		value, p := text(at+"."+field, r, key, o.Data[key])
		if p != nil {
			return p
		}
		e.set(name, value)
	}
	return nil
}

// one reads the value of one variable; set tells whether there is one.
func one(at, namespace string, from *v1alpha1.EnvSource, objects Objects) (value string, set bool, p *Problem) {
	kind, selector, field := ConfigMap, from.ConfigMapKeyRef, "configMapKeyRef"
	if selector == nil {
		kind, selector, field = Secret, from.SecretKeyRef, "secretKeyRef"
	}
	if selector == nil || from.ConfigMapKeyRef != nil && from.SecretKeyRef != nil {
		return "", false, invalid(at, "set exactly one of configMapKeyRef and secretKeyRef")
	}
	at += "." + field
	r := Ref{kind, namespace, selector.Name}
	o, p := objects.get(at+".name", r)
	var raw []byte
	if p == nil {
		raw, p = o.key(at+".key", r, selector.Key)
	}
	if p != nil {
		if selector.Optional {
			return "", false, nil
		}
		return "", false, p
	}
	value, p = text(at, r, selector.Key, raw)
	return value, p == nil, p
}

// text refuses what no variable can hold.
func text(at string, r Ref, key string, raw []byte) (string, *Problem) {
	if s := string(raw); utf8.ValidString(s) && !strings.ContainsRune(s, 0) {
		return s, nil
	}
	return "", invalid(at, "key %q of %s %q has bytes that are no text: show it as a file with volumes", key, r.Kind, r.Name)
}
