package live

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/server/audit"
)

const (
	// sessionIdle ends a session in which nothing happens, as in Kubernetes; streamTime bounds the wait for its streams.
	sessionIdle = 4 * time.Hour
	streamTime  = 30 * time.Second
)

// Access reaches into instances. Errors of the class APIStatus reach the client as they are.
type Access interface {
	// Container is what the instance is called on its host; empty if it runs nowhere.
	Container(namespace, name string) string
	// Record tells whether exec sessions in the namespace are to be recorded.
	Record(namespace string) bool
	// Exec runs a command and returns its exit status when it has ended and all its output was written. It ends with ctx.
	Exec(ctx context.Context, namespace, name string, e Exec) (status int, err error)
	// Forward connects to a port of the instance, until ctx ends.
	Forward(ctx context.Context, namespace, name string, port uint16) (Conn, error)
	// Usage tells what instances use, by namespace and name; those that do not run are missing. Unreachable are the
	// hosts that did not answer, with why.
	Usage(ctx context.Context, instances []*runtime.Instance) (used map[[2]string]runtime.UsageStatus, unreachable map[string]string, err error)
}

// Exec is a command to be run. Stdin, Stdout and Stderr may be nil.
type Exec struct {
	Command        []string
	TTY            bool
	Width, Height  uint16
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Resize         <-chan TerminalSize
}

// TerminalSize is in characters.
type TerminalSize struct{ Width, Height uint16 }

// Conn is a connection of which one direction can be ended.
type Conn interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// Doors are what the API server needs to let people reach into instances, and to tell how it stands with LoadBalancers. Each may be nil: then that is not served, or
// not kept.
type Doors struct {
	Logs       LogReader
	Access     Access
	Balances   Balances
	Audit      *audit.Log
	Authorizer authorizer.Authorizer
}

// subresource is what those of instances have in common.
type subresource struct {
	instances *Store[*runtime.Instance]
	Doors
}

func (subresource) New() kruntime.Object { return &runtime.Instance{} }
func (subresource) Destroy()             {}
func (subresource) NewConnectOptions() (kruntime.Object, bool, string) {
	return nil, false, ""
}

// ProducesMIMETypes and ProducesObject tell the description of the API that this is text.
func (subresource) ProducesMIMETypes(string) []string { return []string{"text/plain"} }
func (subresource) ProducesObject(string) any         { return "" }

// check makes sure that there is such an instance and a way to it.
func (s subresource) check(ctx context.Context, name string, there bool) (namespace string, err error) {
	namespace = request.NamespaceValue(ctx)
	if _, ok := s.instances.Get(namespace, name); !ok {
		return "", apierrors.NewNotFound(schema.GroupResource{Group: runtime.GroupVersion.Group, Resource: "instances"}, name)
	}
	if !there {
		return "", apierrors.NewServiceUnavailable("this server has no access to instances: ask the one that runs the scheduler")
	}
	return namespace, nil
}

// mayCreate asks again about those that came with GET, as a WebSocket must: who may read instances may not for that run
// commands in them.
func (s subresource) mayCreate(ctx context.Context, namespace, name, sub string) error {
	if s.Authorizer == nil {
		return nil
	}
	u, _ := request.UserFrom(ctx)
	decision, reason, err := s.Authorizer.Authorize(ctx, authorizer.AttributesRecord{
		User: u, Verb: "create", Namespace: namespace, APIGroup: runtime.GroupVersion.Group, APIVersion: runtime.GroupVersion.Version,
		Resource: "instances", Subresource: sub, Name: name, ResourceRequest: true,
	})
	if err == nil && decision == authorizer.DecisionAllow {
		return nil
	}
	if err != nil {
		reason = err.Error()
	}
	return apierrors.NewForbidden(schema.GroupResource{Group: runtime.GroupVersion.Group, Resource: "instances/" + sub}, name, fmt.Errorf("%s", reason))
}

// begin writes the beginning of a session into the audit log. What cannot be written must not happen.
func (s subresource) begin(r *http.Request, e audit.Entry) (*audit.Session, error) {
	if s.Audit == nil {
		return nil, nil
	}
	if u, ok := request.UserFrom(r.Context()); ok {
		e.User, e.Groups = u.GetName(), u.GetGroups()
	}
	if s.Access != nil {
		e.Container = s.Access.Container(e.Namespace, e.Instance)
	}
	session, err := s.Audit.Begin(e)
	if err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("refused, because it cannot be written into the audit log of the server: %w", err))
	}
	return session, nil
}

func userName(ctx context.Context) string {
	if u, ok := request.UserFrom(ctx); ok {
		return u.GetName()
	}
	return user.Anonymous
}

// internal makes an error that a client may see of one that is none.
func internal(err error) error {
	if _, ok := err.(apierrors.APIStatus); ok || err == nil {
		return err
	}
	return apierrors.NewInternalError(err)
}
