package volume

import (
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	padisv1 "padis.io/padis/proto/padis/v1"
)

const (
	dir   = "/state/instances/shop.web.0.1"
	state = "/state"
)

func launch(volumes ...*padisv1.Volume) *padisv1.Launch {
	return &padisv1.Launch{
		Template:    &padisv1.Template{User: "1000:2000", Volumes: volumes},
		Attachments: []*padisv1.Attachment{{Address: "10.44.1.1"}},
		Configs: []*padisv1.ConfigData{
			{Name: "configmap/web", Data: map[string][]byte{"a.conf": []byte("A"), "b.conf": []byte("B")}},
			{Name: "secret/tls", Data: map[string][]byte{"tls.key": []byte("K")}},
		},
	}
}

func host(p string) *padisv1.Volume {
	return &padisv1.Volume{Name: "h", MountPath: "/h", Source: &padisv1.Volume_HostPath{HostPath: &padisv1.HostPath{Path: p}}}
}

func empty(mib int64, memory bool) *padisv1.Volume {
	return &padisv1.Volume{Name: "e", MountPath: "/e", Source: &padisv1.Volume_EmptyDir{EmptyDir: &padisv1.EmptyDir{SizeMib: mib, Memory: memory}}}
}

func share(server, p string, options ...string) *padisv1.Volume {
	return &padisv1.Volume{Name: "n", MountPath: "/n", Source: &padisv1.Volume_Nfs{Nfs: &padisv1.Nfs{Server: server, Path: p, Options: options}}}
}

func config(c *padisv1.ConfigFiles) *padisv1.Volume {
	return &padisv1.Volume{Name: "c", MountPath: "/c", Source: &padisv1.Volume_Config{Config: c}}
}

func addressOnly(name, target string) *padisv1.Volume {
	return &padisv1.Volume{Name: name, MountPath: target, Source: &padisv1.Volume_Logs{Logs: &padisv1.AddressLogs{}}}
}

func TestMake(t *testing.T) {
	l := launch(
		host("/srv/data/"), empty(64, false), share("10.0.0.9", "/export", "vers=4.1,hard"),
		config(&padisv1.ConfigFiles{Config: "configmap/web"}), addressOnly("logs", "/persist/logs"),
		&padisv1.Volume{Name: "m", MountPath: "/e/inner/", Source: &padisv1.Volume_EmptyDir{EmptyDir: &padisv1.EmptyDir{SizeMib: 1, Memory: true}}},
		&padisv1.Volume{Name: "s", MountPath: "/run/tls", Source: &padisv1.Volume_Config{Config: &padisv1.ConfigFiles{
			Config: "secret/tls", Items: []*padisv1.ConfigItem{{Key: "tls.key", Path: "private/key"}}, OnChange: padisv1.ConfigFiles_ON_CHANGE_SIGNAL, Signal: "SIGHUP",
		}}},
	)
	p, err := Make(dir, state, l)
	if err != nil {
		t.Fatal(err)
	}
	if p.Owner != (Owner{UID: 1000, GID: 2000, Known: true}) {
		t.Errorf("owner %+v", p.Owner)
	}
	var got []string
	for _, v := range p.Volumes {
		got = append(got, v.Target+" <- "+v.Kind.String()+" "+v.Path)
	}
	want := `/c <- config /state/instances/shop.web.0.1/volumes/c
/e <- emptyDir /state/instances/shop.web.0.1/volumes/e
/e/inner <- emptyDir in memory 
/h <- hostPath /srv/data
/n <- nfs /state/instances/shop.web.0.1/volumes/n
/persist/logs <- logs /state/logs/10.44.1.1
/run/tls <- config /state/instances/shop.web.0.1/volumes/s`
	if s := strings.Join(got, "\n"); s != want {
		t.Errorf("got\n%s\nwant\n%s", s, want)
	}
	if e := p.Volumes[1]; e.Size != 64<<20 || e.Image != dir+"/volumes/.e.image" {
		t.Errorf("emptyDir %+v", e)
	}
	if c := p.Volumes[0]; !c.ReadOnly || c.Config.Secret || len(c.Config.Files) != 2 || c.Config.Files[0].Path != "a.conf" || c.Config.Files[0].Mode != 0o444 {
		t.Errorf("config %+v", c)
	}
	if s := p.Volumes[6]; !s.Config.Secret || s.Config.Signal != "SIGHUP" || s.Config.Files[0].Path != "private/key" || s.Config.Files[0].Mode != 0o400 {
		t.Errorf("secret %+v", s)
	}
}

// What is refused, and why.
func TestRefused(t *testing.T) {
	at := func(target string) *padisv1.Volume { v := empty(0, false); v.MountPath = target; return v }
	called := func(name string) *padisv1.Volume { v := empty(0, false); v.Name = name; return v }
	items := func(i ...*padisv1.ConfigItem) *padisv1.Volume {
		return config(&padisv1.ConfigFiles{Config: "configmap/web", Items: i})
	}
	for name, c := range map[string]struct {
		launch       *padisv1.Launch
		reason, says string
	}{
		"no source":            {launch(&padisv1.Volume{Name: "x", MountPath: "/x"}), padisv1.ReasonInvalidLaunch, "no source"},
		"name with dots":       {launch(called("..")), padisv1.ReasonInvalidLaunch, "name"},
		"name with slash":      {launch(called("a/b")), padisv1.ReasonInvalidLaunch, "name"},
		"relative target":      {launch(at("data")), padisv1.ReasonInvalidLaunch, "absolute"},
		"target with dots":     {launch(at("/data/../etc")), padisv1.ReasonInvalidLaunch, "absolute"},
		"target /":             {launch(at("/")), padisv1.ReasonVolumeForbidden, "container's own"},
		"target in /proc":      {launch(at("/proc/sys")), padisv1.ReasonVolumeForbidden, "container's own"},
		"target /etc/hosts":    {launch(at("/etc/hosts/")), padisv1.ReasonVolumeForbidden, "container's own"},
		"two of a name":        {launch(at("/a"), at("/b")), padisv1.ReasonInvalidLaunch, "name of its own"},
		"two at a place":       {launch(empty(0, false), addressOnly("logs", "/e/")), padisv1.ReasonInvalidLaunch, "mountPath of its own"},
		"too many":             {launch(make([]*padisv1.Volume, maxVolumes+1)...), padisv1.ReasonInvalidLaunch, "more than"},
		"host /":               {launch(host("/srv/..")), padisv1.ReasonVolumeForbidden, "whole host"},
		"host state":           {launch(host("/state")), padisv1.ReasonVolumeForbidden, "own files"},
		"host in state":        {launch(host("/state/instances/other")), padisv1.ReasonVolumeForbidden, "own files"},
		"host relative":        {launch(host("srv")), padisv1.ReasonInvalidLaunch, "absolute"},
		"negative size":        {launch(empty(-1, false)), padisv1.ReasonInvalidLaunch, "between"},
		"overflowing size":     {launch(empty(1<<62, true)), padisv1.ReasonInvalidLaunch, "between"},
		"nfs server an option": {launch(share("-o", "/x")), padisv1.ReasonInvalidLaunch, "server"},
		"nfs path relative":    {launch(share("nas", "x")), padisv1.ReasonInvalidLaunch, "absolute"},
		"nfs suid":             {launch(share("nas", "/x", "vers=4.1,suid")), padisv1.ReasonVolumeForbidden, `"suid"`},
		"nfs in background":    {launch(share("nas", "/x", "bg")), padisv1.ReasonVolumeForbidden, `"bg"`},
		"nfs other server":     {launch(share("nas", "/x", "addr=10.0.0.1")), padisv1.ReasonVolumeForbidden, "addr"},
		"no such config":       {launch(config(&padisv1.ConfigFiles{Config: "configmap/none"})), padisv1.ReasonConfigNotFound, "configmap none"},
		"no such key":          {launch(items(&padisv1.ConfigItem{Key: "z", Path: "z"})), padisv1.ReasonConfigNotFound, "key z"},
		"of nothing":           {launch(config(&padisv1.ConfigFiles{})), padisv1.ReasonInvalidLaunch, "neither"},
		"path climbs":          {launch(items(&padisv1.ConfigItem{Key: "a.conf", Path: "x/../../y"})), padisv1.ReasonInvalidLaunch, "relative path"},
		"path of the writer":   {launch(items(&padisv1.ConfigItem{Key: "a.conf", Path: "..data/x"})), padisv1.ReasonInvalidLaunch, "relative path"},
		"path absolute":        {launch(items(&padisv1.ConfigItem{Key: "a.conf", Path: "/etc/passwd"})), padisv1.ReasonInvalidLaunch, "relative path"},
		"path twice":           {launch(items(&padisv1.ConfigItem{Key: "a.conf", Path: "x"}, &padisv1.ConfigItem{Key: "b.conf", Path: "x"})), padisv1.ReasonInvalidLaunch, "twice"},
		"file and directory": {launch(items(&padisv1.ConfigItem{Key: "a.conf", Path: "x"}, &padisv1.ConfigItem{Key: "b.conf", Path: "x/y"}, &padisv1.ConfigItem{Key: "b.conf", Path: "x-z"})),
			padisv1.ReasonInvalidLaunch, "a directory because of"},
		"mode":       {launch(config(&padisv1.ConfigFiles{Config: "secret/tls", Mode: 0o4755})), padisv1.ReasonInvalidLaunch, "mode"},
		"no address": {&padisv1.Launch{Template: &padisv1.Template{Volumes: []*padisv1.Volume{addressOnly("logs", "/l")}}}, padisv1.ReasonVolumeFailed, "give the App a network"},
		"a bad address": {&padisv1.Launch{Attachments: []*padisv1.Attachment{{Address: "../instances"}}, Template: &padisv1.Template{Volumes: []*padisv1.Volume{addressOnly("logs", "/l")}}},
			padisv1.ReasonInvalidLaunch, "is none"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Make(dir, state, c.launch)
			if err == nil {
				t.Fatalf("made %+v", p)
			}
			if err.Reason != c.reason || !strings.Contains(err.Message, c.says) {
				t.Errorf("%s; want %s and %q", err, c.reason, c.says)
			}
		})
	}
}

