package gitops

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/reconcile/gitops/source"
	"padis.io/padis/reconcile/gitops/source/signature"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// believed is a signer of a source with the keys by which it is known.
type believed struct {
	v1alpha1.GitSigner
	keys *signature.Keys
}

// trust is whom a source believes.
type trust struct {
	mode    string
	signers []believed
	// rules is a digest of all this, keys included.
	rules string
}

// readTrust reads the keys of a source's signers.
func readTrust(ctx context.Context, c client.Reader, s *v1alpha1.GitSource) (trust, error) {
	t := trust{mode: s.Spec.Mode()}
	if t.mode == v1alpha1.VerifyNone {
		return t, nil
	}
	rules := sha256.New()
	if err := json.NewEncoder(rules).Encode(s.Spec.Verify); err != nil {
		return t, err
	}
	for i, signer := range s.Spec.Verify.Signers {
		data, err := readKey(ctx, c, s.Namespace, signer)
		if err != nil {
			return t, fmt.Errorf("spec.verify.signers[%d]: %w", i, err)
		}
		fmt.Fprintf(rules, "%d\n%s", len(data), data)
		var from signature.Trust
		switch signer.Type {
		case v1alpha1.SignerSSH:
			from.AllowedSigners = data
		case v1alpha1.SignerGPG:
			from.Keyring = data
		case v1alpha1.SignerX509:
			from.Roots = data
		}
		keys, err := signature.Read(from)
		if err != nil {
			return t, fmt.Errorf("spec.verify.signers[%d]: %w", i, err)
		}
		t.signers = append(t.signers, believed{signer, keys})
	}
	t.rules = string(rules.Sum(nil))
	return t, nil
}

func readKey(ctx context.Context, c client.Reader, namespace string, signer v1alpha1.GitSigner) ([]byte, error) {
	if ref := signer.ConfigMapKeyRef; ref != nil {
		var m corev1.ConfigMap
		if err := c.Get(ctx, types.NamespacedName{Namespace: namespace, Name: ref.Name}, &m); err != nil {
			return nil, fmt.Errorf("read configmap %s/%s: %w", namespace, ref.Name, err)
		}
		if text, ok := m.Data[ref.Key]; ok {
			return []byte(text), nil
		}
		if data, ok := m.BinaryData[ref.Key]; ok {
			return data, nil
		}
		return nil, fmt.Errorf("configmap %s/%s has no key %s: add it", namespace, ref.Name, ref.Key)
	}
	ref := signer.SecretKeyRef
	if ref == nil {
		return nil, fmt.Errorf("it names no keys: set secretKeyRef or configMapKeyRef")
	}
	data, err := readSecret(ctx, c, namespace, ref.Name)
	if err != nil {
		return nil, err
	}
	if _, ok := data[ref.Key]; !ok {
		return nil, fmt.Errorf("secret %s/%s has no key %s: add it", namespace, ref.Name, ref.Key)
	}
	return data[ref.Key], nil
}

func readSecret(ctx context.Context, c client.Reader, namespace, name string) (map[string][]byte, error) {
	var s corev1.Secret
	if err := c.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, &s); err != nil {
		return nil, fmt.Errorf("read secret %s/%s: %w", namespace, name, err)
	}
	return s.Data, nil
}

// verify says who vouches for a revision with all that it changes; nil if nobody has to.
func (t trust) verify(repos repositories, rev source.Revision) (*v1alpha1.Signer, error) {
	var signer *v1alpha1.Signer
	if t.mode == v1alpha1.VerifyTag || t.mode == v1alpha1.VerifyTagAndCommit {
		if rev.Tag == "" {
			return nil, &signature.Error{Reason: signature.ReasonNotSigned, Object: "commit " + rev.Commit,
				Message: "it was not found by an annotated tag, and spec.verify.mode is " + t.mode + ": make one with git tag -s, or use the mode Commit"}
		}
		var err error
		if signer, err = t.vouched(repos, rev, signature.Tag, rev.Tag); err != nil {
			return nil, err
		}
	}
	if t.mode == v1alpha1.VerifyCommit || t.mode == v1alpha1.VerifyTagAndCommit {
		by, err := t.vouched(repos, rev, signature.Commit, rev.Commit)
		if err != nil {
			return nil, err
		}
		signer = by
	}
	return signer, nil
}

