package sops

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// walker decrypts values in the order of the file, which is the order of the code.
type walker struct {
	meta metadata
	key  []byte
	mac  hash.Hash
	left int

	secrets []string
}

// node decrypts n, whose keys from the top are path.
func (w *walker) node(n *yaml.Node, path []string, encrypted bool, depth int) error {
	if w.left--; w.left < 0 || depth > maxDepth {
		return fmt.Errorf("more than %d values, or nested deeper than %d levels", maxNodes, maxDepth)
	}
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Kind != yaml.ScalarNode {
				return at(n.Content[i], path, errors.New("a key that is no scalar, which sops does not write"))
			}
			below := append(path[:len(path):len(path)], n.Content[i].Value)
			if err := w.node(n.Content[i+1], below, w.meta.encrypted(below), depth+1); err != nil {
				return err
			}
		}
		return nil
	case yaml.SequenceNode:
		for _, item := range n.Content {
			if err := w.node(item, path, encrypted, depth+1); err != nil {
				return err
			}
		}
		return nil
	case yaml.ScalarNode:
		if err := w.scalar(n, path, encrypted); err != nil {
			return at(n, path, err)
		}
		return nil
	}
	return at(n, path, errors.New("an alias, which sops does not write: encrypt the file again"))
}

func at(n *yaml.Node, path []string, err error) error {
	return fmt.Errorf("line %d: %s: %w", n.Line, strings.Join(path, "."), err)
}

func (w *walker) scalar(n *yaml.Node, path []string, encrypted bool) error {
	if n.ShortTag() == "!!null" {
		return nil
	}
	if encrypted {
		v, err := decrypt(n.Value, w.key, strings.Join(path, ":")+":")
		if err != nil {
			return err
		}
		n.Value, n.Tag, n.Style = v.text, v.tag, v.style
		w.secrets = append(w.secrets, v.text)
	}
	if w.meta.macOnlyEncrypted && !encrypted {
		return nil
	}
	text, err := macText(n)
	if err != nil {
		return err
	}
	w.mac.Write([]byte(text))
	return nil
}

// value is what a scalar becomes.
type value struct {
	text, tag string
	style     yaml.Style
}

var encrypted = regexp.MustCompile(`^ENC\[AES256_GCM,data:([^,]+),iv:([^,]+),tag:([^,]+),type:([a-z]+)\]$`)

// decrypt opens one value. Where it stands is authenticated with it, so that values cannot be swapped.
func decrypt(text string, key []byte, where string) (value, error) {
	if text == "" {
		return value{tag: "!!str", style: yaml.DoubleQuotedStyle}, nil // sops leaves what is empty
	}
	m := encrypted.FindStringSubmatch(text)
	if m == nil {
		return value{}, errors.New("not encrypted, although sops' metadata says that it must be: it was added without sops")
	}
	var part [3][]byte
	for i := range part {
		b, err := base64.StdEncoding.DecodeString(m[i+1])
		if err != nil {
			return value{}, errors.New("damaged: not base64")
		}
		part[i] = b
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return value{}, errors.New("the data key is not one of AES-256")
	}
	gcm, err := cipher.NewGCMWithNonceSize(block, len(part[1])) // sops takes 32 bytes, not the usual 12
	if err != nil || len(part[2]) != gcm.Overhead() {
		return value{}, errors.New("damaged: no initialisation vector, or a tag of another length")
	}
	plain, err := gcm.Open(nil, part[1], append(part[0], part[2]...), []byte(where))
	if err != nil {
		return value{}, errors.New("it is not what sops encrypted at this place: it was changed or moved without sops")
	}
	v := value{text: string(plain)}
	switch m[4] {
	case "str", "bytes":
		v.tag, v.style = "!!str", yaml.DoubleQuotedStyle
	case "int":
		v.tag = "!!int"
	case "float":
		v.tag = "!!float"
	case "bool":
		v.tag = "!!bool"
	case "time":
		v.tag = "!!timestamp"
	default:
		return value{}, errors.New("of a type that sops does not know")
	}
	return v, nil
}
