package hostfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/runtime"
	padisv1 "padis.io/padis/proto/padis/v1"
)

func configMap(data map[string]string) []*padisv1.ConfigData {
	c := &padisv1.ConfigData{Name: "configmap/web", Data: map[string][]byte{}}
	for k, v := range data {
		c.Data[k] = []byte(v)
	}
	return []*padisv1.ConfigData{c}
}

// following is an instance whose files follow a ConfigMap.
func following(user string, data map[string]string, items ...*padisv1.ConfigItem) *padisv1.Launch {
	l := launch(user, &padisv1.Volume{Name: "conf", MountPath: "/conf", Source: &padisv1.Volume_Config{Config: &padisv1.ConfigFiles{
		Config: "configmap/web", OnChange: padisv1.ConfigFiles_ON_CHANGE_SIGNAL, Signal: "SIGUSR1", Items: items,
	}}})
	l.Configs = configMap(data)
	return l
}

func secret(key string) *padisv1.Launch {
	l := launch("", &padisv1.Volume{Name: "secret", MountPath: "/secret", Source: &padisv1.Volume_Config{Config: &padisv1.ConfigFiles{
		Config: "secret/tls", OnChange: padisv1.ConfigFiles_ON_CHANGE_SIGNAL, Signal: "SIGHUP",
	}}})
	l.Configs = []*padisv1.ConfigData{{Name: "secret/tls", Data: map[string][]byte{"key": []byte(key)}}}
	return l
}

// listing is what a program sees in a directory, as text.
func listing(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), version) || e.Name() == present {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if errors.Is(err, unix.EISDIR) {
			out = append(out, e.Name()+"/{"+listing(t, filepath.Join(dir, e.Name()))+"}")
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e.Name()+"="+string(b))
	}
	return strings.Join(out, " ")
}

func (w *world) update(l *padisv1.Launch, configs []*padisv1.ConfigData) []string {
	w.t.Helper()
	signals, err := w.host().Update(w.dir, l, configs)
	if err != nil {
		w.t.Fatal(err)
	}
	return signals
}

func TestConfigFollows(t *testing.T) {
	user, owner := one()
	w := newWorld(t)
	l := following(user, map[string]string{"a": "1", "b": "2"})
	m := w.prepare(l)[0]
	if got := listing(t, m.Source); got != "a=1 b=2" || mode(t, filepath.Join(m.Source, "a")) != "444 "+owner || !slices.Contains(m.Options, "ro") {
		t.Errorf("%s, %s, %v", got, mode(t, filepath.Join(m.Source, "a")), m.Options)
	}
	if signals := w.update(l, l.GetConfigs()); len(signals) > 0 {
		t.Errorf("nothing changed: %v", signals)
	}
	if signals := w.update(l, configMap(map[string]string{"b": "3", "c": "4"})); !slices.Equal(signals, []string{"SIGUSR1"}) {
		t.Errorf("signals %v", signals)
	}
	if got := listing(t, m.Source); got != "b=3 c=4" {
		t.Errorf("got %s", got)
	}
	if versions, _ := filepath.Glob(filepath.Join(m.Source, version+"*")); len(versions) != 1 {
		t.Errorf("versions %v", versions)
	}
	// Level-triggered: the same again is no news.
	if signals := w.update(l, configMap(map[string]string{"b": "3", "c": "4"})); len(signals) > 0 {
		t.Errorf("signals %v", signals)
	}
	if left := w.mounted(); len(left) > 0 {
		t.Errorf("a ConfigMap is mounted: %v", left)
	}
}

func TestItemsAndModes(t *testing.T) {
	w := newWorld(t)
	l := following("", map[string]string{"a": "1", "b": "2", "c": "3"}, &padisv1.ConfigItem{Key: "a", Path: "etc/x/a"}, &padisv1.ConfigItem{Key: "b", Path: "etc/b"})
	l.Template.Volumes[0].GetConfig().Mode = 0o640
	source := w.prepare(l)[0].Source
	if got := listing(t, source); got != "etc/{b=2 x/{a=1}}" || mode(t, filepath.Join(source, "etc/x/a")) != "640 0:0" {
		t.Errorf("%s, %s", got, mode(t, filepath.Join(source, "etc/x/a")))
	}
	// A key that is gone is said, and the files stay as they are.
	_, err := w.host().Update(w.dir, l, configMap(map[string]string{"a": "new"}))
	var s *runtime.StartError
	if !errors.As(err, &s) || s.Reason != padisv1.ReasonConfigNotFound {
		t.Errorf("%v", err)
	}
	if got := listing(t, source); got != "etc/{b=2 x/{a=1}}" {
		t.Errorf("got %s", got)
	}
}

// All files change at the same moment: whoever reads through ..data sees one version.
func TestAllAtOnce(t *testing.T) {
	w := newWorld(t)
	l := following("", map[string]string{"a": "0", "b": "0"})
	source := w.prepare(l)[0].Source
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if a, b, ok := readBoth(source); ok && a != b {
				done <- fmt.Errorf("a is %s and b is %s", a, b)
				return
			}
			// What the program opens by name is always there.
			if _, err := os.ReadFile(filepath.Join(source, "a")); err != nil && !errors.Is(err, unix.ENOENT) {
				done <- err
				return
			}
		}
	}()
	for i := range 200 {
		w.update(l, configMap(map[string]string{"a": fmt.Sprint(i), "b": fmt.Sprint(i)}))
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// readBoth reads both files of one version; not ok if it went away meanwhile.
func readBoth(source string) (a, b string, ok bool) {
	root, err := os.OpenRoot(filepath.Join(source, present))
	if err != nil {
		return "", "", false
	}
	defer root.Close()
	x, err1 := root.ReadFile("a")
	y, err2 := root.ReadFile("b")
	return string(x), string(y), err1 == nil && err2 == nil
}

func TestSecretsStayInMemory(t *testing.T) {
	w := newWorld(t)
	l := secret("one")
	source := w.prepare(l)[0].Source
	if got := listing(t, source); got != "key=one" || mode(t, filepath.Join(source, "key")) != "400 0:0" {
		t.Errorf("%s, %s", got, mode(t, filepath.Join(source, "key")))
	}
	if got := w.mounted(); !slices.Equal(got, []string{source}) {
		t.Errorf("mounted %v", got)
	}
	if signals := w.update(l, secret("two").GetConfigs()); !slices.Equal(signals, []string{"SIGHUP"}) || listing(t, source) != "key=two" {
		t.Errorf("%v, %s", signals, listing(t, source))
	}
	if err := unix.Unmount(source, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := w.host().Update(w.dir, l, secret("three").GetConfigs()); err == nil || !strings.Contains(err.Error(), "not written to disks") {
		t.Errorf("%v", err)
	}
	if got := listing(t, source); got != "" {
		t.Errorf("on the disk: %s", got)
	}
}

func TestFullOfSecrets(t *testing.T) {
	w := newWorld(t)
	w.refused(secret(strings.Repeat("x", 9<<20)), padisv1.ReasonInsufficientSpace, "ask for less")
	w.refused(launch("", &padisv1.Volume{Name: "c", MountPath: "/c", Source: &padisv1.Volume_Config{Config: &padisv1.ConfigFiles{Config: "secret/none"}}}), padisv1.ReasonConfigNotFound, "secret none")
}
