package supervise

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// MaxLogBytes is the size at which TrimLog moves a log file aside.
const MaxLogBytes = 32 << 20

// OpenLog opens the log file of a service for appending.
func OpenLog(dir, service string) (*os.File, error) {
	f, err := os.OpenFile(logPath(dir, service), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("log of %s: %w", service, err)
	}
	return f, nil
}

// TrimLog copies a log file that has grown beyond limit bytes to NAME.log.1 and empties it. The writers keep their
// descriptors: they append, so they go on at the beginning. What is written between the two steps is lost.
func TrimLog(dir, service string, limit int64) error {
	name := logPath(dir, service)
	info, err := os.Stat(name)
	if errors.Is(err, os.ErrNotExist) || (err == nil && info.Size() <= limit) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("log of %s: %w", service, err)
	}
	if err := copyFile(name, name+".1"); err != nil {
		return fmt.Errorf("log of %s: %w", service, err)
	}
	if err := os.Truncate(name, 0); err != nil {
		return fmt.Errorf("log of %s: %w", service, err)
	}
	return nil
}

func logPath(dir, service string) string { return filepath.Join(dir, service+".log") }

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return errors.Join(err, out.Close())
	}
	return out.Close()
}
