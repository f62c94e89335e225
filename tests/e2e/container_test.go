package e2e

import (
	"context"
	"maps"
	"strings"
	"testing"
	"time"

	"padis.io/padis/api/runtime"
	"padis.io/padis/tests/harness"
	"padis.io/padis/tests/registry"
)

// images is a registry for one test, declared for the hosts.
func images(t *testing.T, c context.Context, s space, o registry.Options) *harness.Registry {
	t.Helper()
	needContainers(t)
	r, err := cluster.OpenRegistry(o, 0)
	must(t, err)
	t.Cleanup(r.Stop)
	must(t, s.apply(c, `
apiVersion: padis.io/v1alpha1
kind: Registry
metadata: {name: {{.Space.Name}}}
spec: {host: "{{.App}}", plainHTTP: true}
`, r.Host()))
	t.Cleanup(func() {
		c, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if out, err := cluster.Padis(c, "delete", "registry.padis.io", s.name); err != nil {
			t.Errorf("clean-up: %v\n%s", err, out)
		}
	})
	return r
}

// serve is what an image of the tests runs: a page with its name, the image's version, and a word that only this start has.
const serve = `{ hostname; cat /version; cat /proc/sys/kernel/random/uuid; } >/tmp/index.html; exec httpd -f -p 8080 -h /tmp`

func version(v string) registry.Config {
	return registry.Config{Files: map[string]string{"/version": v + "\n"}, Entrypoint: []string{"sh", "-c", serve}}
}

// page is an App of such an image.
const page = `
apiVersion: padis.io/v1alpha1
kind: App
metadata: {name: page, namespace: {{.Space.Name}}}
spec:
  replicas: 2
  template:
    image: {{.App}}
    resources: {cpu: 50m, memory: 32Mi}
    healthChecks:
    - http: {port: 8080, path: /}
      interval: 1s
      timeout: 1s
  networks: [{pool: {{.Space.Name}}}]
`

