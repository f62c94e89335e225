package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"

	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/v1alpha1"
)

// reader reads JSON from the API server.
type reader struct{ client *rest.RESTClient }

// connect returns the API that the flags and the kubeconfig name, and the namespace.
func connect(f cmdutil.Factory) (reader, string, error) {
	config, err := f.ToRESTConfig()
	if err != nil {
		return reader{}, "", err
	}
	a, err := newReader(config)
	if err != nil {
		return reader{}, "", err
	}
	namespace, _, err := f.ToRawKubeConfigLoader().Namespace()
	return a, namespace, err
}

func newReader(config *rest.Config) (reader, error) {
	config = rest.CopyConfig(config)
	config.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	config.ContentType, config.AcceptContentTypes = "application/json", "application/json"
	client, err := rest.UnversionedRESTClientFor(config)
	return reader{client}, err
}

// get decodes the object at path into out. Query holds names and values, alternating.
func (a reader) get(ctx context.Context, path string, out any, query ...string) error {
	request := a.client.Get().AbsPath(path)
	for i := 0; i+1 < len(query); i += 2 {
		request = request.Param(query[i], query[i+1])
	}
	result := request.Do(ctx)
	// Raw would hide what the server says of the error.
	if err := result.Error(); err != nil {
		return err
	}
	b, err := result.Raw()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("answer to %s: %w", path, err)
	}
	return nil
}

// stream opens what is at path.
func (a reader) stream(ctx context.Context, path string, query map[string]string) (io.ReadCloser, error) {
	request := a.client.Get().AbsPath(path)
	for name, value := range query {
		request = request.Param(name, value)
	}
	return request.Stream(ctx)
}

// instancesOf lists the instances of an App.
func (a reader) instancesOf(ctx context.Context, namespace, app string) ([]runtime.Instance, error) {
	var list runtime.InstanceList
	err := a.get(ctx, runtimePath(namespace, "instances"), &list, "labelSelector", v1alpha1.LabelApp+"="+app)
	return list.Items, err
}

// declaredPath and runtimePath are the paths of our two groups; without a namespace those of cluster-scoped objects.
func declaredPath(namespace string, rest ...string) string {
	return groupPath(v1alpha1.GroupVersion.String(), namespace, rest)
}

func runtimePath(namespace string, rest ...string) string {
	return groupPath(runtime.GroupVersion.String(), namespace, rest)
}

func groupPath(groupVersion, namespace string, rest []string) string {
	elements := []string{"/apis", groupVersion}
	if namespace != "" {
		elements = append(elements, "namespaces", namespace)
	}
	return path.Join(append(elements, rest...)...)
}
