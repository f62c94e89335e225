package local

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gogo/protobuf/proto"
	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"padis.io/padis/mesos/local/wire"
)

// patience is how long a test waits for something that must happen with real processes.
const patience = 20 * time.Second

// post sends one call and returns status and body.
func post(client *http.Client, url, media, streamID string, call proto.Message) (int, string, error) {
	body, err := wire.Encode(media, call)
	if err != nil {
		return 0, "", err
	}
	request, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	request.Header.Set("Content-Type", media)
	request.Header.Set("Accept", media)
	if streamID != "" {
		request.Header.Set("Mesos-Stream-Id", streamID)
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), err
}

// readFrames calls f with each RecordIO frame until the stream ends.
func readFrames(r io.Reader, f func([]byte)) error {
	reader := bufio.NewReader(r)
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			return err
		}
		frame := make([]byte, n)
		if _, err := io.ReadFull(reader, frame); err != nil {
			return err
		}
		f(frame)
	}
}

// decodeEvent reads an event in either media type.
func decodeEvent(media string, frame []byte, event proto.Message) error {
	if media == wire.Protobuf {
		return proto.Unmarshal(frame, event)
	}
	return wire.DecodeJSON(frame, event, "Event")
}

// testScheduler is a scheduler that acknowledges what it gets and lets a test wait for events.
type testScheduler struct {
	t         testing.TB
	url       string
	media     string
	client    *http.Client
	info      mesos.FrameworkInfo
	id        string
	streamID  string
	cancel    context.CancelFunc
	keep      bool // does not acknowledge
	mu        sync.Mutex
	changed   chan struct{}
	events    []*scheduler.Event
	taken     map[int]bool // events that a test has waited for
	connected bool
}

func frameworkInfo() mesos.FrameworkInfo {
	return mesos.FrameworkInfo{
		User: "root", Name: "test", Roles: []string{"*"}, FailoverTimeout: new(60.0), Checkpoint: new(true),
		Capabilities: []mesos.FrameworkInfo_Capability{{Type: mesos.FrameworkInfo_Capability_MULTI_ROLE}, {Type: mesos.FrameworkInfo_Capability_PARTITION_AWARE}},
	}
}

func newScheduler(t testing.TB, url, media string) *testScheduler {
	s := &testScheduler{t: t, url: url + "/api/v1/scheduler", media: media, client: &http.Client{}, info: frameworkInfo(), changed: make(chan struct{}), taken: map[int]bool{}}
	t.Cleanup(s.disconnect)
	return s
}

// subscribe connects; it retries for a moment, as the master may just be starting.
func (s *testScheduler) subscribe() {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := s.trySubscribe()
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			s.t.Fatal(err)
		}
		<-time.After(10 * time.Millisecond)
	}
	s.wait("SUBSCRIBED", func(e *scheduler.Event) bool { return e.Type == scheduler.Event_SUBSCRIBED })
}

func (s *testScheduler) trySubscribe() error {
	s.disconnect()
	call := &scheduler.Call{Type: scheduler.Call_SUBSCRIBE, Subscribe: &scheduler.Call_Subscribe{FrameworkInfo: &s.info}}
	if s.id != "" {
		s.info.ID = &mesos.FrameworkID{Value: s.id}
		call.FrameworkID = s.info.ID
	}
	body, err := wire.Encode(s.media, call)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		cancel()
		return err
	}
	request.Header.Set("Content-Type", s.media)
	request.Header.Set("Accept", s.media)
	response, err := s.client.Do(request)
	if err != nil {
		cancel()
		return err
	}
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(response.Body)
		response.Body.Close()
		cancel()
		return fmt.Errorf("SUBSCRIBE: %s: %s", response.Status, text)
	}
	s.mu.Lock()
	s.streamID, s.cancel, s.connected = response.Header.Get("Mesos-Stream-Id"), cancel, true
	s.mu.Unlock()
	go func() {
		defer response.Body.Close()
		_ = readFrames(response.Body, s.take)
		s.mu.Lock()
		s.connected = false
		s.signal()
		s.mu.Unlock()
	}()
	return nil
}

func (s *testScheduler) signal() { close(s.changed); s.changed = make(chan struct{}) }

