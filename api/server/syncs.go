package server

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"net/http"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/request/bearertoken"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/rest"

	"padis.io/padis/api/origin"
)

// SyncUser is who the Syncs of this process are, unless they impersonate somebody.
const SyncUser = "system:padis:sync"

// What is known of the origin of a request goes with its user, since that is what the audit log keeps of it in any case,
// also when the request is refused.
const (
	commitExtra = "padis.io/commit"
	authorExtra = "padis.io/author"
	signerExtra = "padis.io/signer"
)

// syncs knows the Syncs of this process by a token that never leaves it. Of them, and of nobody else, it reads the headers
// that say where a change comes from.
type syncs struct{ token string }

func newSyncs() syncs {
	b := make([]byte, 32)
	// It never fails: it ends the program rather.
	_, _ = rand.Read(b)
	return syncs{hex.EncodeToString(b)}
}

// AuthenticateRequest leaves requests of others to the next authenticator.
func (s syncs) AuthenticateRequest(r *http.Request) (*authenticator.Response, bool, error) {
	if r.Header.Get("Authorization") == "" {
		return nil, false, nil
	}
	// A token of somebody else is no error of his.
	answer, ok, err := bearertoken.New(authenticator.TokenFunc(s.authenticate)).AuthenticateRequest(r)
	if err != nil || !ok {
		return nil, false, nil //nolint:nilerr
	}
	who := answer.User.(*user.DefaultInfo)
	o := origin.Read(r.Header)
	for key, value := range map[string]string{commitExtra: o.Commit, authorExtra: o.Author, signerExtra: o.Signer} {
		if value != "" {
			who.Extra[key] = []string{value}
		}
	}
	return answer, true, nil
}

func (s syncs) authenticate(_ context.Context, token string) (*authenticator.Response, bool, error) {
	if subtle.ConstantTimeCompare([]byte(token), []byte(s.token)) != 1 {
		return nil, false, nil
	}
	return &authenticator.Response{User: &user.DefaultInfo{Name: SyncUser, Groups: []string{user.AllAuthenticated, masters}, Extra: map[string][]string{}}}, true, nil
}

// SyncConfig is for the Syncs of this process. They are allowed everything; whom they act for is to be set in Impersonate.
// What origin.With says of a request's context is in the audit log's line of it.
func (s *Server) SyncConfig() *rest.Config {
	cfg := rest.CopyConfig(s.loopback)
	cfg.BearerToken = s.syncs.token
	cfg.Wrap(origin.Transport)
	return cfg
}
