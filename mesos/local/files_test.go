package local

import (
	"bytes"
	"context"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	agentpb "github.com/mesos/mesos-go/api/v1/lib/agent"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"padis.io/padis/mesos/local/agent"
	"padis.io/padis/mesos/local/master"
	"padis.io/padis/mesos/local/wire"
)

// ask sends an operator's call to an agent.
func ask(t *testing.T, agentURL string, call *agentpb.Call) (int, *agentpb.Response) {
	t.Helper()
	status, text, err := post(&http.Client{}, agentURL+"/slave(1)/api/v1", wire.Protobuf, "", call)
	if err != nil {
		t.Fatal(err)
	}
	var response agentpb.Response
	if status == http.StatusOK {
		if err := response.Unmarshal([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	return status, &response
}

// The environment of an executor is that of the recordings, and its sandbox can be read through the agent.
func TestSandbox(t *testing.T) {
	t.Parallel()
	c := start(t, 1)
	s := newScheduler(t, c.MasterURL(), wire.JSON)
	s.subscribe()
	s.launch(s.offers()[0], newTask("one", executorInfo("e", "env")))
	st := s.status("one", mesos.TASK_RUNNING)
	container := st.ContainerStatus.ContainerID.Value
	virtual := "/frameworks/" + s.id + "/executors/e/runs/latest"
	real := filepath.Join(c.WorkDir(0), "slaves", st.AgentID.Value, "frameworks", s.id, "executors", "e", "runs", container)
	read := func(path string, offset uint64, length *uint64) (int, *agentpb.Response_ReadFile) {
		status, r := ask(t, c.AgentURL(0), &agentpb.Call{Type: agentpb.Call_READ_FILE, ReadFile: &agentpb.Call_ReadFile{Path: path, Offset: offset, Length: length}})
		return status, r.ReadFile
	}
	_, out := read(virtual+"/stdout", 0, nil)
	for _, path := range []string{real + "/stdout", "/frameworks/" + s.id + "/executors/e/runs/" + container + "/stdout"} {
		if _, again := read(path, 0, nil); again == nil || !bytes.Equal(again.Data, out.Data) || len(out.Data) == 0 {
			t.Errorf("%s differs from the file by its virtual path", path)
		}
	}
	var names []string
	for _, l := range strings.Split(string(out.Data), "\n") {
		if v, ok := strings.CutPrefix(l, "env "); ok {
			name, value, _ := strings.Cut(v, "=")
			names = append(names, name)
			switch name {
			case "MESOS_DIRECTORY", "MESOS_SANDBOX":
				if value != real {
					t.Errorf("%s is %s, not %s", name, value, real)
				}
			case "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD":
				if value != "5secs" {
					t.Errorf("%s is %s", name, value)
				}
			}
		}
	}
	slices.Sort(names)
	if want := recordedEnvironment(t); !slices.Equal(names, want) {
		t.Errorf("the environment has\n%v\nthat of Mesos\n%v", names, want)
	}
	if _, part := read(virtual+"/stdout", 3, new(uint64(4))); string(part.Data) != string(out.Data[3:7]) || part.Size_ != out.Size_ {
		t.Errorf("part of the file: %q of %d", part.Data, part.Size_)
	}
	if _, past := read(virtual+"/stdout", 1<<40, nil); len(past.Data) != 0 || past.Size_ != out.Size_ {
		t.Errorf("past the end: %q of %d", past.Data, past.Size_)
	}
	if err := os.WriteFile(filepath.Join(real, "big"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, big := read(virtual+"/big", 0, nil); len(big.Data) != 16*4096 || big.Size_ != 1<<20 {
		t.Errorf("%d bytes of %d in one answer", len(big.Data), big.Size_)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(real, "link")); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"/etc/passwd", virtual + "/../../../../../../../../etc/passwd", virtual + "/none", virtual + "/link", "", "/", virtual + "/../..", real + "/../../../../../../../../meta/journal"} {
		if status, r := read(bad, 0, nil); status < 400 || status > 499 {
			t.Errorf("%q: %d %v", bad, status, r)
		}
	}
	status, listed := ask(t, c.AgentURL(0), &agentpb.Call{Type: agentpb.Call_LIST_FILES, ListFiles: &agentpb.Call_ListFiles{Path: virtual}})
	var files []string
	for _, f := range listed.GetListFiles().GetFileInfos() {
		files = append(files, filepath.Base(f.Path))
	}
	if slices.Sort(files); status != 200 || !slices.Equal(files, []string{"big", "link", "stderr", "stdout"}) {
		t.Errorf("%d %v", status, files)
	}
	response, err := http.Get(c.AgentURL(0) + "/files/read?offset=0&length=8&path=" + url.QueryEscape(virtual+"/stdout"))
	if err != nil || response.StatusCode != 200 {
		t.Fatal(err, response)
	}
	response.Body.Close()
}

// recordedEnvironment is what a checkpointing executor of Mesos found in its environment, without what its shell and
// its language added, and with what this test's executors need.
func recordedEnvironment(t *testing.T) []string {
	t.Helper()
	for _, l := range loadRecording(t, "08-agent-restart") {
		if str(l.Body, "what") == "executor process started" {
			out := []string{"LOCAL_TEST_ROLE", "OPTIONS", "PATH", "PWD"}
			env, _ := get(l.Body, "env").(map[string]any)
			for name := range env {
				out = append(out, name)
			}
			slices.Sort(out)
			return out
		}
	}
	t.Fatal("the recording shows no environment")
	return nil
}

// An executor that never subscribes is killed; a file that cannot be fetched is a failed launch.
func TestExecutorsThatDoNotStart(t *testing.T) {
	t.Parallel()
	c, err := Start(Config{Dir: t.TempDir(), Agents: []agent.Config{{ExecutorRegistrationTimeout: 200 * time.Millisecond}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Shutdown)
	s := newScheduler(t, c.MasterURL(), wire.JSON)
	s.subscribe()
	unfetchable := executorInfo("u")
	unfetchable.Command.URIs = []mesos.CommandInfo_URI{{Value: "file:///no/such/file"}}
	missing := executorInfo("m")
	missing.Command.Value = new("exec /no/such/binary")
	s.launch(s.offers()[0], newTask("silent", executorInfo("s", "silent")), newTask("unfetchable", unfetchable), newTask("missing", missing))
	for task, want := range map[string]struct {
		reason mesos.TaskStatus_Reason
		status int32
	}{
		"silent": {mesos.REASON_EXECUTOR_REGISTRATION_TIMEOUT, 9}, "unfetchable": {mesos.REASON_CONTAINER_LAUNCH_FAILED, 256},
		"missing": {mesos.REASON_EXECUTOR_TERMINATED, 127 << 8},
	} {
		if st := s.status(task, mesos.TASK_FAILED); st.GetReason() != want.reason {
			t.Errorf("%s: %v", task, st)
		}
		s.wait("FAILURE of "+task[:1], func(e *scheduler.Event) bool {
			return e.GetFailure().GetExecutorID() != nil && e.Failure.ExecutorID.Value == task[:1] && e.Failure.GetStatus() == want.status
		})
	}
}

// Random bodies into every endpoint get an answer, and the servers stay up.
func FuzzEndpoints(f *testing.F) {
	c, err := Start(Config{Dir: f.TempDir(), Agents: make([]agent.Config, 1), Master: master.Config{AllocationInterval: time.Hour}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(c.Stop)
	paths := []string{"/api/v1/scheduler", "/api/v1", "/api/v1/executor", wire.LinkPath, "/files/read", "/redirect", "/metrics/snapshot"}
	f.Add(uint8(0), "POST", wire.JSON, []byte(`{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"u","name":"n","failover_timeout":1}}}`))
	f.Add(uint8(0), "POST", wire.JSON, []byte(`{"type":"ACCEPT","framework_id":{"value":"f"},"accept":{}}`))
	f.Add(uint8(1), "POST", wire.JSON, []byte(`{"type":"GET_STATE"}`))
	f.Add(uint8(1), "POST", wire.JSON, []byte(`{"type":"READ_FILE","read_file":{"path":"/frameworks/a/executors/b/runs/latest/c","offset":0}}`))
	f.Add(uint8(2), "POST", wire.JSON, []byte(`{"type":"SUBSCRIBE","framework_id":{"value":"a"},"executor_id":{"value":"b"},"subscribe":{}}`))
	f.Fuzz(func(t *testing.T, path uint8, method, contentType string, body []byte) {
		for _, server := range []string{c.MasterURL(), c.AgentURL(0)} {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
			request, err := http.NewRequestWithContext(ctx, method, server+paths[int(path)%len(paths)], bytes.NewReader(body))
			if err != nil || strings.ContainsFunc(contentType, func(r rune) bool { return r < ' ' || r > '~' }) {
				cancel()
				return
			}
			request.Header.Set("Content-Type", contentType)
			response, err := http.DefaultClient.Do(request)
			if err == nil {
				if response.StatusCode == http.StatusInternalServerError {
					t.Errorf("%s %s: %s", method, request.URL, response.Status)
				}
				response.Body.Close()
			}
			cancel()
		}
		for _, server := range []string{c.MasterURL(), c.AgentURL(0)} {
			response, err := http.Get(server + "/health")
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
		}
	})
}