func (s *testScheduler) take(frame []byte) {
	var e scheduler.Event
	if err := decodeEvent(s.media, frame, &e); err != nil {
		s.t.Errorf("event: %v", err)
		return
	}
	s.mu.Lock()
	if e.Type == scheduler.Event_SUBSCRIBED {
		s.id = e.Subscribed.FrameworkID.Value
	}
	s.events = append(s.events, &e)
	s.signal()
	s.mu.Unlock()
	if u := e.GetUpdate(); u != nil && len(u.Status.UUID) > 0 && !s.keep {
		go s.tryCall(&scheduler.Call{Type: scheduler.Call_ACKNOWLEDGE, Acknowledge: &scheduler.Call_Acknowledge{
			AgentID: *u.Status.AgentID, TaskID: u.Status.TaskID, UUID: u.Status.UUID,
		}})
	}
}

func (s *testScheduler) disconnect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancel != nil {
		s.cancel()
		s.cancel = nil
	}
}

// wait returns the first event, not waited for before, that matches.
func (s *testScheduler) wait(what string, match func(*scheduler.Event) bool) *scheduler.Event {
	s.t.Helper()
	timeout := time.After(patience)
	for {
		s.mu.Lock()
		for i, e := range s.events {
			if !s.taken[i] && match(e) {
				s.taken[i] = true
				s.mu.Unlock()
				return e
			}
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-timeout:
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, e := range s.events {
				s.t.Logf("had %s", wire.EncodeJSON(e))
			}
			s.t.Fatalf("no %s within %v", what, patience)
		}
	}
}

func (s *testScheduler) status(task string, state mesos.TaskState) mesos.TaskStatus {
	s.t.Helper()
	e := s.wait(task+" "+state.String(), func(e *scheduler.Event) bool {
		u := e.GetUpdate()
		return u != nil && u.Status.TaskID.Value == task && u.Status.GetState() == state
	})
	return e.Update.Status
}

func (s *testScheduler) offers() []mesos.Offer {
	s.t.Helper()
	return s.wait("OFFERS", func(e *scheduler.Event) bool { return e.Type == scheduler.Event_OFFERS }).Offers.Offers
}

// usableOffer waits for an offer that has been neither rescinded nor taken by a test before.
func (s *testScheduler) usableOffer() mesos.Offer {
	s.t.Helper()
	timeout := time.After(patience)
	for {
		s.mu.Lock()
		void := map[string]bool{}
		for _, e := range s.events {
			void[e.GetRescind().GetOfferID().Value] = true
		}
		for i, e := range s.events {
			for _, o := range e.GetOffers().GetOffers() {
				if !s.taken[i] && !void[o.ID.Value] {
					s.taken[i] = true
					s.mu.Unlock()
					return o
				}
			}
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-timeout:
			s.t.Fatal("no usable offer")
		}
	}
}

// tryCall sends a call and ignores what becomes of it.
func (s *testScheduler) tryCall(call *scheduler.Call) (int, string, error) {
	s.mu.Lock()
	id := s.streamID
	call.FrameworkID = &mesos.FrameworkID{Value: s.id}
	s.mu.Unlock()
	return post(s.client, s.url, s.media, id, call)
}

// call sends a call that must be answered 202.
func (s *testScheduler) call(call *scheduler.Call) {
	s.t.Helper()
	status, text, err := s.tryCall(call)
	if err != nil || status != http.StatusAccepted {
		s.t.Fatalf("%s: %d %s %v", call.Type, status, text, err)
	}
}

// launch accepts an offer for tasks.
func (s *testScheduler) launch(offer mesos.Offer, tasks ...mesos.TaskInfo) {
	s.t.Helper()
	for i := range tasks {
		tasks[i].AgentID = offer.AgentID
	}
	s.call(&scheduler.Call{Type: scheduler.Call_ACCEPT, Accept: &scheduler.Call_Accept{
		OfferIDs: []mesos.OfferID{offer.ID}, Filters: &mesos.Filters{RefuseSeconds: new(0.0)},
		Operations: []mesos.Offer_Operation{{Type: mesos.Offer_Operation_LAUNCH, Launch: &mesos.Offer_Operation_Launch{TaskInfos: tasks}}},
	}})
}

func scalar(name string, v float64) mesos.Resource {
	return mesos.Resource{Name: name, Type: mesos.SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: v}}
}

// newTask is a small task on an executor with the command line of the test executor.
func newTask(id string, executor mesos.ExecutorInfo) mesos.TaskInfo {
	return mesos.TaskInfo{Name: id, TaskID: mesos.TaskID{Value: id}, Executor: &executor, Resources: []mesos.Resource{scalar("cpus", 0.05), scalar("mem", 16)}}
}

// kill asks for the end of a task.
func (s *testScheduler) kill(id string) {
	s.t.Helper()
	s.call(&scheduler.Call{Type: scheduler.Call_KILL, Kill: &scheduler.Call_Kill{TaskID: mesos.TaskID{Value: id}}})
}
