package padisv1

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"
)

// BridgeName is the bridge, on each host, of a Network that names none: "pb-" and twelve characters of a digest of its name.
// Executors make it; the scheduler finds the host's addresses on it, where it took them over from its parent.
func BridgeName(network string) string { return "pb-" + Digest(network, 12) }

// Digest gives the first characters, at most 52, of the SHA-256 of s in lower-case letters and the digits 2 to 7: what names of
// interfaces are made of.
func Digest(s string, length int) string {
	h := sha256.Sum256([]byte(s))
	return strings.ToLower(base32.StdEncoding.EncodeToString(h[:]))[:length]
}
