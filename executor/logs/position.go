package logs

import (
	"bytes"
	"fmt"
	"io"
)

// from makes the parts begin where the options say, and closes those that are not read at all.
func (o ReadOptions) from(parts []*part) ([]*part, error) {
	first := 0
	if !o.Since.IsZero() {
		for i := len(parts) - 1; i >= 0; i-- {
			if offset, found := since(parts[i].records, o.Since); found {
				first = i
				parts[i].at = min(max(offset-parts[i].base, 0), parts[i].until)
				break
			}
		}
	}
	closeAll(parts[:first])
	parts = parts[first:]
	if o.TailLines == nil {
		return parts, nil
	}
	return tail(parts, *o.TailLines)
}

// tail moves the beginning to that of the last lines.
func tail(parts []*part, lines int64) ([]*part, error) {
	if last := len(parts) - 1; lines <= 0 {
		parts[last].at = parts[last].until
		closeAll(parts[:last])
		return parts[last:], nil
	}
	left := lines + 1 // the newline before the first of them
	for i := len(parts) - 1; i >= 0; i-- {
		p := parts[i]
		if i == len(parts)-1 && !p.endsLine() {
			left-- // a last line without a newline is one
		}
		at, found, err := p.back(left)
		if err != nil {
			return nil, fmt.Errorf("find the last lines: %w", err)
		}
		left -= found
		if left == 0 {
			p.at = at
			closeAll(parts[:i])
			return parts[i:], nil
		}
	}
	return parts, nil
}

func (p *part) endsLine() bool {
	var last [1]byte
	if p.until == p.at {
		return true
	}
	_, err := p.ReadAt(last[:], p.until-1)
	return err == nil && last[0] == '\n'
}

// back counts newlines from the end to the beginning of what is to be read, up to a number of them, and tells where the
// last one that it counted ends.
func (p *part) back(newlines int64) (at, found int64, err error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for end := p.until; end > p.at; {
		begin := max(end-int64(len(*buf)), p.at)
		chunk := (*buf)[:end-begin]
		if _, err := p.ReadAt(chunk, begin); err != nil && err != io.EOF {
			return 0, 0, err
		}
		for i := bytes.LastIndexByte(chunk, '\n'); i >= 0; i = bytes.LastIndexByte(chunk[:i], '\n') {
			if found++; found == newlines {
				return begin + int64(i) + 1, found, nil
			}
		}
		end = begin
	}
	return p.at, found, nil
}
