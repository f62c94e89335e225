package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	padisv1 "padis.io/padis/proto/padis/v1"
)

func balance() *padisv1.Balance {
	return &padisv1.Balance{Uid: "u", Number: 7, Namespace: "shop", Name: "web", Tcp: []byte{1, 2, 3},
		Services: []*padisv1.BalanceService{{Vip: "10.9.0.1", Protocol: "tcp", FirstPort: 80, LastPort: 80}},
		Director: &padisv1.DirectorOrder{Tasks: []string{"t"}, MinServers: 1}}
}

func TestFramesReturn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all bytes.Buffer
		var sent []*padisv1.Balance
		for range rapid.IntRange(1, 5).Draw(t, "frames") {
			b := balance()
			b.Number, b.Name, b.Tcp = rapid.Int64().Draw(t, "number"), rapid.String().Draw(t, "name"), rapid.SliceOf(rapid.Byte()).Draw(t, "tcp")
			if err := Write(&all, b); err != nil {
				t.Fatal(err)
			}
			sent = append(sent, b)
		}
		back := balance() // what was there before must not stay
		for _, b := range sent {
			if err := Read(&all, back); err != nil || !proto.Equal(b, back) {
				t.Fatalf("%v: sent %v, got %v", err, b, back)
			}
		}
		if err := Read(&all, back); err != io.EOF {
			t.Fatalf("after the last frame: %v", err)
		}
	})
}

func TestFramesAreBounded(t *testing.T) {
	if err := Write(io.Discard, &padisv1.Balance{Tcp: make([]byte, MaxFrame)}); err == nil || !strings.Contains(err.Error(), "smaller tableSize") {
		t.Error(err)
	}
	long := binary.BigEndian.AppendUint32(nil, MaxFrame+1)
	if err := Read(bytes.NewReader(long), &padisv1.Balance{}); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Error(err)
	}
	if err := Read(bytes.NewReader([]byte{0, 0, 0, 9, 1}), &padisv1.Balance{}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
	if err := Read(bytes.NewReader([]byte{0, 0, 0, 1, 0xff}), &padisv1.Balance{}); err == nil || !strings.Contains(err.Error(), "no Balance") {
		t.Error(err)
	}
}

// Whatever comes, nothing breaks and no more is kept than has come.
func FuzzRead(f *testing.F) {
	var b bytes.Buffer
	_ = Write(&b, balance())
	f.Add(b.Bytes())
	f.Add([]byte{0, 0, 0, 2, 0x0a, 0x05})
	f.Add([]byte{0x7f, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		for {
			var m padisv1.Balance
			if err := Read(r, &m); err != nil {
				return
			}
		}
	})
}
