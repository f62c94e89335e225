package gitops

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"padis.io/padis/api/v1alpha1"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// maxMessage bounds messages of conditions, in bytes.
const maxMessage = 2048

func condition(kind string, yes bool, reason, message string, generation int64) metav1.Condition {
	s := metav1.ConditionFalse
	if yes {
		s = metav1.ConditionTrue
	}
	return metav1.Condition{Type: kind, Status: s, Reason: reason, Message: message, ObservedGeneration: generation}
}

// cut shortens a text to a number of bytes.
func cut(s string, most int) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= most {
		return s
	}
	for !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}

// sameReason tells whether two sets of conditions say Ready alike, so that nobody is told twice.
func sameReason(a, b []metav1.Condition) bool {
	x, y := find(a, v1alpha1.ConditionReady), find(b, v1alpha1.ConditionReady)
	return x.Status == y.Status && x.Reason == y.Reason && x.Message == y.Message
}

func find(cs []metav1.Condition, kind string) metav1.Condition {
	for _, c := range cs {
		if c.Type == kind {
			return c
		}
	}
	return metav1.Condition{}
}

// some joins the first lines of a list, and counts the rest.
func some(lines []string) string {
	const most = 10
	if len(lines) <= most {
		return strings.Join(lines, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(lines[:most], "; "), len(lines)-most)
}

// notHealthy goes on after the number of objects that are not healthy.
func notHealthy(ill []v1alpha1.ObjectReport) string {
	if len(ill) == 1 {
		return fmt.Sprintf("is not healthy: %s: %s", ill[0].Object, ill[0].Message)
	}
	return fmt.Sprintf("are not healthy, the first is %s: %s", ill[0].Object, ill[0].Message)
}
