package logs

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"time"
)

// The index of a file is text: lines of "MILLISECONDS OFFSET", the time since 1970 and the number of bytes of the whole
// stream, all files together, that were written before it. The first is about the beginning of the file; others follow
// at beginnings of lines, at most one per indexEvery.
const (
	indexSuffix = ".idx"
	indexEvery  = time.Second
	// indexMost bounds what is read of an index, indexFirst is enough for its first line.
	indexMost  = 16 << 20
	indexFirst = 64
)

// record says that what follows the offset was written at that time or later.
type record struct {
	time   time.Time
	offset int64
}

func (r record) encode() []byte {
	return fmt.Appendf(nil, "%d %d\n", r.time.UnixMilli(), r.offset)
}

// decode reads an index. What a full disk or a crash has left of a line is passed over, as is what contradicts the
// lines before it; clocks may be set back, offsets never go back.
func decode(b []byte) []record {
	var records []record
	for len(b) > 0 {
		line, rest, whole := bytes.Cut(b, []byte("\n"))
		b = rest
		if r, ok := decodeLine(line); whole && ok && (len(records) == 0 || r.offset >= records[len(records)-1].offset) {
			records = append(records, r)
		}
	}
	return records
}

func decodeLine(line []byte) (record, bool) {
	at, offset, ok := bytes.Cut(line, []byte(" "))
	if !ok {
		return record{}, false
	}
	ms, err := strconv.ParseUint(string(at), 10, 48)
	if err != nil {
		return record{}, false
	}
	n, err := strconv.ParseInt(string(offset), 10, 64)
	if err != nil || n < 0 {
		return record{}, false
	}
	return record{time.UnixMilli(int64(ms)), n}, true
}

// since finds the offset from which everything is that was written at t or later, and perhaps a second's worth more.
// Not found means that the beginning of the index is later than t.
func since(records []record, t time.Time) (offset int64, found bool) {
	// Where the clock was set back, times do not ascend: the first later one counts, lest something is left out.
	i := slices.IndexFunc(records, func(r record) bool { return r.time.After(t) })
	switch {
	case len(records) == 0 || i == 0:
		return 0, false
	case i < 0:
		i = len(records)
	}
	return records[i-1].offset, true
}

// readIndex reads the index beside a file, or as much as is asked for of its beginning.
func readIndex(path string, most int64) ([]record, error) {
	f, err := os.Open(path + indexSuffix)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most))
	return decode(b), err
}
