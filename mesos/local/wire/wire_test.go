package wire

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gogo/protobuf/proto"
	mesos "github.com/mesos/mesos-go/api/v1/lib"
	agentpb "github.com/mesos/mesos-go/api/v1/lib/agent"
	executorpb "github.com/mesos/mesos-go/api/v1/lib/executor"
	masterpb "github.com/mesos/mesos-go/api/v1/lib/master"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
)

// The texts are those of Mesos; where a recording shows one, it is this one.
func TestDecodeJSONRefuses(t *testing.T) {
	for _, c := range []struct{ body, want string }{
		{`{oops`, "Failed to parse body into JSON: syntax error at line 1 near: oops"},
		{`[]`, "Failed to convert JSON into Call protobuf: Expecting a JSON object"},
		{`{"type":"SUBSCRIBE","subscribe":{"framework_info":{}}}`,
			"Failed to convert JSON into Call protobuf: Missing required fields: subscribe.framework_info.user, subscribe.framework_info.name"},
		{`{"message":{"agent_id":{"value":"a"},"executor_id":{"value":"e"},"data":"%%%"}}`,
			"Failed to convert JSON into Call protobuf: Failed to base64 decode bytes field 'data': Invalid character '%'"},
		{`{"decline":{"offer_ids":[],"filters":{"refuse_seconds":"abc"}}}`,
			"Failed to convert JSON into Call protobuf: Failed to parse 'abc' as a JSON number for field 'refuse_seconds': syntax error at line 1 near: abc"},
		{`{"decline":"x"}`, "Failed to convert JSON into Call protobuf: Not expecting a JSON string for field 'decline'"},
		{`{"decline":{}} trailing`, "Failed to parse body into JSON: syntax error at line 1 near: trailing"},
	} {
		err := DecodeJSON([]byte(c.body), &scheduler.Call{}, "Call")
		if err == nil || err.Error() != c.want {
			t.Errorf("%s:\n got %v\nwant %s", c.body, err, c.want)
		}
	}
}

func TestDecodeJSONForgives(t *testing.T) {
	var call scheduler.Call
	err := DecodeJSON([]byte(`{"type":"NOPE","zork":1,"framework_id":null,"decline":{"offer_ids":{"value":"o"},"filters":{"refuse_seconds":"2.5"}}}`), &call, "Call")
	if err != nil {
		t.Fatal(err)
	}
	if call.Type != scheduler.Call_UNKNOWN || call.Decline.OfferIDs[0].Value != "o" || call.Decline.Filters.GetRefuseSeconds() != 2.5 {
		t.Errorf("got %v", &call)
	}
}

func TestEncodeJSON(t *testing.T) {
	got := string(EncodeJSON(&scheduler.Event{Type: scheduler.Event_OFFERS, Offers: &scheduler.Event_Offers{Offers: []mesos.Offer{{
		Resources: []mesos.Resource{{Name: "cpus", Type: mesos.SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: 4}}},
	}}}}))
	want := `{"type":"OFFERS","offers":{"offers":[{"id":{"value":""},"framework_id":{"value":""},"agent_id":{"value":""},"hostname":"",` +
		`"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":4.0}}]}]}}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestAccepted(t *testing.T) {
	for _, c := range []struct{ accept, want string }{
		{"", JSON}, {"*/*", JSON}, {"application/x-protobuf", Protobuf}, {"application/json;q=0, application/x-protobuf", Protobuf}, {"text/html", ""},
	} {
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		if c.accept != "" {
			r.Header.Set("Accept", c.accept)
		}
		if got, _ := Accepted(r); got != c.want {
			t.Errorf("Accept %q: got %q", c.accept, got)
		}
	}
}

func messages() []proto.Message {
	return []proto.Message{&scheduler.Call{}, &scheduler.Event{}, &executorpb.Call{}, &executorpb.Event{}, &masterpb.Call{}, &masterpb.Response{}, &agentpb.Call{}, &agentpb.Response{}}
}

// Random JSON never crashes the decoder, and what it accepts is encoded into JSON that it accepts.
func FuzzDecodeJSON(f *testing.F) {
	f.Add(uint8(0), []byte(`{"type":"ACCEPT","accept":{"offer_ids":[{"value":"o"}],"operations":[{"type":"LAUNCH","launch":{"task_infos":[]}}]}}`))
	f.Add(uint8(2), []byte(`{"type":"UPDATE","update":{"status":{"task_id":{"value":"q"},"state":"TASK_RUNNING","uuid":"AAAA"}}}`))
	f.Add(uint8(4), []byte(`{"type":"DRAIN_AGENT","drain_agent":{"agent_id":{"value":"x"},"max_grace_period":{"seconds":3}}}`))
	f.Fuzz(func(t *testing.T, kind uint8, body []byte) {
		list := messages()
		m := list[int(kind)%len(list)]
		if DecodeJSON(body, m, "Call") != nil {
			return
		}
		again := EncodeJSON(m)
		if !json.Valid(again) {
			t.Fatalf("not JSON: %s", again)
		}
		if err := DecodeJSON(again, messages()[int(kind)%len(list)], "Call"); err != nil {
			t.Fatalf("%s -> %s: %v", body, again, err)
		}
	})
}

// Protobuf and JSON say the same.
func FuzzBothEncodings(f *testing.F) {
	call := &scheduler.Call{Type: scheduler.Call_KILL, Kill: &scheduler.Call_Kill{TaskID: mesos.TaskID{Value: "t"}, KillPolicy: &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: 5}}}}
	b, err := proto.Marshal(call)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint8(0), b)
	f.Fuzz(func(t *testing.T, kind uint8, body []byte) {
		list := messages()
		m, back := list[int(kind)%len(list)], messages()[int(kind)%len(list)]
		if proto.Unmarshal(body, m) != nil {
			return
		}
		encoded := EncodeJSON(m)
		if !json.Valid(encoded) {
			t.Fatalf("not JSON: %s", encoded)
		}
		if err := DecodeJSON(encoded, back, "Call"); err != nil && !strings.Contains(err.Error(), "Missing required") {
			t.Fatalf("%s: %v", encoded, err)
		}
	})
}

func FuzzReadFrame(f *testing.F) {
	var b bytes.Buffer
	if err := WriteFrame(&b, Frame{Kind: Update, Framework: "f", Bodies: [][]byte{[]byte("one"), nil, []byte("three")}}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, err := ReadFrame(bytes.NewReader(b))
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := WriteFrame(&out, frame); err != nil {
			t.Fatal(err)
		}
		again, err := ReadFrame(&out)
		if err != nil || len(again.Bodies) != len(frame.Bodies) || again.Kind != frame.Kind {
			t.Fatalf("%v -> %v (%v)", frame, again, err)
		}
	})
}

// Any body under any headers gets an answer that is a refusal or a call.
func FuzzReadCall(f *testing.F) {
	f.Add("POST", JSON, []byte(`{"type":"REVIVE"}`))
	f.Add("POST", Protobuf, []byte{0x10, 0x01})
	f.Add("GET", "text/plain", []byte{})
	f.Fuzz(func(t *testing.T, method, contentType string, body []byte) {
		r := &http.Request{Method: method, Header: http.Header{"Content-Type": {contentType}}, Body: http.NoBody}
		r.Body = readCloser{bytes.NewReader(body)}
		if refusal := ReadCall(httptest.NewRecorder(), r, &scheduler.Call{}); refusal != nil && (refusal.Code < 400 || refusal.Code > 499) {
			t.Fatalf("refused with %v", refusal)
		}
	})
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }
