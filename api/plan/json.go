package plan

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// MaxBytes is how long a plan may be: what `padis apply --plan` reads may come from anybody.
const MaxBytes = 64 << 20

// Encode gives the JSON form, indented, with a line end.
func Encode(p *Plan) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(p); err != nil {
		return nil, fmt.Errorf("encode plan: %w", err)
	}
	if b.Len() > MaxBytes {
		return nil, fmt.Errorf("encode plan: it takes %d bytes, more than %d: plan fewer objects at a time", b.Len(), MaxBytes)
	}
	return b.Bytes(), nil
}

// Decode reads the JSON form. It refuses what this version does not understand rather than leave it out.
func Decode(data []byte) (*Plan, error) {
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("plan: it has %d bytes, more than %d: plan fewer objects at a time", len(data), MaxBytes)
	}
	var form struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &form); err != nil {
		return nil, fmt.Errorf("plan: %w: give the file that padis plan --out wrote", err)
	}
	if form.Version != Version {
		return nil, fmt.Errorf("plan: version is %d, and this padis reads %d: plan again with this one", form.Version, Version)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	var p Plan
	if err := d.Decode(&p); err != nil {
		return nil, fmt.Errorf("plan: %w: give the file that padis plan --out wrote", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("plan: something follows its end: give the file that padis plan --out wrote")
	}
	if p.World == "" {
		return nil, errors.New("plan: world is empty: plan again")
	}
	return &p, nil
}
