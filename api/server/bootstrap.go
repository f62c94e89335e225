package server

import (
	"context"
	"fmt"
	"io/fs"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextclient "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset/typed/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	rbacv1client "k8s.io/client-go/kubernetes/typed/rbac/v1"
	"sigs.k8s.io/yaml"

	"padis.io/padis/api/crds"
)

// bootPoll is how often the start looks whether a step is done.
const bootPoll = 10 * time.Millisecond

// systemNamespaces are always there.
var systemNamespaces = []string{"default", "kube-system"}

// bootstrap installs the definitions and namespaces, waits until the kinds are served, and starts the controllers.
func (s *Server) bootstrap(ctx context.Context) error {
	definitions, err := readDefinitions(crds.Files)
	if err != nil {
		return err
	}
	client, err := apiextclient.NewForConfig(s.loopback)
	if err != nil {
		return fmt.Errorf("definitions: %w", err)
	}
	for _, d := range definitions {
		if err := installDefinition(ctx, client, d); err != nil {
			return fmt.Errorf("definition %s: %w", d.Name, err)
		}
	}
	core, err := corev1client.NewForConfig(s.loopback)
	if err != nil {
		return fmt.Errorf("namespaces: %w", err)
	}
	for _, name := range systemNamespaces {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if _, err := core.Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("namespace %s: %w", name, err)
		}
	}
	granting, err := rbacv1client.NewForConfig(s.loopback)
	if err != nil {
		return fmt.Errorf("roles: %w", err)
	}
	if err := installRoles(ctx, granting); err != nil {
		return fmt.Errorf("roles: %w", err)
	}
	if err := s.awaitServed(ctx, client, definitions); err != nil {
		return err
	}
	changed := make(chan struct{}, 1)
	if err := s.watchDefinitions(changed); err != nil {
		return err
	}
	if err := s.startControllers(ctx, changed); err != nil {
		return err
	}
	close(s.ready)
	s.log.Info("API is served")
	return nil
}

func readDefinitions(files fs.FS) ([]*apiextv1.CustomResourceDefinition, error) {
	names, err := fs.Glob(files, "*.yaml")
	if err != nil {
		return nil, err
	}
	var out []*apiextv1.CustomResourceDefinition
	for _, name := range names {
		data, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		d := &apiextv1.CustomResourceDefinition{}
		if err := yaml.UnmarshalStrict(data, d); err != nil {
			return nil, fmt.Errorf("definition %s: %w", name, err)
		}
		out = append(out, d)
	}
	return out, nil
}

// installDefinition creates a definition, or brings the one of an older version up to date.
func installDefinition(ctx context.Context, client apiextclient.ApiextensionsV1Interface, want *apiextv1.CustomResourceDefinition) error {
	_, err := client.CustomResourceDefinitions().Create(ctx, want.DeepCopy(), metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	// Two servers on one etcd may start at once, so that a conflict means that the other was faster.
	return wait.PollUntilContextCancel(ctx, bootPoll, true, func(ctx context.Context) (bool, error) {
		have, err := client.CustomResourceDefinitions().Get(ctx, want.Name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		next := want.DeepCopy()
		apiextv1.SetDefaults_CustomResourceDefinition(next)
		apiextv1.SetDefaults_CustomResourceDefinitionSpec(&next.Spec)
		if equality.Semantic.DeepEqual(have.Spec, next.Spec) {
			return true, nil
		}
		have.Spec = next.Spec
		if _, err = client.CustomResourceDefinitions().Update(ctx, have, metav1.UpdateOptions{}); apierrors.IsConflict(err) {
			return false, nil
		}
		return err == nil, err
	})
}

// awaitServed waits until each kind answers a list.
func (s *Server) awaitServed(ctx context.Context, client apiextclient.ApiextensionsV1Interface, definitions []*apiextv1.CustomResourceDefinition) error {
	objects, err := dynamic.NewForConfig(s.loopback)
	if err != nil {
		return err
	}
	for _, d := range definitions {
		resource := schema.GroupVersionResource{Group: d.Spec.Group, Version: d.Spec.Versions[0].Name, Resource: d.Spec.Names.Plural}
		err := wait.PollUntilContextCancel(ctx, bootPoll, true, func(ctx context.Context) (bool, error) {
			have, err := client.CustomResourceDefinitions().Get(ctx, d.Name, metav1.GetOptions{})
			if err != nil {
				return false, err
			}
			for _, c := range have.Status.Conditions {
				if c.Type == apiextv1.NamesAccepted && c.Status == apiextv1.ConditionFalse {
					return false, fmt.Errorf("definition %s: %s: remove the definition that has the name", d.Name, c.Message)
				}
				if c.Type == apiextv1.Established && c.Status == apiextv1.ConditionTrue {
					_, err := objects.Resource(resource).List(ctx, metav1.ListOptions{Limit: 1})
					return err == nil, nil
				}
			}
			return false, nil
		})
		if err != nil {
			return fmt.Errorf("kind %s: %w", d.Spec.Names.Kind, err)
		}
	}
	return nil
}
