package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/storage/value"
	"k8s.io/apiserver/pkg/storage/value/encrypt/aes"
	"k8s.io/apiserver/pkg/storage/value/encrypt/identity"
)

const (
	// secretsKeyFile is the key's name in the data directory.
	secretsKeyFile = "secrets.key"
	// secretsKeySize is that of AES-256 derived for each value.
	secretsKeySize = 32
	// sealed is what encrypted values begin with; what does not was written before there was a key.
	sealed = "k8s:enc:aesgcm:v1:padis:"
)

// sealing encrypts Secrets at rest.
type sealing struct{ secrets value.Transformer }

// TransformerForResource implements value.ResourceTransformers.
func (s sealing) TransformerForResource(r schema.GroupResource) value.Transformer {
	if r.Group == "" && r.Resource == "secrets" {
		return s.secrets
	}
	return identity.NewEncryptCheckTransformer()
}

// newSealing takes the key from a file, which must be there if it was named, and is made in the data directory otherwise.
// All servers that share an etcd need the same key, so that with an external etcd none is made: without a name Secrets are
// then not encrypted.
func newSealing(cfg *Config, log *zap.Logger) (value.ResourceTransformers, error) {
	path, named := cfg.SecretsKeyFile, cfg.SecretsKeyFile != ""
	if !named {
		if len(cfg.EtcdServers) > 0 {
			log.Warn("secrets are not encrypted in the external etcd: give all servers the same key file")
			return nil, nil
		}
		path = filepath.Join(cfg.DataDir, secretsKeyFile)
	}
	seed, err := readSecretsKey(path)
	if errors.Is(err, fs.ErrNotExist) && !named {
		seed, err = makeSecretsKey(path)
	}
	if err != nil {
		return nil, err
	}
	gcm, err := aes.NewHKDFExtendedNonceGCMTransformer(seed)
	if err != nil {
		return nil, fmt.Errorf("key of secrets %s: %w", path, err)
	}
	return sealing{explained{value.NewPrefixTransformers(
		errors.New("it was encrypted in a way that this version does not know"),
		value.PrefixTransformer{Prefix: []byte(sealed), Transformer: gcm},
		value.PrefixTransformer{Prefix: []byte{}, Transformer: identity.NewEncryptCheckTransformer()},
	), path}}, nil
}

func readSecretsKey(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("key of secrets: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("key of secrets: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("key of secrets %s can be read by others (%s): chmod 600 it", path, info.Mode().Perm())
	}
	seed, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil || len(seed) != secretsKeySize {
		return nil, fmt.Errorf("key of secrets %s: is not base64 of %d bytes: make one with: head -c %d /dev/urandom | base64", path, secretsKeySize, secretsKeySize)
	}
	return seed, nil
}

func makeSecretsKey(path string) ([]byte, error) {
	seed := make([]byte, secretsKeySize)
	rand.Read(seed) //nolint:errcheck // it never fails
	if err := writeFile(path, []byte(base64.StdEncoding.EncodeToString(seed)+"\n"), 0o600); err != nil {
		return nil, fmt.Errorf("key of secrets: %w", err)
	}
	return seed, nil
}

// explained says of which key it was that a value cannot be read.
type explained struct {
	value.Transformer
	key string
}

// TransformFromStorage implements value.Transformer.
func (e explained) TransformFromStorage(ctx context.Context, data []byte, about value.Context) ([]byte, bool, error) {
	out, stale, err := e.Transformer.TransformFromStorage(ctx, data, about)
	if err != nil {
		err = fmt.Errorf("a secret cannot be read with the key %s: use the key that it was written with: %w", e.key, err)
	}
	return out, stale, err
}
