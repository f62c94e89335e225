package helm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Read reads a Request or Response that is all there is to read, of at most so many bytes.
func Read[T Request | Response](r io.Reader, most int64) (doc T, err error) {
	b, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return doc, err
	}
	if int64(len(b)) > most {
		return doc, &TooLargeError{most}
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&doc); err != nil {
		return doc, fmt.Errorf("not the document that was expected: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return doc, errors.New("not the document that was expected: more follows it")
	}
	return doc, nil
}

// TooLargeError is that of a document beyond its bound.
type TooLargeError struct{ Most int64 }

func (e *TooLargeError) Error() string { return fmt.Sprintf("more than %d bytes", e.Most) }
