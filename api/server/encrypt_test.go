package server

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/storage/value"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
)

func TestSecretsAreEncryptedAtRest(t *testing.T) {
	kc(t, "", "create", "namespace", "sealed")
	kc(t, "", "create", "secret", "generic", "s", "-n", "sealed", "--from-literal=a=hunter2")
	kc(t, "", "create", "configmap", "c", "-n", "sealed", "--from-literal=a=visible")
	etcd, err := clientv3.New(clientv3.Config{Endpoints: shared.EtcdEndpoints()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = etcd.Close() }()
	raw := func(key string) []byte {
		r, err := etcd.Get(t.Context(), key)
		if err != nil || len(r.Kvs) != 1 {
			t.Fatalf("%s: %v, %v", key, r, err)
		}
		return r.Kvs[0].Value
	}
	if got := raw("/registry/secrets/sealed/s"); !bytes.HasPrefix(got, []byte(sealed)) || bytes.Contains(got, []byte("hunter2")) {
		t.Errorf("the secret is not encrypted: %q", got)
	}
	if got := raw("/registry/configmaps/sealed/c"); !bytes.Contains(got, []byte("visible")) {
		t.Errorf("the config map is encrypted: %q", got)
	}
	contains(t, kc(t, "", "get", "secret", "s", "-n", "sealed", "-o", "jsonpath={.data.a}"), base64.StdEncoding.EncodeToString([]byte("hunter2")))

	// One from before there was a key can be read, and is encrypted when it is written next.
	plain := `{"kind":"Secret","apiVersion":"v1","metadata":{"name":"old","namespace":"sealed","uid":"u"},"data":{"a":"b2xk"},"type":"Opaque"}`
	if _, err := etcd.Put(t.Context(), "/registry/secrets/sealed/old", plain); err != nil {
		t.Fatal(err)
	}
	client, err := corev1client.NewForConfig(shared.LoopbackConfig())
	if err != nil {
		t.Fatal(err)
	}
	var old *corev1.Secret
	eventually(t, "the old secret is served", func() (bool, error) {
		old, err = client.Secrets("sealed").Get(t.Context(), "old", metav1.GetOptions{})
		return err == nil && string(old.Data["a"]) == "old", err
	})
	old.Labels = map[string]string{"touched": "yes"}
	if _, err := client.Secrets("sealed").Update(t.Context(), old, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := raw("/registry/secrets/sealed/old"); !bytes.HasPrefix(got, []byte(sealed)) {
		t.Errorf("still not encrypted: %q", got)
	}
}

func TestTheKeyOfSecrets(t *testing.T) {
	secrets := schema.GroupResource{Resource: "secrets"}
	about := value.DefaultContext("/registry/secrets/a/b")
	dir := t.TempDir()
	open := func(c Config) value.Transformer {
		t.Helper()
		s, err := newSealing(&c, zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		return s.TransformerForResource(secrets)
	}
	hidden, err := open(Config{DataDir: dir}).TransformToStorage(t.Context(), []byte("text"), about)
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, secretsKeyFile)
	if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key: %v, %v", info, err)
	}
	// The same key after a restart, and by name beside an external etcd.
	for _, c := range []Config{{DataDir: dir}, {DataDir: t.TempDir(), SecretsKeyFile: key, EtcdServers: []string{"http://etcd"}}} {
		if text, _, err := open(c).TransformFromStorage(t.Context(), hidden, about); err != nil || string(text) != "text" {
			t.Errorf("%q, %v", text, err)
		}
	}
	_, _, err = open(Config{DataDir: t.TempDir()}).TransformFromStorage(t.Context(), hidden, about)
	if err == nil || !strings.Contains(err.Error(), "use the key that it was written with") {
		t.Errorf("read with another key: %v", err)
	}
	if s, err := newSealing(&Config{DataDir: t.TempDir(), EtcdServers: []string{"http://etcd"}}, zap.NewNop()); s != nil || err != nil {
		t.Errorf("a key of its own for an etcd of many: %v, %v", s, err)
	}
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"short":  {"aGVsbG8=", 0o600, "is not base64 of 32 bytes"},
		"words":  {"hello there", 0o600, "is not base64 of 32 bytes"},
		"public": {base64.StdEncoding.EncodeToString(make([]byte, 32)), 0o644, "can be read by others"},
	} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(c.text), c.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := newSealing(&Config{SecretsKeyFile: path}, zap.NewNop()); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := newSealing(&Config{SecretsKeyFile: filepath.Join(dir, "none")}, zap.NewNop()); err == nil {
		t.Error("a key that is not there was made up")
	}
}
