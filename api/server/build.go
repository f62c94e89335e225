package server

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace/noop"
	apiextv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextserver "k8s.io/apiextensions-apiserver/pkg/apiserver"
	apiextoptions "k8s.io/apiextensions-apiserver/pkg/cmd/server/options"
	extopenapi "k8s.io/apiextensions-apiserver/pkg/generated/openapi"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/request/union"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	"k8s.io/apiserver/pkg/features"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	genericfilters "k8s.io/apiserver/pkg/server/filters"
	"k8s.io/apiserver/pkg/server/options"
	serverstorage "k8s.io/apiserver/pkg/server/storage"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/util/compatibility"
	"k8s.io/apiserver/pkg/util/feature"
	"k8s.io/apiserver/pkg/util/webhook"
	basecompatibility "k8s.io/component-base/compatibility"
	"k8s.io/kube-openapi/pkg/common"

	"padis.io/padis/api/server/openapi"
	"padis.io/padis/api/server/webhooks"
)

const (
	// maxBody is the largest request body. etcd takes a little more, for what the server adds.
	maxBody = 2 << 20
	// compactEvery bounds the history in etcd, which the scheduler's ledger shares.
	compactEvery = 2 * time.Minute
	// shutdownTime bounds the wait for requests that are being served when the server ends.
	shutdownTime = 5 * time.Second
)

// build makes the API server out of its parts.
func (s *Server) build(keys *pki) (*apiextserver.CustomResourceDefinitions, error) {
	kinds, err := newTyped()
	if err != nil {
		return nil, fmt.Errorf("typed kinds: %w", err)
	}
	// Before all that waits for an etcd.
	sealed, err := newSealing(&s.cfg, s.log)
	if err != nil {
		return nil, err
	}
	tokens, err := newAccountTokens(&s.cfg, s.who.granted, s.log)
	if err != nil {
		return nil, err
	}
	cfg := genericapiserver.NewRecommendedConfig(apiextserver.Codecs)
	if err := s.secure(&cfg.Config, keys, tokens); err != nil {
		return nil, err
	}
	cfg.EffectiveVersion = newEffectiveVersion(s.cfg.Version)
	cfg.LoopbackClientConfig = s.loopback
	cfg.AdmissionControl = observed{s.admit, newDigest()}
	cfg.AuditBackend, cfg.AuditPolicyRuleEvaluator = &auditBackend{log: s.audit, zap: s.log}, auditPolicy{}
	cfg.MaxRequestBodyBytes = maxBody
	cfg.EnableProfiling = false
	cfg.LongRunningFunc = genericfilters.BasicLongRunningRequestCheck(sets.NewString("watch"), sets.NewString("log", "exec", "portforward"))
	if s.webhooks, err = webhooks.New(s.loopback, s.log); err != nil {
		return nil, err
	}
	cfg.BuildHandlerChainFunc = func(h http.Handler, c *genericapiserver.Config) http.Handler {
		// Git servers have no identity here: they are judged before anybody is asked for his.
		return s.webhooks.Before(genericapiserver.DefaultBuildHandlerChain(observe(refuse(h)), c))
	}

	if err := noSnapshots(); err != nil {
		return nil, err
	}
	etcd := options.NewEtcdOptions(storagebackend.NewDefaultConfig("/registry", apiextserver.Codecs.LegacyCodec(apiextv1.SchemeGroupVersion)))
	transport := &etcd.StorageConfig.Transport
	transport.ServerList = s.backends
	transport.TrustedCAFile, transport.CertFile, transport.KeyFile = s.cfg.EtcdTLS.CAFile, s.cfg.EtcdTLS.CertFile, s.cfg.EtcdTLS.KeyFile
	etcd.StorageConfig.CompactionInterval = compactEvery
	etcd.StorageConfig.CountMetricPollPeriod = 0
	etcd.StorageConfig.DBMetricPollInterval = 0
	// Events are many and rarely read; without a cache they are read from etcd.
	etcd.WatchCacheSizes = []string{"events#0"}
	if err := etcd.ApplyTo(&cfg.Config); err != nil {
		return nil, fmt.Errorf("etcd options: %w", err)
	}

	// Both descriptions must be there, or the publishers of the custom resources' never start.
	definitions := func(ref common.ReferenceCallback) map[string]common.OpenAPIDefinition {
		all := extopenapi.GetOpenAPIDefinitions(ref)
		maps.Copy(all, openapi.GetOpenAPIDefinitions(ref))
		return all
	}
	namer := openapinamer.NewDefinitionNamer(apiextserver.Scheme, kinds.scheme)
	cfg.OpenAPIConfig = genericapiserver.DefaultOpenAPIConfig(definitions, namer)
	cfg.OpenAPIV3Config = genericapiserver.DefaultOpenAPIV3Config(definitions, namer)
	cfg.OpenAPIConfig.Info.Title, cfg.OpenAPIV3Config.Info.Title = "Padis", "Padis"

	resources := serverstorage.NewResourceConfig()
	resources.EnableVersions(apiextv1.SchemeGroupVersion)
	cfg.MergedResourceConfig = resources

	ext := &apiextserver.Config{GenericConfig: cfg, ExtraConfig: apiextserver.ExtraConfig{
		CRDRESTOptionsGetter: sharing{apiextoptions.NewCRDRESTOptionsGetter(*etcd, cfg.ResourceTransformers, cfg.StorageObjectCountTracker)},
		// One, so that definitions are established at once. Others that share the etcd learn of them by their watch.
		MasterCount:         1,
		ServiceResolver:     noServices{},
		AuthResolverWrapper: webhook.NewDefaultAuthenticationInfoResolverWrapper(nil, nil, s.loopback, noop.NewTracerProvider()),
	}}
	complete := ext.Complete()
	// Complete leaves discovery to an aggregator above; there is none.
	complete.GenericConfig.EnableDiscovery = true
	srv, err := complete.New(genericapiserver.NewEmptyDelegate())
	if err != nil {
		return nil, fmt.Errorf("API server: %w", err)
	}
	srv.GenericAPIServer.ShutdownTimeout = shutdownTime
	srv.GenericAPIServer.Handler.NonGoRestfulMux.Handle(auditPath, serveAudit(s.audit))
	srv.GenericAPIServer.Handler.NonGoRestfulMux.Handle(planPath, newPlans(s.cfg.Plans, s.who, s.loopback))
	return srv, kinds.install(srv.GenericAPIServer, etcd, sealed, &s.cfg, s.audit, s.who, tokens)
}

