package executor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"padis.io/padis/executor/instance"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// Keep says how long what has ended is kept on the host; zero values are the defaults.
type Keep struct {
	// Directories of ended containers, with their logs, are kept for this time (24 h), and of each slot of an App at
	// most the newest PerSlot (5).
	Directories time.Duration
	PerSlot     int
	// Images that nothing used for this time (7 days) are removed.
	Images time.Duration
}

func (k *Keep) defaults() {
	if k.Directories <= 0 {
		k.Directories = 24 * time.Hour
	}
	if k.PerSlot <= 0 {
		k.PerSlot = 5
	}
	if k.Images <= 0 {
		k.Images = 7 * 24 * time.Hour
	}
}

// When the host is cleaned: first some time after the start, so that adoptions come first.
const (
	firstKeep = time.Minute
	keepAgain = 10 * time.Minute
)

// launchFile is the Launch that made a container, without its secrets; imageFile the digest of its image; ownerFile
// whose container it is: frameworks may share a host.
const (
	launchFile = "launch.pb"
	imageFile  = "image"
	ownerFile  = "owner"
)

func writeLaunch(dir, owner string, l *padisv1.Launch) error {
	if err := os.WriteFile(filepath.Join(dir, ownerFile), []byte(owner), 0o600); err != nil {
		return err
	}
	data, err := padisv1.Encode(withoutSecrets(l))
	if err != nil {
		return err
	}
	// Half a file would be no launch: the next executor might leave links behind.
	path := filepath.Join(dir, launchFile)
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// withoutSecrets is what may lie on a disk.
func withoutSecrets(l *padisv1.Launch) *padisv1.Launch {
	l = proto.CloneOf(l)
	l.RegistryAuths, l.Configs, l.Template.Env = nil, nil, nil
	for _, a := range l.GetAttachments() {
		for _, p := range a.GetNetwork().GetBgp().GetPeers() {
			p.Password = ""
		}
	}
	return l
}

func readLaunch(dir string) (*padisv1.Launch, error) {
	data, err := os.ReadFile(filepath.Join(dir, launchFile))
	if err != nil {
		return nil, err
	}
	l := &padisv1.Launch{}
	if err := padisv1.Decode(data, l); err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(dir, launchFile), err)
	}
	return l, nil
}

// freed takes the volumes of an ended container away, and notes the time of its end.
func (e *Executor) freed(dir string) {
	if err := e.Volumes.Release(dir); err != nil {
		e.Log.Warn("volumes of an ended container are left; trying again later", zap.String("directory", dir), zap.Error(err))
	}
	now := time.Now()
	if err := os.Chtimes(dir, now, now); err != nil && !errors.Is(err, fs.ErrNotExist) {
		e.Log.Warn("the time of an end was not noted", zap.String("directory", dir), zap.Error(err))
	}
}

// keep removes what is kept for too long, without making anybody wait.
func (e *Executor) keep(now time.Time) {
	e.keepAt = now.Add(keepAgain)
	used := maps.Clone(e.found)
	if used == nil {
		used = map[string]bool{}
	}
	for _, l := range e.lives {
		used[l.plan.Container] = true
	}
	host := e.Host
	go func() {
		e.sweep(now, host, used)
		ctx, cancel := context.WithTimeout(e.background, keeperTime)
		defer cancel()
		removed, err := e.Containers.Remove(ctx, e.Keep.Images)
		if err != nil {
			e.Log.Warn("images that nobody uses are left", zap.Error(err))
		}
		if len(removed) > 0 {
			e.Log.Info("removed images that nobody used", zap.Strings("images", removed))
		}
	}()
}

func (e *Executor) sweep(now time.Time, host instance.Host, used map[string]bool) {
	all, err := directories(host, used)
	if err != nil {
		e.Log.Warn("the directories of ended containers are not known", zap.Error(err))
	}
	for _, name := range superfluous(all, now, e.Keep) {
		dir := instance.Directory(host.State, name)
		// Nothing that is still mounted there may be removed with it.
		if err := e.Volumes.Release(dir); err != nil {
			e.Log.Warn("volumes of an ended container are left", zap.String("directory", dir), zap.Error(err))
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			e.Log.Warn("the directory of an ended container is left", zap.String("directory", dir), zap.Error(err))
		}
	}
}

// directory of a container that has ended.
type directory struct {
	name string
	// slot is whose it was; empty if that is not known.
	slot  string
	ended time.Time
}

// directories are our own that are not used.
func directories(host instance.Host, used map[string]bool) ([]directory, error) {
	entries, err := os.ReadDir(filepath.Dir(instance.Directory(host.State, "x")))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []directory
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !e.IsDir() || used[e.Name()] || !instance.ValidName(e.Name()) {
			continue
		}
		d := directory{name: e.Name(), ended: info.ModTime()}
		path := instance.Directory(host.State, d.name)
		if owner, err := os.ReadFile(filepath.Join(path, ownerFile)); err != nil || string(owner) != host.Owner {
			continue
		}
		if l, err := readLaunch(path); err == nil {
			d.slot = fmt.Sprintf("%s/%s/%s/%d", l.GetAppUid(), l.GetNamespace(), l.GetApp(), l.GetSlot())
		}
		out = append(out, d)
	}
	return out, err
}

// superfluous are the directories that need not be kept.
func superfluous(all []directory, now time.Time, k Keep) []string {
	slices.SortFunc(all, func(a, b directory) int { return cmp.Or(b.ended.Compare(a.ended), cmp.Compare(a.name, b.name)) })
	var out []string
	kept := map[string]int{}
	for _, d := range all {
		if now.Sub(d.ended) > k.Directories || d.slot != "" && kept[d.slot] >= k.PerSlot {
			out = append(out, d.name)
			continue
		}
		kept[d.slot]++
	}
	return out
}
