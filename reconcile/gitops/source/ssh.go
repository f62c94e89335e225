package source

import (
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
	"golang.org/x/net/proxy"
)

// dialSSH runs git-upload-pack on the server. go-git's own client would ask the host's ssh agent, settings and known
// hosts, and cannot be told to stop.
func dialSSH(ctx context.Context, r remote, s Spec, by dialer) (session, error) {
	port := r.port
	if port == "" {
		port = "22"
	}
	addr := net.JoinHostPort(r.host, port)
	config, refused, err := sshConfig(r, s.Auth, addr)
	if err != nil {
		return nil, err
	}
	conn, err := by.through(ctx, addr, s.Proxy)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	end := func() { stop(); conn.Close() }
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	c, channels, requests, err := ssh.NewClientConn(conn, addr, config)
	if err != nil {
		end()
		if *refused != nil {
			return nil, *refused
		}
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	ses, err := ssh.NewClient(c, channels, requests).NewSession()
	if err != nil {
		end()
		return nil, err
	}
	st := &streamSession{said: &head{}}
	ses.Stderr = st.said
	if st.in, err = ses.StdinPipe(); err == nil {
		if st.out, err = ses.StdoutPipe(); err == nil {
			err = ses.Start("git-upload-pack '" + strings.NewReplacer("'", `'\''`, "!", `'\!'`).Replace(r.path) + "'")
		}
	}
	if err != nil {
		end()
		return nil, err
	}
	st.end = sync.OnceFunc(func() {
		_ = st.in.Close()
		// A server that does not end gets a moment to say why.
		late := time.AfterFunc(5*time.Second, end)
		_ = ses.Wait()
		late.Stop()
		end()
	})
	return st, nil
}

// dialer connects to addresses, as Options.Dial does.
type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// Dial and DialContext are what package proxy asks for.
func (d dialer) Dial(network, address string) (net.Conn, error) {
	return d(context.Background(), network, address)
}

func (d dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return d(ctx, network, address)
}

// through connects by a proxy, unless it is empty.
func (d dialer) through(ctx context.Context, addr, via string) (net.Conn, error) {
	if via == "" {
		return d(ctx, "tcp", addr)
	}
	u, err := url.Parse(via)
	if err != nil || u.Scheme != "socks5" {
		return nil, fail(ReasonInvalid, "proxy: ssh goes by socks5://HOST:PORT only")
	}
	p, err := proxy.FromURL(u, d)
	if err != nil {
		return nil, err
	}
	return p.(proxy.ContextDialer).DialContext(ctx, "tcp", addr)
}

// sshConfig gives the place, too, where it is said why a host's key was refused.
func sshConfig(r remote, a Auth, addr string) (*ssh.ClientConfig, *error, error) {
	known, err := readKnownHosts(a.KnownHosts)
	if err != nil {
		return nil, nil, err
	}
	var refused error
	config := &ssh.ClientConfig{User: r.user, HostKeyAlgorithms: algorithms(known, addr)}
	if config.User == "" {
		config.User = a.Username
	}
	if config.User == "" {
		config.User = "git"
	}
	config.HostKeyCallback = func(host string, _ net.Addr, key ssh.PublicKey) error {
		// Keys are known of the host that was asked for. Who passes the connection on may have an address without a port, which
		// the library would refuse.
		err := known(host, &net.TCPAddr{}, key)
		var unknown *knownhosts.KeyError
		print := ssh.FingerprintSHA256(key)
		switch {
		case err == nil:
		case errors.As(err, &unknown) && len(unknown.Want) == 0:
			refused = fail(ReasonHostKeyUnknown, "%s has the key %s (%s), which is not among the known hosts: if that is its key, add the line that ssh-keyscan prints", addr, print, key.Type())
		case errors.As(err, &unknown):
			refused = fail(ReasonHostKeyChanged, "%s has the key %s (%s) and not the one that is known: somebody may stand between; if it was changed on purpose, change the known hosts", addr, print, key.Type())
		default:
			refused = fail(ReasonHostKeyChanged, "%s has the key %s (%s): %v", addr, print, key.Type(), err)
		}
		return refused
	}
	if len(a.PrivateKey) > 0 {
		var signer ssh.Signer
		if a.Passphrase != "" {
			signer, err = ssh.ParsePrivateKeyWithPassphrase(a.PrivateKey, []byte(a.Passphrase))
		} else {
			signer, err = ssh.ParsePrivateKey(a.PrivateKey)
		}
		if err != nil {
			return nil, nil, fail(ReasonInvalid, "auth.privateKey: it cannot be read: %v; give a key as ssh-keygen writes it, and its passphrase if it has one", err)
		}
		config.Auth = append(config.Auth, ssh.PublicKeys(signer))
	}
	if a.Password != "" {
		config.Auth = append(config.Auth, ssh.Password(a.Password))
	}
	return config, &refused, nil
}

// readKnownHosts goes by a file, for the library reads nothing else.
func readKnownHosts(lines []byte) (ssh.HostKeyCallback, error) {
	f, err := os.CreateTemp("", "known_hosts")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(lines)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	known, err := knownhosts.New(f.Name())
	if err != nil {
		return nil, fail(ReasonInvalid, "auth.knownHosts: %s; give lines as ssh-keyscan prints them", strings.ReplaceAll(err.Error(), f.Name(), "line"))
	}
	return known, nil
}

// algorithms of the keys that are known of a host: a server has several keys, and must show one that is known.
func algorithms(known ssh.HostKeyCallback, addr string) []string {
	var want *knownhosts.KeyError
	if !errors.As(known(addr, &net.TCPAddr{}, nobody{}), &want) {
		return nil
	}
	var out []string
	for _, k := range want.Want {
		if k.Key.Type() == ssh.KeyAlgoRSA {
			out = append(out, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
			continue
		}
		out = append(out, k.Key.Type())
	}
	return out
}

// nobody is a key that no host has.
type nobody struct{}

func (nobody) Type() string                        { return "nobody" }
func (nobody) Marshal() []byte                     { return []byte("nobody") }
func (nobody) Verify([]byte, *ssh.Signature) error { return errors.New("nobody signs nothing") }