// noSnapshots has the caches of all servers of this process keep no tree of objects for each of the last versions: that takes a
// tenth of the memory, to read lists in pages without asking etcd, which is in this process.
var noSnapshots = sync.OnceValue(func() error {
	return feature.DefaultMutableFeatureGate.SetFromMap(map[string]bool{string(features.ListFromCacheSnapshot): false})
})

// secure sets up TLS, who clients are and what they may do.
func (s *Server) secure(cfg *genericapiserver.Config, keys *pki, tokens *accountTokens) error {
	ca, err := dynamiccertificates.NewStaticCAContent("client-ca", keys.caCert)
	if err != nil {
		return fmt.Errorf("client CA: %w", err)
	}
	cert, err := dynamiccertificates.NewStaticCertKeyContent("serving", keys.server.certPEM, keys.server.keyPEM)
	if err != nil {
		return fmt.Errorf("serving certificate: %w", err)
	}
	cfg.SecureServing = &genericapiserver.SecureServingInfo{Listener: s.listener, Cert: cert, ClientCA: ca, HTTP2MaxStreamsPerConnection: 1000}
	cfg.ExternalAddress = s.listener.Addr().String()
	others := []authenticator.Token{tokens}
	if s.cfg.OIDC != (OIDC{}) {
		foreign, err := s.cfg.OIDC.authenticator(s.life)
		if err != nil {
			return err
		}
		others = append(others, foreign)
	}
	known, err := newAuthenticator(s.cfg.DataDir, ca, others...)
	if err != nil {
		return err
	}
	cfg.Authentication.Authenticator = union.New(s.syncs, known)
	cfg.Authorization.Authorizer = s.who
	return nil
}

// noServices refuses webhooks that name a Kubernetes service.
type noServices struct{}

func (noServices) ResolveEndpoint(namespace, name string, _ int32) (*url.URL, error) {
	return nil, fmt.Errorf("service %s/%s: there are no services here: give the webhook a url", namespace, name)
}

// effectiveVersion is the version of the API machinery, with Padis' own behind it, so that clients that compare
// versions compare what they depend on.
type effectiveVersion struct {
	basecompatibility.EffectiveVersion
	padis string
}

func newEffectiveVersion(padis string) effectiveVersion {
	return effectiveVersion{compatibility.DefaultBuildEffectiveVersion(), padis}
}

// Info is what /version answers.
func (v effectiveVersion) Info() *version.Info {
	info := v.EffectiveVersion.Info()
	if binary := v.BinaryVersion(); binary != nil {
		info.GitVersion = "v" + binary.String()
		if binary.Patch() == 0 && len(binary.Components()) < 3 {
			info.GitVersion += ".0"
		}
	}
	if v.padis != "" {
		info.GitVersion += "+padis." + v.padis
	}
	info.GitTreeState, info.GitCommit = "", ""
	return info
}