func TestAllowed(t *testing.T) {
	for p, prefixes := range map[string][]string{"/srv": nil, "/srv/a/b": {"/data", "/srv/a"}, "/srv/a": {"/srv/a"}} {
		if err := Allowed("v", p, "/var/lib/padis", prefixes); err != nil {
			t.Errorf("%s: %s", p, err)
		}
	}
	for p, prefixes := range map[string][]string{"/": nil, "/var": nil, "/var/lib/padis/x": {"/var"}, "/srv/ab": {"/srv/a"}, "/etc": {"/srv"}} {
		if err := Allowed("v", p, "/var/lib/padis", prefixes); err == nil || err.Reason != padisv1.ReasonVolumeForbidden {
			t.Errorf("%s: %v", p, err)
		}
	}
}

func TestMountOptions(t *testing.T) {
	for _, c := range []struct {
		v            Volume
		want, kernel string
	}{
		{Volume{}, "nosuid,nodev,soft,timeo=50,retrans=2", "nosuid,nodev,soft,timeo=50,retrans=2,vers=4.2,addr=192.0.2.1"},
		{Volume{ReadOnly: true, Options: []string{"rw", "vers=4.1"}}, "nosuid,nodev,ro,soft,timeo=50,retrans=2,vers=4.1", "nosuid,nodev,ro,soft,timeo=50,retrans=2,vers=4.1,addr=192.0.2.1"},
		{Volume{Options: []string{"hard", "timeo=600", "nodev"}}, "nosuid,nodev,retrans=2,hard,timeo=600", "nosuid,nodev,retrans=2,hard,timeo=600,vers=4.2,addr=192.0.2.1"},
	} {
		if got := strings.Join(c.v.MountOptions(), ","); got != c.want {
			t.Errorf("%+v: %s, want %s", c.v, got, c.want)
		}
		if got := strings.Join(c.v.KernelOptions("192.0.2.1"), ","); got != c.kernel {
			t.Errorf("%+v: %s, want %s", c.v, got, c.kernel)
		}
	}
	p, err := Make(dir, state, launch(share("[fd00::1]", "/export/a b")))
	if err != nil || p.Volumes[0].Export != "[fd00::1]:/export/a b" || p.Volumes[0].Server != "fd00::1" {
		t.Errorf("%+v, %v", p, err)
	}
}

