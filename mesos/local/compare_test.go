package local

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// difference is a deviation from a recording that is accepted, and why.
type difference struct {
	conn   string // prefix
	match  string // part of the normalised event or answer
	side   string // "recorded": we do not say it; "ours": Mesos did not say it; "time": not then; "": any of these
	reason string
}

// everywhere are the differences that every scenario may have.
var everywhere = []difference{}

// window is how far apart in the recording events may be that are compared without their order: Mesos walks hash
// tables, its actors run side by side, and the lines of different processes are merged by time stamps.
const window = 0.25

// late is how far an event may be from its recorded time, in seconds: the fork of a real executor, a tick of the
// allocator that is missed by a hair, the slower agents of the recording.
const late = 1.6

// compare holds what we got against the recording.
func (r *replay) compare() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.compareAnswers()
	conns := map[string]bool{}
	expected := map[string][]line{}
	for _, l := range r.lines {
		if l.Dir == "in" && l.Kind == "event" {
			expected[l.Conn] = append(expected[l.Conn], l)
			conns[l.Conn] = true
		}
	}
	for conn := range r.got {
		conns[conn] = true
	}
	for _, conn := range slices.Sorted(maps.Keys(conns)) {
		r.compareEvents(conn, r.reduce(expected[conn]), r.reduce(r.got[conn]))
	}
	r.checkOrder()
}

// event is a line in the form that is compared.
type event struct {
	t    float64
	text string
}

// reduce normalises events and drops what repeats: heartbeats, and repeated deliveries of one update.
func (r *replay) reduce(lines []line) []event {
	var out []event
	seen := map[string]bool{}
	for _, l := range lines {
		if str(l.Body, "type") == "HEARTBEAT" {
			continue
		}
		if u := str(l.Body, "update", "status", "uuid"); u != "" && !r.scenario.retries {
			if seen[u] {
				continue
			}
			seen[u] = true
		}
		b, err := json.Marshal(normalise(l.Body))
		if err != nil {
			r.t.Fatal(err)
		}
		out = append(out, event{l.T, string(b)})
	}
	return out
}

// normalise removes what cannot be equal: ids and times that are made up anew, and what Mesos 1.11 knows but the
// types of this implementation do not.
func normalise(v any) any {
	switch x := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, item := range x {
			switch k {
			case "timestamp", "unreachable_time", "capabilities", "executor_pid", "container_id":
				out[k] = "any"
				continue
			case "offer_id", "zork":
				continue
			case "id":
				if strings.Contains(str(item, "value"), "-O") {
					continue // an offer; they are paired in order
				}
			case "offers":
				slices.SortFunc(list(x, k), func(a, b any) int { return strings.Compare(str(a, "agent_id", "value"), str(b, "agent_id", "value")) })
			case "executor_ids":
				ids := list(x, k)
				slices.SortFunc(ids, func(a, b any) int { return strings.Compare(str(a, "value"), str(b, "value")) })
			case "uuid":
				if s := str(x, "source"); s == "SOURCE_AGENT" {
					out[k] = "any"
					continue
				}
			}
			out[k] = normalise(item)
		}
		return out
	case []any:
		out := make([]any, len(x))
		for i := range x {
			out[i] = normalise(x[i])
		}
		return out
	case string:
		x = madeUpIDs.ReplaceAllStringFunc(x, hideMadeUp)
		if i := strings.Index(x, "<truncated:"); i >= 0 {
			return x[:min(i, 60)] + "..."
		}
		if len(x) > 60 && strings.HasPrefix(x, "eXl5") {
			return x[:60] + "..."
		}
		return x
	}
	return v
}

// madeUpIDs are ids inside of texts: of offers and of containers. Agent and framework ids are the recorded ones.
var madeUpIDs = regexp.MustCompile(`\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(-O\d+|-S\d+|-\d{4})?\b`)