// until asks again and again until it is as wanted.
func until(t *testing.T, c context.Context, what string, is func() (bool, string)) {
	t.Helper()
	for {
		ok, now := is()
		if ok {
			return
		}
		select {
		case <-c.Done():
			t.Fatalf("never: %s; last: %s", what, now)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// An update whose image cannot be pulled leaves the old instances alone and says why; when the image appears, the update
// goes on by itself, and addresses stay.
func TestUpdatePullsFirst(t *testing.T) {
	s := newSpace(t)
	c := ctx(t)
	r := images(t, c, s, registry.Options{})
	_, err := r.PushBusybox("page:1", version("one"))
	must(t, err)
	must(t, s.apply(c, page, r.Ref("page:1")))
	before, err := cluster.WaitReady(c, s.name, "page", 2)
	must(t, err)
	words, err := cluster.Fetch(c, before, 8080, "/")
	must(t, err)

	must(t, s.apply(c, page, r.Ref("page:2")))
	until(t, c, "the reason is told", func() (bool, string) {
		out, err := cluster.Padis(c, "why", "app/page", "-n", s.name)
		return err == nil && strings.Contains(out, "ImageNotFound") && strings.Contains(out, "page:2"), out
	})
	still, err := cluster.Fetch(c, before, 8080, "/")
	must(t, err)
	if !maps.Equal(words, still) {
		t.Errorf("while the image was missing, instances changed: %v, then %v", words, still)
	}

	_, err = r.PushBusybox("page:2", version("two"))
	must(t, err)
	var after []runtime.Instance
	until(t, c, "both run the new image", func() (bool, string) {
		if after, err = cluster.WaitReady(c, s.name, "page", 2); err != nil {
			return false, err.Error()
		}
		got, err := cluster.Fetch(c, after, 8080, "/")
		if err != nil {
			return false, err.Error()
		}
		for _, body := range got {
			if !strings.Contains(body, "two") {
				return false, body
			}
		}
		return true, ""
	})
	if a, b := addresses(before), addresses(after); !maps.Equal(a, b) {
		t.Errorf("addresses were %v and are %v", a, b)
	}
}

// Images are on hosts before anybody needs them.
func TestPrepull(t *testing.T) {
	s := newSpace(t)
	c := ctx(t)
	r := images(t, c, s, registry.Options{})
	_, err := r.PushBusybox("page:1", version("one"))
	must(t, err)
	_, err = r.PushBusybox("later:1", registry.Config{Filler: []int64{1 << 20}})
	must(t, err)
	must(t, s.apply(c, page, r.Ref("page:1")))
	is, err := cluster.WaitReady(c, s.name, "page", 2)
	must(t, err)
	hosts := map[string]bool{}
	for _, i := range is {
		hosts[i.Status.Host] = true
	}
	out, err := cluster.Padis(c, "image", "prepull", "-n", s.name, r.Ref("later:1"))
	must(t, err)
	for host := range hosts {
		list, err := cluster.On(c, host, "ctr", "-n", "padis", "image", "ls", "-q")
		must(t, err)
		if !strings.Contains(list, r.Ref("later:1")) {
			t.Errorf("%s has only\n%s, after\n%s", host, list, out)
		}
	}
	if out, err := cluster.Padis(c, "image", "prepull", "-n", s.name, "--timeout", "10s", r.Ref("never:1")); err == nil || !strings.Contains(out, "never:1") {
		t.Errorf("an image that there is not: %v\n%s", err, out)
	}
}

// What is wrong with an image or a container shows within seconds, with its reason.
func TestContainersThatCannotRun(t *testing.T) {
	s := newSpace(t)
	c := ctx(t)
	r := images(t, c, s, registry.Options{Users: map[string]string{"reader": "right"}})
	_, err := r.PushBusybox("page:1", registry.Config{})
	must(t, err)
	_, err = r.PushBusybox("arm:1", registry.Config{Platform: "linux/arm64"})
	must(t, err)
	for name, password := range map[string]string{"right": "right", "wrong": "wrong"} {
		_, err = cluster.Padis(c, "create", "secret", "docker-registry", name, "-n", s.name,
			"--docker-server", r.Host(), "--docker-username", "reader", "--docker-password", password)
		must(t, err)
	}
	const pull = `, imagePullSecrets: [{name: right}]`
	for name, k := range map[string]struct{ template, reason, says string }{
		"missing":      {`image: "` + r.Ref("nothing:1") + `"` + pull, "ImageNotFound", "nothing:1"},
		"no-secret":    {`image: "` + r.Ref("page:2") + `"`, "ImageUnauthorized", "imagePullSecrets"},
		"wrong-secret": {`image: "` + r.Ref("page:3") + `", imagePullSecrets: [{name: wrong}]`, "ImageUnauthorized", "imagePullSecrets"},
		"arm":          {`image: "` + r.Ref("arm:1") + `"` + pull, "ImageArchitecture", "arm64"},
		"no-registry":  {`image: "172.31.1.2:9/page:1"`, "RegistryUnavailable", "172.31.1.2:9"},
		"no-program":   {`image: "` + r.Ref("page:1") + `", command: [no-such-program]` + pull, "CommandNotFound", "no-such-program"},
		"no-user":      {`image: "` + r.Ref("page:1") + `", command: [sleep, "9"], user: nobody-knows` + pull, "UserNotFound", "nobody-knows"},
		"out-of-memory": {`image: "` + r.Ref("page:1") + `", command: [sh, -c, "x=x; while :; do x=$x$x; done"], resources: {memory: 16Mi}` + pull,
			"OOMKilled", "16 MiB"},
		"no-config": {`image: "` + r.Ref("page:1") + `", command: [sleep, "9"], volumes: [{name: c, mountPath: /c, configMap: {name: no-such-config}}]` + pull,
			"ConfigNotFound", "no-such-config"},
	} {
		t.Run(name, func(t *testing.T) {
			c := ctx(t)
			_, err := apply(c, "apiVersion: padis.io/v1alpha1\nkind: App\nmetadata: {name: "+name+", namespace: "+s.name+"}\nspec: {template: {"+k.template+"}}\n")
			must(t, err)
			until(t, c, k.reason, func() (bool, string) {
				app, err := cluster.App(c, s.name, name)
				must(t, err)
				out, err := cluster.Padis(c, "why", "app/"+name, "-n", s.name)
				must(t, err)
				return strings.Contains(out, k.reason) && strings.Contains(out, k.says) && notAvailable(app, k.reason), out
			})
		})
	}
	// Not for want of a path: with the right credentials the same registry serves.
	_, err = apply(c, "apiVersion: padis.io/v1alpha1\nkind: App\nmetadata: {name: good, namespace: "+s.name+"}\nspec: {template: {image: \""+r.Ref("page:1")+"\", command: [sleep, \"1000\"]"+pull+"}}\n")
	must(t, err)
	_, err = cluster.WaitReady(c, s.name, "good", 1)
	must(t, err)
}

// Configuration follows without a restart where a signal is enough, and by a restart where that is wanted.
func TestConfigurationFollows(t *testing.T) {
	s := newSpace(t)
	c := ctx(t)
	r := images(t, c, s, registry.Options{})
	_, err := r.PushBusybox("page:1", registry.Config{})
	must(t, err)
	const configured = `
apiVersion: v1
kind: ConfigMap
metadata: {name: page, namespace: {{.Space.Name}}}
data: {word: "{{.App.Word}}"}
---
apiVersion: v1
kind: Secret
metadata: {name: page, namespace: {{.Space.Name}}}
stringData: {token: "{{.App.Token}}"}
---
apiVersion: padis.io/v1alpha1
kind: App
metadata: {name: page, namespace: {{.Space.Name}}}
spec:
  template:
    image: {{.App.Image}}
    command:
    - sh
    - -c
    - |
      cat /proc/sys/kernel/random/uuid >/www/start
      page() { { hostname; cat /etc/page/word; echo; echo $TOKEN; cat /www/start; } >/www/new; mv /www/new /www/index.html; }
      page
      trap page HUP
      httpd -p 8080 -h /www
      while :; do sleep 1000 & wait $!; done
    env: [{name: TOKEN, valueFrom: {secretKeyRef: {name: page, key: token}}}]
    security: {readOnlyRootFilesystem: true}
    volumes:
    - {name: config, mountPath: /etc/page, configMap: {name: page, onChange: Signal, signal: SIGHUP}}
    - {name: www, mountPath: /www, emptyDir: {}}
    healthChecks: [{tcp: {port: 8080}, interval: 1s, timeout: 1s}]
  networks: [{pool: {{.Space.Name}}}]
`
	type values struct{ Image, Word, Token string }
	must(t, s.apply(c, configured, values{r.Ref("page:1"), "alpha", "red"}))
	is, err := cluster.WaitReady(c, s.name, "page", 1)
	must(t, err)
	shows := func(word, token string) (start string) {
		t.Helper()
		until(t, c, word+" "+token, func() (bool, string) {
			got, err := cluster.Fetch(c, is, 8080, "/")
			if err != nil {
				return false, err.Error()
			}
			lines := strings.Split(got["page-0"], "\n")
			if len(lines) < 4 || lines[1] != word || lines[2] != token {
				return false, got["page-0"]
			}
			start = lines[3]
			return true, ""
		})
		return start
	}
	first := shows("alpha", "red")
	must(t, s.apply(c, configured, values{r.Ref("page:1"), "beta", "red"}))
	if second := shows("beta", "red"); second != first {
		t.Error("a changed file that is followed by a signal started the instance anew")
	}
	// The environment of a program cannot change: it is an update.
	must(t, s.apply(c, configured, values{r.Ref("page:1"), "beta", "blue"}))
	if third := shows("beta", "blue"); third == first {
		t.Error("the environment of a running program has changed")
	}
}
