package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
)

const (
	// tokenIssuer is who made the tokens of service accounts, and tokenAudience whom they are meant for unless asked
	// otherwise.
	tokenIssuer   = "https://padis.io/serviceaccounts"
	tokenAudience = "padis"
	// tokenKeyFile is the key's name below DATA/pki.
	tokenKeyFile = "serviceaccounts.key"
)

// accountClaims are what a token says. The private ones have the names that Kubernetes gives them.
type accountClaims struct {
	jwt.RegisteredClaims
	Private struct {
		Namespace string `json:"namespace"`
		Account   struct {
			Name string `json:"name"`
			UID  string `json:"uid"`
		} `json:"serviceaccount"`
	} `json:"kubernetes.io"`
}

// accountTokens signs tokens of service accounts and knows them again.
type accountTokens struct {
	signer *ecdsa.PrivateKey
	id     string
	known  map[string]*ecdsa.PublicKey // by id
	who    *grants
	now    func() time.Time
}

var _ authenticator.Token = &accountTokens{}

// newAccountTokens takes the keys from a file, which must be there if it was named, and is made in the data directory
// otherwise.
func newAccountTokens(cfg *Config, who *grants, log *zap.Logger) (*accountTokens, error) {
	path, named := cfg.ServiceAccountKeyFile, cfg.ServiceAccountKeyFile != ""
	if !named {
		path = filepath.Join(cfg.DataDir, "pki", tokenKeyFile)
		if len(cfg.EtcdServers) > 0 {
			log.Warn("tokens of service accounts are valid at the server that made them only: give all servers the same key file")
		}
	}
	keys, err := readTokenKeys(path)
	if errors.Is(err, fs.ErrNotExist) && !named {
		keys, err = makeTokenKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("key of service accounts: %w", err)
	}
	out := &accountTokens{signer: keys[0], known: map[string]*ecdsa.PublicKey{}, who: who, now: time.Now}
	for i, k := range keys {
		id, err := tokenKeyID(&k.PublicKey)
		if err != nil {
			return nil, fmt.Errorf("key of service accounts: %s: %w", path, err)
		}
		if i == 0 {
			out.id = id
		}
		out.known[id] = &k.PublicKey
	}
	return out, nil
}

func readTokenKeys(path string) ([]*ecdsa.PrivateKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (%s): chmod 600 it", path, info.Mode().Perm())
	}
	return parseTokenKeys(path, text)
}

// parseTokenKeys reads PEM; blocks of parameters, which openssl writes before a key, are passed over.
func parseTokenKeys(path string, text []byte) ([]*ecdsa.PrivateKey, error) {
	const remedy = "make one with: (umask 077; openssl ecparam -name prime256v1 -genkey -noout >FILE)"
	var keys []*ecdsa.PrivateKey
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "EC PARAMETERS" {
			continue
		}
		key, err := parseTokenKey(block)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w: %s", path, block.Type, err, remedy)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s: no key in PEM: %s", path, remedy)
	}
	return keys, nil
}

func parseTokenKey(block *pem.Block) (*ecdsa.PrivateKey, error) {
	var parsed any
	parsed, err := x509.ParseECPrivateKey(block.Bytes)
	if block.Type == "PRIVATE KEY" {
		parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("is not a private key of the curve P-256")
	}
	return key, nil
}

func makeTokenKey(path string) ([]*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return []*ecdsa.PrivateKey{key}, writeFile(path, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
}

func tokenKeyID(key *ecdsa.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:8]), nil
}

// issue makes a token of an account.
func (t *accountTokens) issue(account *corev1.ServiceAccount, audiences []string, life time.Duration) (string, time.Time, error) {
	if len(audiences) == 0 {
		audiences = []string{tokenAudience}
	}
	now := t.now()
	until := now.Add(life)
	c := accountClaims{RegisteredClaims: jwt.RegisteredClaims{
		Issuer: tokenIssuer, Subject: serviceaccount.MakeUsername(account.Namespace, account.Name), Audience: audiences, ID: uuid.NewString(),
		IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(until),
	}}
	c.Private.Namespace, c.Private.Account.Name, c.Private.Account.UID = account.Namespace, account.Name, string(account.UID)
	token := jwt.NewWithClaims(jwt.SigningMethodES256, c)
	token.Header["kid"] = t.id
	signed, err := token.SignedString(t.signer)
	return signed, until, err
}

// AuthenticateToken knows tokens that it signed, as long as their account is the one that they were made for. Tokens of
// others are none of its business.
func (t *accountTokens) AuthenticateToken(ctx context.Context, text string) (*authenticator.Response, bool, error) {
	var unverified jwt.RegisteredClaims
	if _, _, err := jwt.NewParser().ParseUnverified(text, &unverified); err != nil || unverified.Issuer != tokenIssuer {
		return nil, false, nil
	}
	c, err := t.verify(text)
	if err != nil {
		return nil, false, err
	}
	if err := t.who.checkAccount(ctx, c.Private.Namespace, c.Private.Account.Name, c.Private.Account.UID); err != nil {
		return nil, false, err
	}
	account := serviceaccount.ServiceAccountInfo{Namespace: c.Private.Namespace, Name: c.Private.Account.Name, UID: c.Private.Account.UID, CredentialID: "JTI=" + c.ID}
	return &authenticator.Response{User: account.UserInfo()}, true, nil
}

// verify checks everything about a token that can be checked without knowing the accounts.
func (t *accountTokens) verify(text string) (*accountClaims, error) {
	c := &accountClaims{}
	_, err := jwt.ParseWithClaims(text, c, func(token *jwt.Token) (any, error) {
		id, _ := token.Header["kid"].(string)
		if key := t.known[id]; key != nil {
			return key, nil
		}
		return nil, fmt.Errorf("it was signed with key %q, which this server does not have", id)
	}, jwt.WithValidMethods([]string{jwt.SigningMethodES256.Alg()}), jwt.WithIssuer(tokenIssuer), jwt.WithAudience(tokenAudience), jwt.WithExpirationRequired(), jwt.WithTimeFunc(t.now))
	if err != nil {
		return nil, fmt.Errorf("token of a service account: %w", err)
	}
	if c.Subject != serviceaccount.MakeUsername(c.Private.Namespace, c.Private.Account.Name) {
		return nil, errors.New("token of a service account: its subject is not its account")
	}
	return c, nil
}

// checkAccount makes sure that an account is there and the one that is meant. What is not known is asked for: it may have been made
// a moment ago.
func (g *grants) checkAccount(ctx context.Context, namespace, name, uid string) error {
	if !g.isConnected() {
		return errors.New("token of a service account: the server is starting")
	}
	account, err := g.accounts.ServiceAccounts(namespace).Get(name)
	if err != nil || string(account.UID) != uid {
		account, err = g.client.CoreV1().ServiceAccounts(namespace).Get(ctx, name, metav1.GetOptions{})
	}
	switch {
	case apierrors.IsNotFound(err) || err == nil && string(account.UID) != uid:
		return fmt.Errorf("token of a service account: %s/%s was deleted: make a token of the one that is there now", namespace, name)
	case err != nil:
		return err
	case account.DeletionTimestamp != nil:
		return fmt.Errorf("token of a service account: %s/%s is being deleted", namespace, name)
	}
	return nil
}
