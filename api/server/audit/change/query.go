package change

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"time"
)

// Query chooses lines. What is empty chooses all; lines that say how many are missing are always chosen.
type Query struct {
	Since     time.Time
	Resource  string
	Namespace string
	Name      string
	// Actor is the user, or whom the user impersonated.
	Actor string
}

// Values is the query of a URL; ParseQuery reads it.
func (q Query) Values() url.Values {
	out := url.Values{}
	if !q.Since.IsZero() {
		out.Set("since", q.Since.UTC().Format(time.RFC3339Nano))
	}
	for key, value := range map[string]string{"resource": q.Resource, "namespace": q.Namespace, "name": q.Name, "actor": q.Actor} {
		if value != "" {
			out.Set(key, value)
		}
	}
	return out
}

// ParseQuery refuses what it does not know: the answer would be taken for something it is not.
func ParseQuery(values url.Values) (Query, error) {
	var q Query
	for key, all := range values {
		value := all[len(all)-1]
		switch key {
		case "since":
			t, err := time.Parse(time.RFC3339Nano, value)
			if err != nil {
				return Query{}, fmt.Errorf("since=%q is no time: use one as 2006-01-02T15:04:05Z", value)
			}
			q.Since = t
		case "resource":
			q.Resource = value
		case "namespace":
			q.Namespace = value
		case "name":
			q.Name = value
		case "actor":
			q.Actor = value
		case "timeout", "pretty":
		default:
			return Query{}, fmt.Errorf("unknown parameter %q: use since, resource, namespace, name and actor", key)
		}
	}
	return q, nil
}

// May tells, faster than Match, that a line is not chosen: it is false only then.
func (q Query) May(line []byte) bool {
	if bytes.Contains(line, []byte(`"event":"`+Lost+`"`)) {
		return true
	}
	if !bytes.Contains(line, []byte(`"event":"`+Changed+`"`)) {
		return false
	}
	for _, word := range []string{q.Name, q.Namespace, q.Actor, q.Resource} {
		if encoded, _ := json.Marshal(word); word != "" && !bytes.Contains(line, encoded) {
			return false
		}
	}
	return true
}

// Match tells whether a line is chosen.
func (q Query) Match(l Line) bool {
	if l.Time.Before(q.Since) {
		return false
	}
	return l.Event == Lost || is(q.Resource, l.Resource) && is(q.Namespace, l.Namespace) && is(q.Name, l.Name) && (is(q.Actor, l.User) || is(q.Actor, l.As))
}

func is(want, have string) bool { return want == "" || want == have }
