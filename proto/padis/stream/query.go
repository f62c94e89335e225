package stream

import (
	"fmt"
	"net/url"
	"strconv"
	"time"
)

// Query is the wire form of a LogRequest.
func (r LogRequest) Query() url.Values {
	q := url.Values{"stream": {r.Stream}}
	if r.Follow {
		q.Set("follow", "true")
	}
	if r.TailLines >= 0 {
		q.Set("tailLines", strconv.FormatInt(r.TailLines, 10))
	}
	if r.LimitBytes >= 0 {
		q.Set("limitBytes", strconv.FormatInt(r.LimitBytes, 10))
	}
	if r.SinceMS > 0 {
		q.Set("sinceTime", time.UnixMilli(r.SinceMS).UTC().Format(time.RFC3339Nano))
	}
	return q
}

// ParseLogRequest reads a query. What it does not know it refuses.
func ParseLogRequest(q url.Values) (LogRequest, error) {
	r := LogRequest{Stream: "stdout", TailLines: -1, LimitBytes: -1}
	for key, values := range q {
		value := values[len(values)-1]
		var err error
		switch key {
		case "stream":
			if value != "stdout" && value != "stderr" && value != "all" {
				err = fmt.Errorf("use stdout, stderr or all")
			}
			r.Stream = value
		case "follow":
			r.Follow, err = strconv.ParseBool(value)
		case "tailLines":
			r.TailLines, err = count(value)
		case "limitBytes":
			r.LimitBytes, err = count(value)
		case "sinceTime":
			var t time.Time
			if t, err = time.Parse(time.RFC3339Nano, value); err == nil {
				r.SinceMS = max(t.UnixMilli(), 0)
			}
		default:
			err = fmt.Errorf("unknown parameter: use stream, follow, tailLines, limitBytes and sinceTime")
		}
		if err != nil {
			return LogRequest{}, fmt.Errorf("%s=%q: %w", key, value, err)
		}
	}
	return r, nil
}

func count(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("use a whole number, 0 or more")
	}
	return n, nil
}
