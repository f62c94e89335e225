package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/group"
	"k8s.io/apiserver/pkg/authentication/request/anonymous"
	"k8s.io/apiserver/pkg/authentication/request/bearertoken"
	"k8s.io/apiserver/pkg/authentication/request/union"
	"k8s.io/apiserver/pkg/authentication/request/x509"
	"k8s.io/apiserver/pkg/authentication/token/tokenfile"
	tokenunion "k8s.io/apiserver/pkg/authentication/token/union"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"

	"padis.io/padis/api/server/roles"
)

// masters is the group that is allowed everything.
const masters = roles.Masters

// newAuthenticator knows clients by their certificate, by a token of DATA/tokens.csv, which has lines of
// TOKEN,USER,UID,"GROUP,GROUP", or by other tokens. The file is read at the start; without it there are no such tokens.
func newAuthenticator(dataDir string, clientCA dynamiccertificates.CAContentProvider, others ...authenticator.Token) (authenticator.Request, error) {
	known := []authenticator.Request{x509.NewDynamic(clientCA.VerifyOptions, x509.CommonNameUserConversion)}
	path := filepath.Join(dataDir, "tokens.csv")
	tokens, err := tokenfile.NewCSV(path)
	switch {
	case err == nil:
		if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
			return nil, fmt.Errorf("%s can be read by others: chmod 600 %s", path, path)
		}
		others = append([]authenticator.Token{tokens}, others...)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: %w: write lines of TOKEN,USER,UID,\"GROUP,GROUP\"", path, err)
	}
	if len(others) > 0 {
		known = append(known, bearertoken.New(tokenunion.New(others...)))
	}
	var public []apiserver.AnonymousAuthCondition
	for _, p := range roles.PublicPaths {
		public = append(public, apiserver.AnonymousAuthCondition{Path: p})
	}
	return union.New(group.NewAuthenticatedGroupAdder(union.New(known...)), anonymous.NewAuthenticator(public)), nil
}
