package server

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"unicode/utf8"

	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/apiserver/plugin/pkg/authenticator/token/oidc"
)

// OIDC is an issuer of ID tokens (OpenID Connect) that are believed. The names and their meaning are those of
// kube-apiserver.
type OIDC struct {
	// IssuerURL is https; what it says of itself is read below it.
	IssuerURL string
	// ClientID is whom tokens must be meant for.
	ClientID string
	// UsernameClaim is the claim that is the user's name; default is sub.
	UsernameClaim string
	// UsernamePrefix goes before it, so that names are not those of other users; default is the issuer and "#", or none for
	// the claim email. "-" is none.
	UsernamePrefix string
	// GroupsClaim is the claim that lists the user's groups; without it there are none.
	GroupsClaim string
	// GroupsPrefix goes before them.
	GroupsPrefix string
	// CAFile has who signed the issuer's certificate, in PEM; default is whom this host believes.
	CAFile string
}

func (o OIDC) check() error {
	if o == (OIDC{}) {
		return nil
	}
	u, err := url.Parse(o.IssuerURL)
	switch {
	case o.IssuerURL == "":
		return errors.New("OIDC: whose tokens are to be believed must be said: name the issuer's URL")
	case err != nil || u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("OIDC: issuer %q: must be a URL that begins with https://", o.IssuerURL)
	case o.ClientID == "":
		return fmt.Errorf("OIDC: issuer %s: tokens of others would be believed, too: name the client's ID", o.IssuerURL)
	case o.GroupsClaim == "" && o.GroupsPrefix != "":
		return fmt.Errorf("OIDC: the prefix of groups %q is of no use without a claim that lists them", o.GroupsPrefix)
	}
	return nil
}

func (o OIDC) usernamePrefix() string {
	switch {
	case o.UsernamePrefix == "-":
		return ""
	case o.UsernamePrefix == "" && o.UsernameClaim != "email":
		return o.IssuerURL + "#"
	}
	return o.UsernamePrefix
}

// authenticator believes the issuer's tokens until ctx ends. The issuer need not be there yet: until it is, its tokens are
// refused.
func (o OIDC) authenticator(ctx context.Context) (authenticator.Token, error) {
	claim := o.UsernameClaim
	if claim == "" {
		claim = "sub"
	}
	prefix, groups := o.usernamePrefix(), o.GroupsPrefix
	opts := oidc.Options{
		JWTAuthenticator: apiserver.JWTAuthenticator{
			Issuer:        apiserver.Issuer{URL: o.IssuerURL, Audiences: []string{o.ClientID}},
			ClaimMappings: apiserver.ClaimMappings{Username: apiserver.PrefixedClaimOrExpression{Claim: claim, Prefix: &prefix}},
			// Else whoever names groups at the issuer could make masters.
			UserValidationRules: []apiserver.UserValidationRule{
				{Expression: fmt.Sprintf("user.username.size() > %d", utf8.RuneCountInString(prefix)), Message: "a user has a name: the claim " + claim + " is empty"},
				{Expression: "!user.username.startsWith('system:')", Message: "names that begin with system: are not the issuer's to give"},
				{Expression: "user.groups.all(g, !g.startsWith('system:'))", Message: "groups that begin with system: are not the issuer's to give"},
			},
		},
		SupportedSigningAlgs: oidc.AllValidSigningAlgorithms(),
		DisallowedIssuers:    []string{tokenIssuer},
	}
	if o.GroupsClaim != "" {
		opts.JWTAuthenticator.ClaimMappings.Groups = apiserver.PrefixedClaimOrExpression{Claim: o.GroupsClaim, Prefix: &groups}
	}
	if o.CAFile != "" {
		text, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("OIDC: certificate authority: %w", err)
		}
		if opts.CAContentProvider, err = dynamiccertificates.NewStaticCAContent("oidc", text); err != nil {
			return nil, fmt.Errorf("OIDC: certificate authority %s: %w", o.CAFile, err)
		}
	}
	out, err := oidc.New(ctx, opts)
	if err != nil {
		return nil, fmt.Errorf("OIDC: issuer %s: %w", o.IssuerURL, err)
	}
	return out, nil
}
