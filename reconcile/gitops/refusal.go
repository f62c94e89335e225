package gitops

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

var (
	// mayNot is the part of a denial that says who may not do what where. The rest is meant for people with other credentials.
	mayNot = regexp.MustCompile(`(?s)^.* cannot \w+ resource "[^"]*" in API group "[^"]*"(?: in the namespace "[^"]*"| at the cluster scope)?`)
	// typed is how structured-merge-diff refuses what does not fit the schema, and misfit one of the fields that do not.
	typed  = regexp.MustCompile(`(?s)failed to create typed patch object \([^)]*\): (?:errors:\n)?(.*)$`)
	misfit = regexp.MustCompile(`(?s)^\s*\.?(.*?): (field not declared in schema|expected string|expected numeric \(int or float\)|expected boolean|expected list|expected map)(?:, got .*)?$`)
)

// misfits say what to do. What is there instead is not told: it may be a secret.
var misfits = map[string]string{
	"field not declared in schema":    "there is no such field: correct its name, or take it out",
	"expected string":                 "must be a text: put it in quotes",
	"expected numeric (int or float)": "must be a number, without quotes",
	"expected boolean":                "must be true or false, without quotes",
	"expected list":                   "must be a list",
	"expected map":                    "must be a mapping of names to values",
}

// said is what the API server says of a write, in words for who has written the manifest.
func said(err error) string {
	text := err.Error()
	if apierrors.IsForbidden(err) {
		if m := mayNot.FindString(text); m != "" {
			return m + ": bind a Role that allows it to the service account"
		}
	}
	at := typed.FindStringSubmatchIndex(text)
	if at == nil {
		return text
	}
	var out []string
	for _, one := range strings.Split(text[at[2]:at[3]], "\n  .") {
		one = strings.TrimSpace(one)
		if m := misfit.FindStringSubmatch(one); m != nil {
			one = m[1] + ": " + misfits[m[2]]
		}
		out = append(out, one)
	}
	return text[:at[0]] + strings.Join(out, ", ")
}

// sortByPlace sorts lines that begin with FILE:LINE as people count.
func sortByPlace(lines []string) {
	place := func(s string) (string, int) {
		file, rest, _ := strings.Cut(s, ":")
		number, _, _ := strings.Cut(rest, ":")
		n, err := strconv.Atoi(number)
		if err != nil {
			n = 0
		}
		return file, n
	}
	slices.SortFunc(lines, func(a, b string) int {
		fa, na := place(a)
		fb, nb := place(b)
		return cmp.Or(cmp.Compare(fa, fb), cmp.Compare(na, nb), cmp.Compare(a, b))
	})
}