func hideMadeUp(id string) string {
	if keep := strings.LastIndex(id, "-"); len(id) > 36 && id[keep+1] != 'O' {
		return id
	}
	return "ID"
}

// compareEvents pairs the two lists. Events may change places within the window.
func (r *replay) compareEvents(conn string, want, got []event) {
	window, late := cmp.Or(r.scenario.window, window), cmp.Or(r.scenario.late, late)
	used := make([]bool, len(want))
	first := 0
	for _, g := range got {
		for first < len(want) && used[first] {
			first++
		}
		found := -1
		for i := first; i < len(want) && want[i].t-want[first].t <= window; i++ {
			if !used[i] && same(want[i].text, g.text) {
				found = i
				break
			}
		}
		if found < 0 {
			// What Mesos said in between may be something that we are allowed not to say.
			for i := first; i < len(want); i++ {
				if used[i] || r.allowed(conn, "recorded", want[i].text) {
					continue
				}
				if same(want[i].text, g.text) && want[i].t-want[first].t < 10 && r.allAllowed(conn, want[first:i], used[first:i]) {
					found = i
				}
				break
			}
		}
		if found < 0 {
			if !r.allowed(conn, "ours", g.text) {
				next := "nothing"
				if first < len(want) {
					next = fmt.Sprintf("%.3f %s", want[first].t, want[first].text)
				}
				r.t.Errorf("%s: at %.3f we say\n  %s\nMesos says\n  %s", conn, g.t, clip(g.text), clip(next))
			}
			continue
		}
		used[found] = true
		if math.Abs(want[found].t-g.t) > late && !r.allowed(conn, "time", g.text) {
			r.t.Errorf("%s: at %.3f instead of %.3f: %s", conn, g.t, want[found].t, clip(g.text))
		}
	}
	for i, w := range want {
		if !used[i] && !r.allowed(conn, "recorded", w.text) {
			r.t.Errorf("%s: Mesos says at %.3f, we do not:\n  %s", conn, w.t, clip(w.text))
		}
	}
}

func (r *replay) allAllowed(conn string, events []event, used []bool) bool {
	for i, e := range events {
		if !used[i] && !r.allowed(conn, "recorded", e.text) {
			return false
		}
	}
	return true
}

func clip(s string) string { return s[:min(len(s), 900)] }

// same compares normalised texts; a text that the recording has cut matches by its beginning.
func same(want, got string) bool {
	if want == got {
		return true
	}
	pieces := strings.Split(want, "...")
	for i, p := range pieces {
		at := strings.Index(got, p)
		if at < 0 || i == 0 && at != 0 {
			return false
		}
		got = got[at+len(p):]
	}
	return len(pieces) > 1
}

func (r *replay) allowed(conn, side, text string) bool {
	for _, d := range slices.Concat(everywhere, r.scenario.allowed) {
		if strings.HasPrefix(conn, d.conn) && strings.Contains(text, d.match) && (d.side == "" || d.side == side) {
			return true
		}
	}
	return false
}

// compareAnswers compares the HTTP answers to all calls.
func (r *replay) compareAnswers() {
	count := map[string]int{}
	for _, l := range r.lines {
		if l.Dir != "in" || l.Kind != "http" || l.Conn == "opsstream" || l.Path == "/metrics/snapshot" {
			continue
		}
		key := fmt.Sprintf("%s %d", l.Conn, l.Req)
		if l.Req == 0 {
			count[l.Conn]++
			key = fmt.Sprintf("%s #%d", l.Conn, count[l.Conn])
		}
		got, ok := r.answers[key]
		if !ok {
			r.t.Errorf("%.3f %s: no answer", l.T, key)
			continue
		}
		want, have := r.answerText(l), r.answerText(got)
		if !same(want, have) && !r.allowed(l.Conn, "", want) {
			r.t.Errorf("%.3f %s: answered\n  %s\nMesos answers\n  %s", l.T, key, clip(have), clip(want))
		}
	}
}