// A volume follows its content only where it says so, and one that cannot does not keep the others from it.
func TestChanged(t *testing.T) {
	follow := func(name, config string, how padisv1.ConfigFiles_OnChange, items ...*padisv1.ConfigItem) *padisv1.Volume {
		return &padisv1.Volume{Name: name, MountPath: "/" + name, Source: &padisv1.Volume_Config{Config: &padisv1.ConfigFiles{Config: config, OnChange: how, Signal: "SIGHUP", Items: items}}}
	}
	l := launch(
		follow("a", "configmap/web", padisv1.ConfigFiles_ON_CHANGE_SIGNAL), follow("b", "configmap/web", padisv1.ConfigFiles_ON_CHANGE_NONE),
		follow("c", "configmap/web", padisv1.ConfigFiles_ON_CHANGE_RESTART), follow("d", "secret/tls", padisv1.ConfigFiles_ON_CHANGE_SIGNAL),
		follow("e", "configmap/web", padisv1.ConfigFiles_ON_CHANGE_SIGNAL, &padisv1.ConfigItem{Key: "gone", Path: "gone"}),
	)
	p, failures := Changed(dir, l, []*padisv1.ConfigData{{Name: "configmap/web", Data: map[string][]byte{"new": []byte("N")}}, {Name: "configmap/other"}})
	if len(p.Volumes) != 1 || p.Volumes[0].Name != "a" || string(p.Volumes[0].Config.Files[0].Data) != "N" || p.Volumes[0].Config.Signal != "SIGHUP" || p.Owner.UID != 1000 {
		t.Errorf("%+v", p)
	}
	if len(failures) != 1 || failures[0].Reason != padisv1.ReasonConfigNotFound {
		t.Errorf("failures %v", failures)
	}
}

