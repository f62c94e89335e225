package plan

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// MaxProposals is how many objects a plan may be asked for at a time.
const MaxProposals = 5000

// Question asks what would happen if objects were applied and deleted.
type Question struct {
	// Version of this form, the same as that of a Plan.
	Version   int        `json:"version"`
	Proposals []Proposal `json:"proposals,omitempty"`
}

// Proposal is one object that would be applied, or deleted.
type Proposal struct {
	// Object is what it would become, which is what the API server answers to a dry run; its manifest if that was refused. Of
	// one that is deleted, apiVersion, kind and metadata name it, with the uid that it has.
	Object json.RawMessage `json:"object"`
	Delete bool            `json:"delete,omitempty"`
	// Refusals are why the dry run was refused. Those that the other proposals remedy do not count.
	Refusals []Refusal `json:"refusals,omitempty"`
}

// EncodeQuestion gives the JSON form.
func EncodeQuestion(proposals []Proposal) ([]byte, error) {
	if len(proposals) > MaxProposals {
		return nil, fmt.Errorf("%d objects are more than %d: plan fewer at a time", len(proposals), MaxProposals)
	}
	b, err := json.Marshal(Question{Version: Version, Proposals: proposals})
	if err == nil && len(b) > MaxBytes {
		err = fmt.Errorf("the objects take %d bytes, more than %d: plan fewer at a time", len(b), MaxBytes)
	}
	return b, err
}

// DecodeQuestion reads the JSON form, which may come from anybody.
func DecodeQuestion(data []byte) ([]Proposal, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	var q Question
	if err := d.Decode(&q); err != nil {
		return nil, fmt.Errorf("plan: %w: ask with padis plan", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("plan: something follows the end of the question: ask with padis plan")
	}
	switch {
	case q.Version != Version:
		return nil, fmt.Errorf("plan: version is %d, and this server understands %d: ask with a padis of its version", q.Version, Version)
	case len(q.Proposals) > MaxProposals:
		return nil, fmt.Errorf("plan: proposals are %d, and may be %d: plan fewer objects at a time", len(q.Proposals), MaxProposals)
	}
	for i := range q.Proposals {
		if len(q.Proposals[i].Object) == 0 {
			return nil, fmt.Errorf("plan: proposals[%d].object is empty: give a manifest", i)
		}
	}
	return q.Proposals, nil
}
