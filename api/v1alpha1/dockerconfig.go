package v1alpha1

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// DockerConfigType and DockerConfigKey are the type of Secrets with credentials of registries, and the key that has them.
const (
	DockerConfigType = "kubernetes.io/dockerconfigjson"
	DockerConfigKey  = ".dockerconfigjson"
)

// dockerHub is the host of images that name none; dockerHubs are what it is called in files of credentials.
const dockerHub = "docker.io"

var dockerHubs = []string{"index.docker.io", "registry-1.docker.io"}

// Credential lets its bearer pull from one registry.
//
// +kubebuilder:object:generate=false
type Credential struct {
	// Registry is a host, with its port if it is not the default one.
	Registry           string
	Username, Password string
	// IdentityToken is used instead of user name and password.
	IdentityToken string
}

// ParseDockerConfig reads credentials as docker login and kubectl create secret docker-registry write them, by registry.
// Of several for one registry the first by name is taken. Errors name the registry and never a secret.
func ParseDockerConfig(data []byte) ([]Credential, error) {
	var file struct {
		Auths map[string]struct {
			Username      string `json:"username"`
			Password      string `json:"password"`
			Auth          string `json:"auth"`
			IdentityToken string `json:"identitytoken"`
		} `json:"auths"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, errors.New(`is not JSON of the form {"auths": {"REGISTRY": {"username": ..., "password": ...}}}: make it with kubectl create secret docker-registry`)
	}
	if len(file.Auths) == 0 {
		return nil, errors.New("has no auths: name at least one registry, as kubectl create secret docker-registry does")
	}
	var out []Credential
	for _, name := range slices.Sorted(maps.Keys(file.Auths)) {
		host, err := registryHost(name)
		if err != nil {
			return nil, fmt.Errorf("auths[%q]: %w", name, err)
		}
		a := file.Auths[name]
		c := Credential{Registry: host, Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken}
		if a.Auth != "" && c.Username == "" && c.Password == "" {
			if c.Username, c.Password, err = basicAuth(a.Auth); err != nil {
				return nil, fmt.Errorf("auths[%q].auth: %w", name, err)
			}
		}
		if !utf8.ValidString(c.Username + c.Password + c.IdentityToken) {
			return nil, fmt.Errorf("auths[%q]: has bytes that are no text", name)
		}
		if !slices.ContainsFunc(out, func(o Credential) bool { return o.Registry == host }) {
			out = append(out, c)
		}
	}
	return out, nil
}

// registryHost takes the host out of "https://index.docker.io/v1/" and its like.
func registryHost(name string) (string, error) {
	text := name
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || !utf8.ValidString(u.Host) {
		return "", errors.New("names no registry: use its host, for example registry.example.com:5000")
	}
	if slices.Contains(dockerHubs, u.Host) {
		return dockerHub, nil
	}
	return u.Host, nil
}

func basicAuth(encoded string) (user, password string, err error) {
	plain, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return "", "", errors.New("is not base64 of USER:PASSWORD")
	}
	user, password, ok := strings.Cut(string(plain), ":")
	if !ok {
		return "", "", errors.New("is not base64 of USER:PASSWORD")
	}
	return user, password, nil
}
