package agent

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	agentpb "github.com/mesos/mesos-go/api/v1/lib/agent"

	"padis.io/padis/mesos/local/wire"
)

// maxRead is the most that one READ_FILE returns: 16 pages, as in Mesos.
const maxRead = 16 * 4096

// resolve turns the path of a call into one inside the work directory: either the virtual path
// /frameworks/FID/executors/EID/runs/RUN/..., or the real one of a sandbox. The result is relative to the work
// directory, which is opened as a root, so that no symlink leads out.
func (a *Agent) resolve(path string) (string, bool) {
	clean := filepath.Clean("/" + path)
	sandboxes := filepath.Join(a.cfg.WorkDir, "slaves") + "/"
	if strings.HasPrefix(clean, sandboxes) {
		path = strings.TrimPrefix(clean, a.cfg.WorkDir+"/")
	} else {
		parts := strings.Split(strings.TrimPrefix(clean, "/"), "/")
		if len(parts) < 6 || parts[0] != "frameworks" || parts[2] != "executors" || parts[4] != "runs" {
			return "", false
		}
		id := ""
		a.do(func(c *core) { id = c.id })
		path = filepath.Join(append([]string{"slaves", id}, parts...)...)
	}
	// "latest" is an absolute symlink, which a root does not follow: resolve it here.
	parts := strings.Split(path, "/")
	for i, part := range parts {
		if part == "latest" && i == 7 {
			target, err := os.Readlink(filepath.Join(a.cfg.WorkDir, filepath.Join(parts[:i+1]...)))
			if err != nil {
				return "", false
			}
			parts[i] = filepath.Base(target)
		}
	}
	return filepath.Join(parts...), true
}

func (a *Agent) open(path string) (*os.File, *wire.Refusal) {
	relative, ok := a.resolve(path)
	if !ok {
		return nil, wire.Refuse(http.StatusNotFound, "Failed to find file '%s'", path)
	}
	root, err := os.OpenRoot(a.cfg.WorkDir)
	if err != nil {
		return nil, wire.Refuse(http.StatusInternalServerError, "%v", err)
	}
	defer root.Close()
	// A fifo in a sandbox must not hold the request up.
	f, err := root.OpenFile(relative, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, wire.Refuse(http.StatusNotFound, "Failed to find file '%s'", path)
		}
		return nil, wire.Refuse(http.StatusForbidden, "Failed to open file '%s'", path)
	}
	return f, nil
}

// read returns the size of a file and up to length bytes from an offset. An offset at or past the end gives no data.
func (a *Agent) read(path string, offset uint64, length *uint64) (uint64, []byte, *wire.Refusal) {
	f, refusal := a.open(path)
	if refusal != nil {
		return 0, nil, refusal
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, nil, wire.Refuse(http.StatusInternalServerError, "%v", err)
	}
	if !info.Mode().IsRegular() {
		return 0, nil, wire.Refuse(http.StatusBadRequest, "'%s' is not a regular file", path)
	}
	size := uint64(info.Size())
	if offset >= size {
		return size, []byte{}, nil
	}
	n := min(size-offset, maxRead)
	if length != nil {
		n = min(n, *length)
	}
	data := make([]byte, n)
	got, err := f.ReadAt(data, int64(offset))
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, nil, wire.Refuse(http.StatusInternalServerError, "%v", err)
	}
	return size, data[:got], nil
}

func (a *Agent) readFile(call *agentpb.Call_ReadFile) (*agentpb.Response, *wire.Refusal) {
	if call == nil {
		return nil, wire.Refuse(http.StatusBadRequest, "Failed to validate agent::Call: Expecting 'read_file' to be present")
	}
	size, data, refusal := a.read(call.Path, call.Offset, call.Length)
	if refusal != nil {
		return nil, refusal
	}
	return &agentpb.Response{Type: agentpb.Response_READ_FILE, ReadFile: &agentpb.Response_ReadFile{Size_: size, Data: data}}, nil
}

func (a *Agent) listFiles(call *agentpb.Call_ListFiles) (*agentpb.Response, *wire.Refusal) {
	if call == nil {
		return nil, wire.Refuse(http.StatusBadRequest, "Failed to validate agent::Call: Expecting 'list_files' to be present")
	}
	f, refusal := a.open(call.Path)
	if refusal != nil {
		return nil, refusal
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil {
		return nil, wire.Refuse(http.StatusNotFound, "Failed to list files in '%s'", call.Path)
	}
	out := &agentpb.Response_ListFiles{FileInfos: []mesos.FileInfo{}}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			continue // it has gone meanwhile
		}
		out.FileInfos = append(out.FileInfos, mesos.FileInfo{
			Path: filepath.Join(call.Path, entry.Name()), Size_: new(uint64(info.Size())), Mode: new(uint32(info.Mode().Perm())),
			Mtime: &mesos.TimeInfo{Nanoseconds: info.ModTime().UnixNano()},
		})
	}
	return &agentpb.Response{Type: agentpb.Response_LIST_FILES, ListFiles: out}, nil
}

// filesRead is the older form of READ_FILE: GET /files/read?path=...&offset=...&length=...
func (a *Agent) filesRead(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	path := query.Get("path")
	if path == "" {
		wire.Refuse(http.StatusBadRequest, "Expecting 'path=value' in query.").Write(w)
		return
	}
	offset, err := strconv.ParseInt(or(query.Get("offset"), "-1"), 10, 64)
	length, err2 := strconv.ParseInt(or(query.Get("length"), "-1"), 10, 64)
	if err != nil || err2 != nil || offset < -1 || length < -1 {
		wire.Refuse(http.StatusBadRequest, "Failed to parse offset or length").Write(w)
		return
	}
	var limit *uint64
	if length >= 0 {
		limit = new(uint64(length))
	}
	size, data, refusal := a.read(path, uint64(max(offset, 0)), limit)
	if refusal != nil {
		refusal.Write(w)
		return
	}
	answer := map[string]any{"data": string(data), "offset": offset}
	if offset < 0 {
		answer = map[string]any{"data": "", "offset": size}
	}
	w.Header().Set("Content-Type", wire.JSON)
	_ = json.NewEncoder(w).Encode(answer)
}

func or(s, def string) string {
	if s == "" {
		return def
	}
	return s
}