func TestMountPoints(t *testing.T) {
	info := "22 27 0:21 / /proc rw - proc proc rw\n" +
		"40 27 0:30 / /state/i/x/volumes/a rw shared:5 - tmpfs tmpfs rw\n" +
		"41 27 0:31 / /state/i/x/volumes/a\\040b\\134 rw - tmpfs tmpfs rw\n" +
		"42 27 0:32 / /state/i/xy/volumes/a rw - tmpfs tmpfs rw\n" +
		"43 27 0:32 / /state/i/x/volumes rw - tmpfs tmpfs rw\nshort\n"
	got := strings.Join(MountPoints(info, "/state/i/x/volumes"), "|")
	if want := `/state/i/x/volumes/a b\|/state/i/x/volumes/a`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func FuzzMountPoints(f *testing.F) {
	f.Add("40 27 0:30 / /a/b\\040 rw shared:5 - tmpfs tmpfs rw\n", "/a")
	f.Add("1 2 3 4 \\777\\0\\", "/")
	f.Fuzz(func(t *testing.T, info, below string) {
		for _, p := range MountPoints(info, below) {
			if !Below(p, below) || p == below {
				t.Errorf("%q is not below %q", p, below)
			}
		}
	})
}

// Whatever a launch is made of, nothing is made outside of the instance's directory and the state directory, and
// nothing is shown of the latter but logs.
func FuzzMake(f *testing.F) {
	for _, v := range []*padisv1.Volume{host("/srv"), host("/state/../x"), empty(1, false), share("nas", "/x", "vers=4.1"), config(&padisv1.ConfigFiles{Config: "secret/tls"}), addressOnly("l", "/l")} {
		b, err := proto.Marshal(launch(v, empty(5, true)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		l := &padisv1.Launch{}
		if proto.Unmarshal(b, l) == nil {
			check(t, l)
			Changed(dir, l, l.GetConfigs())
		}
	})
}

func check(t *testing.T, l *padisv1.Launch) bool {
	t.Helper()
	p, err := Make(dir, state, l)
	if err != nil {
		if err.Reason == "" || err.Message == "" || len(p.Volumes) > 0 {
			t.Errorf("%+v and %+v", p, err)
		}
		return false
	}
	for _, v := range p.Volumes {
		within := false
		switch v.Kind {
		case Host:
			within = path.IsAbs(v.Path) && Allowed(v.Name, v.Path, state, nil) == nil
		case Memory:
			within = v.Path == ""
		case Logs:
			within = path.Dir(v.Path) == state+"/logs"
		default:
			within = path.Dir(v.Path) == dir+"/volumes" && (v.Image == "" || path.Dir(v.Image) == dir+"/volumes" && v.Image != v.Path)
		}
		if !within || v.Path != "" && path.Clean(v.Path) != v.Path || v.Size < 0 || !path.IsAbs(v.Target) {
			t.Errorf("%s: %+v", v.Kind, v)
		}
		for _, file := range v.Config.Files {
			if path.Join(v.Path, file.Path) == v.Path || !Below(path.Join(v.Path, file.Path), v.Path) || file.Mode > 0o777 {
				t.Errorf("%s: file %q", v.Path, file.Path)
			}
		}
		for _, o := range append(v.MountOptions(), v.KernelOptions("192.0.2.1")...) {
			if strings.ContainsAny(o, ", \n") {
				t.Errorf("option %q", o)
			}
		}
	}
	return true
}

// Random launches are more often good than random bytes are.
func TestRandomLaunches(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(all ...string) string { return all[r.IntN(len(all))] }
	var made int
	for range 20_000 {
		var volumes []*padisv1.Volume
		for range r.IntN(4) {
			v := oneOf(r, host(pick("/srv", "/state", "/", "/srv/../state/x", "/sr\x00v", "")), empty(r.Int64N(100)-2, r.IntN(2) == 0), share(pick("nas", "", "a b", "::1"), pick("/x", "x"), pick("soft", "suid", "vers=3,udp")),
				config(&padisv1.ConfigFiles{Config: pick("configmap/web", "secret/tls", "secret/x", "x"), Mode: r.Int32N(600) - 5, Items: []*padisv1.ConfigItem{{Key: pick("a.conf", "tls.key"), Path: pick("x", "x/y", "../x", "..x", "/x", "x/./y")}}}),
				addressOnly("l", "/l"))
			v.Name, v.MountPath = pick("a", "b", "c", "..", ".b", "a/b"), pick("/a", "/b", "/c/d", "/", "/proc/x", "x")
			volumes = append(volumes, v)
		}
		l := launch(volumes...)
		l.Attachments[0].Address = pick("10.0.0.1", "fd00::1", "::ffff:10.0.0.1", "..", "/", "fe80::1%../../x")
		if check(t, l) {
			made++
		}
	}
	if made < 1000 {
		t.Errorf("only %d of the launches were good: the test tests little", made)
	}
}

func oneOf(r *rand.Rand, all ...*padisv1.Volume) *padisv1.Volume { return all[r.IntN(len(all))] }