func (r *replay) answerText(l line) string {
	if l.Status == nil {
		return "no answer"
	}
	body := l.Body
	if s, ok := body.(string); ok {
		if _, frame, isFrame := strings.Cut(s, "\n"); isFrame && *l.Status == 200 {
			body = frame
			if !strings.Contains(frame, "<truncated") {
				body = decodeAny([]byte(frame))
			}
		}
		if l.Conn == "raw1" && strings.Contains(s, "<truncated") {
			body = nil
		}
	}
	if str(body, "type") == "SUBSCRIBED" || l.Status != nil && *l.Status == 200 && l.Conn != "ops" && str(body, "type") != "ERROR" {
		body = nil // the events are compared by themselves
	}
	if m, ok := body.(map[string]any); ok && l.Conn == "ops" {
		body = essence(m)
	}
	b, err := json.Marshal(normalise(body))
	if err != nil {
		r.t.Fatal(err)
	}
	text := string(b)
	if text == "null" {
		text = `""`
	}
	return fmt.Sprintf("%d %s", *l.Status, text)
}

// essence is what must be equal in the answer of the operator API: which agents, frameworks and tasks there are, and
// in which state.
func essence(body map[string]any) any {
	out := map[string]any{"type": body["type"]}
	for _, kind := range []string{"tasks", "unreachable_tasks", "completed_tasks"} {
		var tasks []string
		for _, t := range list(body, "get_tasks", kind) {
			tasks = append(tasks, str(t, "framework_id", "value")+" "+str(t, "task_id", "value")+" "+str(t, "state"))
		}
		slices.Sort(tasks)
		out[kind] = tasks
	}
	for _, kind := range []string{"frameworks", "completed_frameworks"} {
		var frameworks []string
		for _, f := range list(body, "get_frameworks", kind) {
			frameworks = append(frameworks, fmt.Sprint(str(f, "framework_info", "id", "value"), str(f, "framework_info", "name"), str(f, "framework_info", "user"),
				get(f, "framework_info", "failover_timeout"), get(f, "framework_info", "checkpoint"), get(f, "active"), get(f, "connected"), get(f, "recovered")))
		}
		out[kind] = frameworks
	}
	for _, a := range list(body, "get_agents", "agents") {
		out[str(a, "agent_info", "id", "value")] = fmt.Sprint(get(a, "active"), str(a, "agent_info", "hostname"), get(a, "agent_info", "port"))
	}
	return out
}

// checkOrder checks the orders that clients may rely on, and that the window would hide.
func (r *replay) checkOrder() {
	for conn, lines := range r.got {
		failedAt := map[string]int{}
		for i, l := range lines {
			if f := get(l.Body, "failure"); f != nil {
				failedAt[str(f, "executor_id", "value")] = i
			}
			s := get(l.Body, "update", "status")
			executor := str(s, "executor_id", "value")
			if str(s, "reason") == "REASON_EXECUTOR_TERMINATED" && str(s, "message") == "Executor terminated" {
				if _, ok := failedAt[executor]; !ok && !r.allowed(conn, "", "FAILURE before updates of "+executor) {
					r.t.Errorf("%s: the update of %s precedes the FAILURE of %s", conn, str(s, "task_id", "value"), executor)
				}
			}
			if str(s, "message") == "health check timed out" {
				for _, before := range lines[:i] {
					if l.T-before.T < 0.1 && (get(before.Body, "failure") != nil || get(before.Body, "rescind") != nil) {
						r.t.Errorf("%s: RESCIND or FAILURE precedes the update of %s", conn, str(s, "task_id", "value"))
					}
				}
			}
		}
	}
}

// A recording that is named here is covered or has a reason.
func TestEveryRecordingIsAccountedFor(t *testing.T) {
	for _, sc := range scenarios {
		for _, d := range sc.allowed {
			if d.reason == "" || d.match == "" {
				t.Errorf("%s: a difference without reason or match: %+v", sc.name, d)
			}
		}
	}
}
