// Package change is what the audit log says of a change of what is declared: who changed what, when, from what to what,
// and at whose word. Pure.
package change

import (
	"encoding/json"
	"time"
)

const (
	// Changed is the event of a line that tells of a change, Lost that of one that tells how many lines are missing.
	Changed = "change"
	Lost    = "lost"
)

// Line is one object that one request changed, or tried to. Times are UTC.
type Line struct {
	Time  time.Time `json:"time"`
	Event string    `json:"event"`
	// Request is the same in all lines of a request, and what the server answered as Audit-ID.
	Request string   `json:"request,omitempty"`
	User    string   `json:"user,omitempty"`
	Groups  []string `json:"groups,omitempty"`
	// As is whom the user impersonated.
	As       string   `json:"as,omitempty"`
	AsGroups []string `json:"asGroups,omitempty"`
	// Verb is create, update, patch, delete or deletecollection.
	Verb string `json:"verb,omitempty"`
	// Resource is as in apps.padis.io or secrets; Kind is missing where a request was refused before its object was looked at.
	Resource    string `json:"resource,omitempty"`
	Subresource string `json:"subresource,omitempty"`
	Kind        string `json:"kind,omitempty"`
	Namespace   string `json:"namespace,omitempty"`
	Name        string `json:"name,omitempty"`
	Manager     string `json:"manager,omitempty"`
	// Code is the HTTP status; Reason and Message are the server's where it refused.
	Code    int32  `json:"code,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// Fields are those that differ, at most as many as are kept; Omitted counts the others. Where Code says that the request
	// was refused, they are what was asked for.
	Fields  []Field `json:"fields,omitempty"`
	Omitted int     `json:"omitted,omitempty"`
	// Commit, Author and Signer are those that a Sync acted upon. Nobody else can set them.
	Commit string `json:"commit,omitempty"`
	Author string `json:"author,omitempty"`
	Signer string `json:"signer,omitempty"`
	// Missing is how many lines could not be written before this one, of the event Lost.
	Missing int64 `json:"missing,omitempty"`
}

// Field is a path with its values as JSON; a value that was not there is missing.
type Field struct {
	Path   string          `json:"path"`
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
}

// Parse reads a line. Ok is false for what is none of ours: sessions are in the same file.
func Parse(b []byte) (l Line, ok bool) {
	if err := json.Unmarshal(b, &l); err != nil {
		return Line{}, false
	}
	return l, l.Event == Changed || l.Event == Lost
}
