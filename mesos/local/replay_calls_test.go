package local

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing/synctest"
	"time"
)

// send makes one recorded call.
func (r *replay) send(l line) {
	host := r.address
	path := cmp.Or(l.Path, "/api/v1/scheduler")
	switch {
	case strings.HasPrefix(l.Conn, "exec"):
		path = "/api/v1/executor"
		host = r.agents[0]
		r.mu.Lock()
		if e := r.byName[l.Conn]; e != nil {
			host = r.agents[e.launcher.number]
		}
		r.mu.Unlock()
	case l.Conn == "opsstream", l.Conn == "ops" && l.Path == "":
		path = "/api/v1"
	case l.Path == "/api/v1/executor":
		host = r.agents[0]
	}
	method := cmp.Or(l.Method, http.MethodPost)
	var body []byte
	switch b := l.Body.(type) {
	case string:
		body = []byte(b)
	case nil:
	default:
		encoded, err := json.Marshal(r.translate(l.Conn, expand(b)))
		if err != nil {
			r.t.Fatal(err)
		}
		body = encoded
	}
	ctx, cancel := context.WithCancel(context.Background())
	request, err := http.NewRequestWithContext(ctx, method, "http://"+host+path, bytes.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if l.Conn == "raw1" {
		for k, v := range l.Headers {
			request.Header.Set(k, v)
		}
	} else {
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Accept", "application/json")
		if strings.HasPrefix(l.Conn, "sched") {
			r.streamHeader(l, request)
		}
	}
	key := fmt.Sprintf("%s %d", l.Conn, l.Req)
	if l.Req == 0 {
		r.mu.Lock()
		r.raw[l.Conn]++
		key = fmt.Sprintf("%s #%d", l.Conn, r.raw[l.Conn])
		r.mu.Unlock()
	}
	answer := line{T: r.now(), Conn: l.Conn, Kind: "http"}
	response, err := r.client.Do(request)
	if err != nil {
		cancel()
		r.store(key, answer)
		return
	}
	answer.Status = &response.StatusCode
	isStream := response.StatusCode == http.StatusOK && str(l.Body, "type") == "SUBSCRIBE"
	if !isStream {
		text, _ := io.ReadAll(response.Body)
		response.Body.Close()
		cancel()
		answer.Body = decodeAny(text)
		r.store(key, answer)
		return
	}
	if l.Conn == "raw1" {
		synctest.Wait()
		_ = readFrames(io.LimitReader(response.Body, 1<<20), func(frame []byte) {
			if answer.Body == nil {
				answer.Body = decodeAny(frame)
				cancel()
			}
		})
		response.Body.Close()
		cancel()
		r.store(key, answer)
		return
	}
	r.store(key, answer)
	r.open(l.Conn, response, cancel)
}

func (r *replay) now() float64 { return time.Since(r.begin).Seconds() }

func (r *replay) store(key string, l line) {
	r.mu.Lock()
	r.answers[key] = l
	r.mu.Unlock()
}

// streamHeader sets Mesos-Stream-Id: as recorded, or else that of the conn's own stream.
func (r *replay) streamHeader(l line, request *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id, explicit := l.Headers["Mesos-Stream-Id"]
	subscribe := str(l.Body, "type") == "SUBSCRIBE"
	switch {
	case subscribe && slices.Contains(r.scenario.withStreamID, l.Conn) && l.Req == 1:
		id = "any"
	case explicit:
	case subscribe, l.Headers != nil:
		return
	case r.streams[l.Conn] != nil:
		id = r.streams[l.Conn].id
	default:
		id = r.lastStream(l.Conn)
	}
	if id != "" {
		request.Header.Set("Mesos-Stream-Id", id)
	}
}

func (r *replay) lastStream(conn string) string {
	if s := r.streams["old "+conn]; s != nil {
		return s.id
	}
	return ""
}

// open reads a stream until it ends.
func (r *replay) open(conn string, response *http.Response, cancel context.CancelFunc) {
	s := &openStream{id: response.Header.Get("Mesos-Stream-Id"), cancel: cancel, done: make(chan struct{})}
	r.mu.Lock()
	if old := r.streams[conn]; old != nil && strings.HasPrefix(conn, "sched") {
		r.streams["replaced "+conn] = old
	}
	r.streams[conn] = s
	r.streams["old "+conn] = s
	r.mu.Unlock()
	go func() {
		defer close(s.done)
		defer response.Body.Close()
		_ = readFrames(response.Body, func(frame []byte) {
			r.mu.Lock()
			defer r.mu.Unlock()
			l := line{T: r.now(), Conn: conn, Kind: "event", Body: decodeAny(frame)}
			r.got[conn] = append(r.got[conn], l)
			if str(l.Body, "type") == "OFFERS" {
				r.mapOffers(l)
			}
		})
	}()
}

// mapOffers pairs the offers we get with the recorded ones, in order, so that recorded calls can be translated.
func (r *replay) mapOffers(l line) {
	n := r.seenOffers[l.Conn]
	r.seenOffers[l.Conn]++
	if n >= len(r.recorded[l.Conn]) {
		return
	}
	for _, recorded := range list(r.recorded[l.Conn][n].Body, "offers", "offers") {
		for _, o := range list(l.Body, "offers", "offers") {
			if str(o, "agent_id", "value") == str(recorded, "agent_id", "value") {
				r.offers[str(recorded, "id", "value")] = str(o, "id", "value")
			}
		}
	}
}

func decodeAny(b []byte) any {
	var v any
	if json.Unmarshal(b, &v) != nil {
		return string(b)
	}
	if s, ok := v.(string); ok {
		return s
	}
	return v
}

var truncated = regexp.MustCompile(`<truncated: (\d+) chars in all>$`)

// expand makes long strings long again that the recording has cut.
func expand(v any) any {
	switch x := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, item := range x {
			out[k] = expand(item)
		}
		return out
	case []any:
		out := make([]any, len(x))
		for i := range x {
			out[i] = expand(x[i])
		}
		return out
	case string:
		if m := truncated.FindStringSubmatch(x); m != nil {
			n, _ := strconv.Atoi(m[1])
			head := x[:len(x)-len(m[0])]
			return strings.Repeat(head[:4], n/4)
		}
	}
	return v
}

// translate replaces recorded ids that differ here: those of offers, and uuids that the agent made up.
func (r *replay) translate(conn string, v any) any {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a := get(v, "acknowledge"); a != nil {
		if u := r.ownUUID(conn, str(a, "task_id", "value"), str(a, "uuid")); u != "" {
			a.(map[string]any)["uuid"] = u
		}
	}
	for _, kind := range []string{"accept", "decline"} {
		for _, o := range list(v, kind, "offer_ids") {
			if ours := r.offers[str(o, "value")]; ours != "" {
				o.(map[string]any)["value"] = ours
			}
		}
	}
	return v
}

// ownUUID finds the uuid of our update that corresponds to a recorded one made by the agent.
func (r *replay) ownUUID(conn, task, recorded string) string {
	state := ""
	for _, l := range r.lines {
		s := get(l.Body, "update", "status")
		if l.Dir == "in" && l.Conn == conn && str(s, "uuid") == recorded && str(s, "source") == "SOURCE_AGENT" {
			state = str(s, "state")
		}
	}
	for _, l := range r.got[conn] {
		s := get(l.Body, "update", "status")
		if state != "" && str(s, "task_id", "value") == task && str(s, "state") == state && str(s, "source") == "SOURCE_AGENT" {
			return str(s, "uuid")
		}
	}
	return ""
}