// again says whether a commit that is not the newest may be read: one that was in force before (applied), or any other.
// Which paths others change cannot be told, since nobody knows from what; and of a tag by which a commit came nothing is kept
// but that it was applied.
func (t trust) again(repos repositories, rev source.Revision, applied bool) error {
	bounded := slices.ContainsFunc(t.signers, func(b believed) bool { return len(b.Paths) > 0 })
	switch {
	case !applied && bounded && t.mode != v1alpha1.VerifyNone:
		return &signature.Error{Reason: signature.ReasonSignerNotAllowed, Object: "commit " + rev.Commit,
			Message: "it was not in force before, so that nobody can tell what it changes and whether its signer may: go back to one of status.history, or commit what is wanted anew"}
	case applied && t.mode == v1alpha1.VerifyTag:
		return nil
	case applied && t.mode == v1alpha1.VerifyTagAndCommit:
		t.mode = v1alpha1.VerifyCommit
	}
	_, err := t.verify(repos, rev)
	return err
}

// vouched finds the signers who have signed an object, and sees that they may change all that it changes.
func (t trust) vouched(repos repositories, rev source.Revision, kind signature.Kind, hash string) (*v1alpha1.Signer, error) {
	content, err := repos.Object(rev, hash)
	if err != nil {
		return nil, err
	}
	object, err := signature.Parse(kind, hash, content)
	if err != nil {
		return nil, err
	}
	var (
		signer *v1alpha1.Signer
		refuse error
		paths  [][]string
	)
	for _, b := range t.signers {
		var s signature.Signer
		if kind == signature.Tag {
			s, err = b.keys.VerifyTag(object, rev.Commit)
		} else {
			s, err = b.keys.Verify(object)
		}
		if err != nil {
			refuse = err
			continue
		}
		identity, ok := counts(b.Identities, s)
		if !ok {
			refuse = &signature.Error{Reason: signature.ReasonSignerNotAllowed, Object: string(kind) + " " + hash, Key: s.Key,
				Message: fmt.Sprintf("it is signed by %s, who is none of %s: add the identity, or have one of them sign", s, strings.Join(b.Identities, ", "))}
			continue
		}
		if signer == nil {
			signer = &v1alpha1.Signer{Type: b.Type, Identity: identity, Key: s.Key}
		}
		paths = append(paths, b.Paths)
	}
	if signer == nil {
		if refuse == nil {
			refuse = &signature.Error{Reason: signature.ReasonSignerUnknown, Object: string(kind) + " " + hash, Message: "nobody is believed: list signers in spec.verify.signers"}
		}
		return nil, refuse
	}
	for _, file := range rev.Changed {
		if !slices.ContainsFunc(paths, func(globs []string) bool { return covers(globs, file) }) {
			return nil, &signature.Error{Reason: signature.ReasonSignerNotAllowed, Object: string(kind) + " " + hash, Key: signer.Key, Path: file,
				Message: fmt.Sprintf("it changes %s and is signed by %s (%s), who may not: have another sign it, or add the path to those of the signer", file, signer.Identity, signer.Key)}
		}
	}
	return signer, nil
}

// counts tells whether a signer is one of those that are meant, and as whom it is known. Without any, all are.
func counts(identities []string, s signature.Signer) (string, bool) {
	if len(identities) == 0 {
		if len(s.Identities) == 0 {
			return s.Key, true
		}
		return s.Identities[0], true
	}
	for _, id := range append(slices.Clone(s.Identities), s.Key) {
		if slices.Contains(identities, id) {
			return id, true
		}
	}
	return "", false
}

func covers(globs []string, file string) bool {
	return len(globs) == 0 || slices.ContainsFunc(globs, func(g string) bool { return signature.Glob(g, file) })
}
