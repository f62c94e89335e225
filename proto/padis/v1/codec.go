// Package padisv1 holds the records, payloads and reports that the stages of Padis share, and the words (Reason...)
// with which all of them explain themselves. Pure.
package padisv1

import (
	"fmt"

	//lint:ignore SA1019 the project's frame names this package; it is the same code behind another name
	"github.com/golang/protobuf/proto"
)

// MaxSize bounds every record, payload and report: Mesos passes messages of up to 8 MB, etcd values of 1.5 MB.
const MaxSize = 1 << 20

// Encode serialises a record, payload or report.
func Encode(m proto.Message) ([]byte, error) {
	b, err := proto.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", m, err)
	}
	if len(b) > MaxSize {
		return nil, fmt.Errorf("encode %T: %d bytes, more than the %d that can be kept; shorten the template", m, len(b), MaxSize)
	}
	return b, nil
}

// Decode reads what Encode wrote into m. Unknown fields of a newer version are kept.
func Decode(b []byte, m proto.Message) error {
	if len(b) > MaxSize {
		return fmt.Errorf("decode %T: %d bytes, more than the %d that can be valid", m, len(b), MaxSize)
	}
	if err := proto.Unmarshal(b, m); err != nil {
		return fmt.Errorf("decode %T: %w", m, err)
	}
	return nil
}
