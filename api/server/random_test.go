package server

import (
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
)

// TestRandomBytesIntoEveryEndpoint sends nonsense to all that takes a body or a query: an answer below 500 is wanted,
// and a server that lives on.
func TestRandomBytesIntoEveryEndpoint(t *testing.T) {
	kc(t, "", "create", "namespace", "noise")
	admin := adminClient(t)
	chance := rand.New(rand.NewPCG(1, 2))
	var paths []string
	for _, p := range []string{
		"/api/v1/namespaces", "/api/v1/namespaces/noise/events", "/api/v1/namespaces/noise/secrets", "/api/v1/namespaces/noise/configmaps",
		"/apis/coordination.k8s.io/v1/namespaces/noise/leases", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
		"/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", "/apis/authentication.k8s.io/v1/selfsubjectreviews",
		"/apis/apiextensions.k8s.io/v1/customresourcedefinitions", "/apis/padis.io/v1alpha1/namespaces/noise/apps", "/apis/padis.io/v1alpha1/ippools",
		"/apis/padis.io/v1alpha1/networks", "/apis/padis.io/v1alpha1/tenants", "/apis/runtime.padis.io/v1alpha1/namespaces/noise/instances",
		"/apis/runtime.padis.io/v1alpha1/agents", "/apis/runtime.padis.io/v1alpha1/addresses",
	} {
		paths = append(paths, p, p+"/x", p+"/x/status", p+"/x/scale", p+"/x/log")
	}
	paths = append(paths, "/", "/api", "/apis", "/apis/padis.io", "/apis/nonsense/v1/things", "/openapi/v2", "/openapi/v3/apis/padis.io/v1alpha1", "/healthz", "/version", "/metrics")
	types := []string{"application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "application/merge-patch+json",
		"application/json-patch+json", "application/apply-patch+yaml", "application/strategic-merge-patch+json", "application/cbor", "text/plain", ";;"}
	bodies := [][]byte{nil, []byte("{"), []byte("null"), []byte("[]"), []byte(`{"kind":1}`), []byte("k8s\x00"), []byte(`{"apiVersion":"padis.io/v1alpha1","kind":"App"}`),
		[]byte(`{"apiVersion":"padis.io/v1alpha1","kind":"App","metadata":{"name":"x"},"spec":null}`), []byte(`[{"op":"remove","path":"/x"}]`),
		[]byte(strings.Repeat("[", 100_000)), []byte("a: &a [*a, *a]")}
	for range 8 {
		b := make([]byte, chance.IntN(300))
		for i := range b {
			b[i] = byte(chance.UintN(256))
		}
		bodies = append(bodies, b)
	}
	queries := []string{"", "?limit=-1", "?continue=zzz", "?resourceVersion=abc", "?resourceVersion=99999999999999999999&watch=1&timeoutSeconds=1", "?labelSelector=((", "?fieldSelector=a",
		"?watch=1&resourceVersion=1&timeoutSeconds=1&sendInitialEvents=true", "?dryRun=x", "?fieldManager=%00", "?force=x"}
	for _, p := range paths {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, "BREW"} {
			for range 3 {
				query, body, media := queries[chance.IntN(len(queries))], bodies[chance.IntN(len(bodies))], types[chance.IntN(len(types))]
				if method == http.MethodGet {
					body = nil
				}
				code, out := do(t, admin, method, p+query, media, body)
				if code >= 500 && code != http.StatusGatewayTimeout {
					t.Errorf("%s %s %s with %.60q: %d %.300s", method, p+query, media, body, code, out)
				}
			}
		}
	}
	contains(t, kc(t, "", "get", "namespace", "noise"), "Active")
}
