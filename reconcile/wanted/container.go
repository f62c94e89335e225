package wanted

import (
	"fmt"
	"slices"

	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/reconcile/config"

	"k8s.io/apimachinery/pkg/api/resource"
)

// container fills in what only containers have. data are the contents that the volumes show.
func container(in *v1alpha1.Template, data []*padisv1.ConfigData, out *padisv1.Template) error {
	if in.Image == "" {
		for _, f := range []struct {
			field string
			set   bool
		}{{"volumes", len(in.Volumes) > 0}, {"security", in.Security != nil}, {"init", in.Init}, {"resources.pids", in.Resources.Pids != nil}} {
			if f.set {
				return fmt.Errorf("spec.template.%s: only containers have it: set image", f.field)
			}
		}
		return nil
	}
	out.Image, out.Init, out.AlwaysPull = in.Image, in.Init, in.ImagePullPolicy == v1alpha1.PullAlways
	if s := in.Security; s != nil {
		out.Security = &padisv1.Security{
			AddCapabilities: sorted(s.Capabilities.Add), DropCapabilities: sorted(s.Capabilities.Drop), ReadOnlyRoot: s.ReadOnlyRootFilesystem,
			AllowPrivilegeEscalation: s.AllowPrivilegeEscalation, SeccompUnconfined: s.SeccompProfile == v1alpha1.SeccompUnconfined,
		}
	}
	for i := range in.Volumes {
		v, err := volume(fmt.Sprintf("spec.template.volumes[%d]", i), &in.Volumes[i], data)
		if err != nil {
			return err
		}
		out.Volumes = append(out.Volumes, v)
	}
	return nil
}

// sorted gives a set in one order, so that writing it in another restarts nobody.
func sorted(in []string) []string {
	out := slices.Clone(in)
	slices.Sort(out)
	return out
}

func volume(at string, in *v1alpha1.Volume, data []*padisv1.ConfigData) (*padisv1.Volume, error) {
	out := &padisv1.Volume{Name: in.Name, MountPath: in.MountPath, ReadOnly: in.ReadOnly}
	set := 0
	if h := in.HostPath; h != nil {
		set++
		out.Source = &padisv1.Volume_HostPath{HostPath: &padisv1.HostPath{Path: h.Path}}
	}
	if e := in.EmptyDir; e != nil {
		set++
		size, err := emptyDirSize(at+".emptyDir.size", e.Size)
		if err != nil {
			return nil, err
		}
		out.Source = &padisv1.Volume_EmptyDir{EmptyDir: &padisv1.EmptyDir{SizeMib: size, Memory: e.Medium == "Memory"}}
	}
	if n := in.NFS; n != nil {
		set++
		out.Source = &padisv1.Volume_Nfs{Nfs: &padisv1.Nfs{Server: n.Server, Path: n.Path, Options: slices.Clone(n.Options)}}
	}
	if in.AddressLogs != nil {
		set++
		out.Source = &padisv1.Volume_Logs{Logs: &padisv1.AddressLogs{}}
	}
	for _, f := range []struct {
		kind config.Kind
		from *v1alpha1.FilesVolume
	}{{config.ConfigMap, in.ConfigMap}, {config.Secret, in.Secret}} {
		if f.from != nil {
			set++
			out.Source = &padisv1.Volume_Config{Config: files(f.kind, f.from, data)}
		}
	}
	if set != 1 {
		return nil, fmt.Errorf("%s: has %d of hostPath, emptyDir, nfs, configMap, secret and addressLogs: set exactly one", at, set)
	}
	return out, nil
}

func emptyDirSize(field string, q *resource.Quantity) (int64, error) {
	if q == nil {
		return 0, nil
	}
	return amount(field, *q, 0, 1<<20)
}

func files(kind config.Kind, in *v1alpha1.FilesVolume, data []*padisv1.ConfigData) *padisv1.ConfigFiles {
	out := &padisv1.ConfigFiles{Config: config.Ref{Kind: kind, Name: in.Name}.String()}
	for _, item := range in.Items {
		out.Items = append(out.Items, &padisv1.ConfigItem{Key: item.Key, Path: item.Path})
	}
	if in.DefaultMode != nil {
		out.Mode = *in.DefaultMode
	}
	switch in.OnChange {
	case v1alpha1.OnChangeRestart:
		out.OnChange = padisv1.ConfigFiles_ON_CHANGE_RESTART
		for _, d := range data {
			if d.Name == out.Config {
				out.Hash = d.Hash
			}
		}
	case v1alpha1.OnChangeSignal:
		out.OnChange, out.Signal = padisv1.ConfigFiles_ON_CHANGE_SIGNAL, in.Signal
	}
	return out
}
