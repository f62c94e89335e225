package volume

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// Permissions of files whose volume does not say.
const (
	modeConfig = 0o444
	modeSecret = 0o400
)

func data(configs []*padisv1.ConfigData, name string) *padisv1.ConfigData {
	for _, c := range configs {
		if c.GetName() == name && name != "" {
			return c
		}
	}
	return nil
}

// files are always read-only in the container: the next change would undo what it wrote.
func files(dir string, configs []*padisv1.ConfigData, d *padisv1.Volume, v *Volume) *Failure {
	c := d.GetConfig()
	v.Kind, v.Path, v.ReadOnly = Files, inside(dir, v.Name), true
	kind, name, ok := strings.Cut(c.GetConfig(), "/")
	if !ok || kind != "configmap" && kind != "secret" {
		return invalid("volume %s is of %q, which is neither configmap/NAME nor secret/NAME", v.Name, c.GetConfig())
	}
	content := data(configs, c.GetConfig())
	if content == nil {
		return &Failure{padisv1.ReasonConfigNotFound, fmt.Sprintf("volume %s needs the %s %s, which did not come with the launch; create it in the namespace of the App", v.Name, kind, name)}
	}
	v.Config.Secret = kind == "secret"
	if c.GetOnChange() == padisv1.ConfigFiles_ON_CHANGE_SIGNAL {
		v.Config.Signal = c.GetSignal()
	}
	mode := uint32(modeConfig)
	if v.Config.Secret {
		mode = modeSecret
	}
	if m := c.GetMode(); m < 0 || m > 0o777 {
		return invalid("mode %d of volume %s is not between 0 and 511 (octal 0777)", m, v.Name)
	} else if m > 0 {
		mode = uint32(m)
	}
	items := c.GetItems()
	if len(items) == 0 {
		for _, key := range slices.Sorted(maps.Keys(content.GetData())) {
			items = append(items, &padisv1.ConfigItem{Key: key, Path: key})
		}
	}
	for _, i := range items {
		b, ok := content.GetData()[i.GetKey()]
		if !ok {
			return &Failure{padisv1.ReasonConfigNotFound, fmt.Sprintf("volume %s needs the key %s of the %s %s, which has none; add it, or correct the volume's items", v.Name, i.GetKey(), kind, name)}
		}
		v.Config.Files = append(v.Config.Files, File{Path: i.GetPath(), Data: b, Mode: mode})
	}
	return tree(v)
}

// tree checks that the paths can be files of one directory, and sorts them.
func tree(v *Volume) *Failure {
	all := v.Config.Files
	for _, f := range all {
		if !relative(f.Path) {
			return invalid("path %q in volume %s is not a relative path without dots", f.Path, v.Name)
		}
	}
	slices.SortFunc(all, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	taken := map[string]bool{}
	for _, f := range all {
		if taken[f.Path] {
			return invalid("path %s is twice in volume %s; give each key a path of its own", f.Path, v.Name)
		}
		taken[f.Path] = true
	}
	for _, f := range all {
		for i, r := range f.Path {
			if r == '/' && taken[f.Path[:i]] {
				return invalid("path %s in volume %s is a file, and a directory because of %s", f.Path[:i], v.Name, f.Path)
			}
		}
	}
	return nil
}

// relative tells whether p names a file below a directory. Names that begin with two dots are the writer's own.
func relative(p string) bool {
	if !printable(p) {
		return false
	}
	for part := range strings.SplitSeq(p, "/") {
		if part == "" || part == "." || strings.HasPrefix(part, "..") || len(part) > nameMax {
			return false
		}
	}
	return len(p) < 4096
}
