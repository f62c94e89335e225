package kernel

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// journal is the file that tells what was before while addresses move. Its lock tells that somebody is at it.
type journal struct{ file *os.File }

// journalEntry is what the file has: JSON. A file that cannot be read was not finished, and then nothing was begun.
type journalEntry struct {
	// Boot and Namespace are where the names of interfaces are meant.
	Boot      string
	Namespace uint64
	Moved     moved
}

var errBusy = errors.New("another executor moves the addresses of this interface at the moment; try again")

func (n *Network) journalPath(parent string) string {
	return filepath.Join(n.parts.State, "move-"+parent+".json")
}

func (n *Network) journals() ([]string, error) {
	entries, err := os.ReadDir(n.parts.State)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for addresses that were half moved: %w", err)
	}
	var out []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "move-") && strings.HasSuffix(e.Name(), ".json") {
			out = append(out, filepath.Join(n.parts.State, e.Name()))
		}
	}
	return out, nil
}

// begin makes what was before durable.
func (n *Network) begin(m moved) (*journal, error) {
	if n.parts.State == "" {
		return nil, nil
	}
	if err := os.MkdirAll(n.parts.State, 0o755); err != nil {
		return nil, fmt.Errorf("make room for the journal: %w", err)
	}
	j, old, err := n.lock(n.journalPath(m.Parent), os.O_CREATE)
	if err != nil {
		return nil, err
	}
	if old != nil {
		// Somebody died, and what was just read is half of it.
		err := n.back(old.Moved)
		if err == nil {
			err = j.end()
		}
		j.close()
		return nil, errors.Join(fmt.Errorf("the addresses of %s were half moved by an executor that died, and were put back; try again", m.Parent), err)
	}
	e := journalEntry{Boot: boot(), Namespace: n.namespace(), Moved: m}
	if err := j.write(e); err != nil {
		j.close()
		return nil, fmt.Errorf("write down the addresses of %s before they move: %w", m.Parent, err)
	}
	return j, nil
}

// resume opens what was left by somebody who died here; nil if it is over, or of somebody who is alive or elsewhere.
func (n *Network) resume(path string) (*journal, moved, error) {
	j, old, err := n.lock(path, 0)
	if errors.Is(err, errBusy) || errors.Is(err, os.ErrNotExist) {
		return nil, moved{}, nil
	}
	if err != nil {
		return nil, moved{}, err
	}
	if old == nil {
		j.close()
		return nil, moved{}, nil
	}
	return j, old.Moved, nil
}

// lock opens a journal. old is what it has of this host since it was booted; what is older is removed, or is overwritten
// with os.O_CREATE.
func (n *Network) lock(path string, create int) (*journal, *journalEntry, error) {
	f, err := os.OpenFile(path, os.O_RDWR|create, 0o600)
	if err != nil {
		return nil, nil, err
	}
	j := &journal{f}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		j.close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errBusy
		}
		return nil, nil, fmt.Errorf("lock %s: %w", path, err)
	}
	// The one who had the lock before may have removed the file.
	if now, err := os.Stat(path); err != nil || !sameFile(f, now) {
		j.close()
		return nil, nil, fmt.Errorf("lock %s: %w", path, errBusy)
	}
	var e journalEntry
	err = json.NewDecoder(f).Decode(&e)
	here := e.Boot == boot() && e.Namespace == n.namespace()
	switch {
	case err == nil && here && e.Moved.Parent != "":
		return j, &e, nil
	case create == 0 && (err != nil || e.Boot != boot()):
		return j, nil, j.end()
	}
	return j, nil, nil
}

func sameFile(f *os.File, info os.FileInfo) bool {
	mine, err := f.Stat()
	return err == nil && os.SameFile(mine, info)
}

func (j *journal) write(e journalEntry) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if err := j.file.Truncate(0); err != nil {
		return err
	}
	if _, err := j.file.WriteAt(b, 0); err != nil {
		return err
	}
	if err := j.file.Sync(); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(j.file.Name()))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// end tells that nothing is half done any more.
func (j *journal) end() error {
	if j == nil {
		return nil
	}
	return os.Remove(j.file.Name())
}

func (j *journal) close() {
	if j != nil {
		j.file.Close()
	}
}

// boot is another one after each start of the host.
func boot() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func (n *Network) namespace() uint64 {
	var s unix.Stat_t
	if unix.Fstat(n.home, &s) != nil {
		return 0
	}
	return s.Ino
}
