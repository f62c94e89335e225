package crds

import (
	"context"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"
)

// schema is a definition as the API server uses it.
type schema struct {
	structural *structuralschema.Structural
	openapi    validation.SchemaValidator
	rules      *cel.Validator
}

func compile(t *testing.T, crd *apiextv1.CustomResourceDefinition) schema {
	t.Helper()
	apiextv1.SetDefaults_CustomResourceDefinition(crd)
	apiextv1.SetDefaults_CustomResourceDefinitionSpec(&crd.Spec)
	internal := &apiextensions.CustomResourceDefinition{}
	if err := apiextv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(crd, internal, nil); err != nil {
		t.Fatal(err)
	}
	// As the API server judges it when it is installed, the cost of rules included.
	internal.Status.StoredVersions = []string{crd.Spec.Versions[0].Name}
	if errs := apiextvalidation.ValidateCustomResourceDefinition(context.Background(), internal); len(errs) > 0 {
		t.Fatalf("%s: %v", crd.Name, errs.ToAggregate())
	}
	props := internal.Spec.Validation
	if props == nil {
		props = internal.Spec.Versions[0].Schema
	}
	structural, err := structuralschema.NewStructural(props.OpenAPIV3Schema)
	if err != nil {
		t.Fatal(err)
	}
	openapi, _, err := validation.NewSchemaValidator(props.OpenAPIV3Schema)
	if err != nil {
		t.Fatal(err)
	}
	return schema{structural: structural, openapi: openapi, rules: cel.NewValidator(structural, true, celconfig.PerCallLimit)}
}

// judge gives what the API server would say of an object; empty if it would take it.
func (s schema) judge(t *testing.T, text string) string {
	t.Helper()
	var o map[string]any
	if err := yaml.Unmarshal([]byte(text), &o); err != nil {
		t.Fatal(err)
	}
	defaulting.Default(o, s.structural)
	errs := validation.ValidateCustomResource(nil, o, s.openapi)
	if len(errs) == 0 {
		more, _ := s.rules.Validate(context.Background(), nil, s.structural, o, nil, celconfig.RuntimeCELCostBudget)
		errs = append(errs, more...)
	}
	if len(errs) == 0 {
		return ""
	}
	return errs.ToAggregate().Error()
}

func TestGitSourceSchema(t *testing.T) {
	s := compile(t, definitions(t)["padis.io_gitsources.yaml"])
	const sha = "0123456789abcdef0123456789abcdef01234567"
	for _, c := range []struct{ name, spec, want string }{
		{"https", `{url: "https://git.example.com/shop.git"}`, ""},
		{"ssh", `{url: "ssh://git@git.example.com:2222/shop.git", knownHosts: "git.example.com ssh-ed25519 AAAA"}`, ""},
		{"scp", `{url: "git@git.example.com:shop.git", secretRef: {name: key}}`, ""},
		{"file", `{url: "file:///srv/git/shop.git"}`, ""},
		{"all of it", `{url: "https://git.example.com/shop.git", ref: {semver: ">=1.4.0 <2.0.0"}, paths: [clusters/berlin], interval: 30s, timeout: 10s, secretRef: {name: c},
			caBundle: "-----BEGIN CERTIFICATE-----", proxy: {url: "http://proxy.example.com:3128", secretRef: {name: p}}, submodules: true, suspend: true,
			webhook: {type: GitHub, secretRef: {name: w}}, verify: {mode: TagAndCommit, signers: [{type: SSH, configMapKeyRef: {name: k, key: allowed}, identities: [ops@example.com], paths: ["apps/**"]},
			{type: GPG, secretKeyRef: {name: k, key: ring}}, {type: X509, secretKeyRef: {name: k, key: roots}}]}}`, ""},
		{"a commit on a branch", `{url: "https://git.example.com/s", ref: {branch: main, commit: ` + sha + `}}`, ""},
		{"no signatures wanted", `{url: "https://git.example.com/s", verify: {mode: None}}`, ""},
		{"no URL", `{}`, "spec.url: Required"},
		{"not a URL", `{url: "shop.git"}`, "must be the URL of a repository"},
		{"another protocol", `{url: "ext::sh -c true"}`, "must be the URL of a repository"},
		{"credentials in the URL", `{url: "https://me:secret@git.example.com/s"}`, "must not hold credentials"},
		{"a token in the URL", `{url: "https://secret@git.example.com/s"}`, "must not hold credentials"},
		{"a password for ssh", `{url: "ssh://git:secret@git.example.com/s"}`, "must not hold credentials"},
		{"tag and branch", `{url: "https://git.example.com/s", ref: {branch: main, tag: v1}}`, "set one of branch, tag and semver"},
		{"commit and tag", `{url: "https://git.example.com/s", ref: {tag: v1, commit: ` + sha + `}}`, "a commit stands for itself"},
		{"half a commit", `{url: "https://git.example.com/s", ref: {commit: "0123456"}}`, "must be the whole hash"},
		{"not a range", `{url: "https://git.example.com/s", ref: {semver: "$(id)"}}`, "must be a range of versions"},
		{"outside", `{url: "https://git.example.com/s", paths: [../other]}`, "must be a path within the repository"},
		{"too often", `{url: "https://git.example.com/s", interval: 1s}`, "from 5s to 168h"},
		{"known hosts of https", `{url: "https://git.example.com/s", knownHosts: "a b c"}`, "only ssh has known hosts"},
		{"certificates of ssh", `{url: "ssh://git.example.com/s", caBundle: "-----BEGIN CERTIFICATE-----"}`, "only https has certificates"},
		{"signatures of nobody", `{url: "https://git.example.com/s", verify: {}}`, "without signers nothing would ever be applied"},
		{"tag of a branch", `{url: "https://git.example.com/s", ref: {branch: main}, verify: {mode: Tag, signers: [{type: SSH, secretKeyRef: {name: k, key: a}}]}}`, "only a tag has the signature"},
		{"tag of nothing", `{url: "https://git.example.com/s", verify: {mode: Tag, signers: [{type: SSH, secretKeyRef: {name: k, key: a}}]}}`, "only a tag has the signature"},
		{"signer without keys", `{url: "https://git.example.com/s", verify: {signers: [{type: SSH}]}}`, "set exactly one of"},
		{"unknown signer", `{url: "https://git.example.com/s", verify: {signers: [{type: PKCS, secretKeyRef: {name: k, key: a}}]}}`, "Unsupported value"},
		{"webhook without a secret", `{url: "https://git.example.com/s", webhook: {type: GitHub}}`, "spec.webhook.secretRef: Required"},
		{"a proxy's password", `{url: "https://git.example.com/s", proxy: {url: "http://me:x@proxy:3128"}}`, "without credentials"},
	} {
		t.Run(c.name, func(t *testing.T) { check(t, s, "GitSource", c.spec, c.want) })
	}
}

func TestSyncSchema(t *testing.T) {
	s := compile(t, definitions(t)["padis.io_syncs.yaml"])
	const a, b = "0123456789abcdef0123456789abcdef01234567", "1123456789abcdef0123456789abcdef01234567"
	with := func(more string) string { return `{sourceRef: {name: shop}, ` + more + `}` }
	for _, c := range []struct{ name, spec, want string }{
		{"little", `{sourceRef: {name: shop}}`, ""},
		{"all of it", with(`path: clusters/berlin, targetNamespace: shop, variables: [{name: A, value: b}, {name: EMPTY}, {configMapRef: {name: v}}, {secretRef: {name: s}, optional: true}],
			decryptionSecretRef: {name: age}, serviceAccount: deployer, prune: true, pruneLimit: {count: 10, percent: 20}, drift: Report, timeout: 1m, healthTimeout: 5m,
			retry: {interval: 1s, max: 1m}, dependsOn: [{name: base}, {namespace: infra, name: net}], windows: [{days: [Mon, Fri], from: "22:00", to: "04:00", timeZone: Europe/Berlin},
			{action: Deny, from: "00:00", to: "24:00", timeZone: America/Argentina/Buenos_Aires}], suspend: true, rollback: {to: ` + a + `, from: ` + b + `, pinned: true},
			notifications: [{secretRef: {name: chat}, events: [Failed, Drift]}]`), ""},
		{"no source", `{}`, "spec.sourceRef: Required"},
		{"outside", with(`path: a/../../b`), "must be a path within the repository"},
		{"absolute", with(`path: /etc`), "must be a path within the repository"},
		{"namespace", with(`targetNamespace: Shop_1`), "must be the name of a namespace"},
		{"variable", with(`variables: [{name: a-b}]`), "must be letters, digits and _"},
		{"variable of nothing", with(`variables: [{value: x}]`), "set exactly one of name, configMapRef and secretRef"},
		{"variable of both", with(`variables: [{name: A, configMapRef: {name: v}}]`), "set exactly one of name, configMapRef and secretRef"},
		{"value of a ConfigMap", with(`variables: [{configMapRef: {name: v}, value: x}]`), "a value is that of a name"},
		{"an optional value", with(`variables: [{name: A, optional: true}]`), "only a ConfigMap or Secret can be missing"},
		{"percent", with(`pruneLimit: {percent: 101}`), "less than or equal to 100"},
		{"drift", with(`drift: Ignore`), "Unsupported value"},
		{"timeout", with(`timeout: 0s`), "from 1s to 24h"},
		{"window", with(`windows: [{from: "25:00", to: "04:00"}]`), "from 00:00 to 23:59"},
		{"window's day", with(`windows: [{days: [Monday], from: "20:00", to: "04:00"}]`), "Unsupported value"},
		{"window's zone", with(`windows: [{from: "20:00", to: "04:00", timeZone: "../etc"}]`), "must be the name of a time zone"},
		{"rollback to a name", with(`rollback: {to: v1}`), "must be the whole hash"},
		{"rollback to itself", with(`rollback: {to: ` + a + `, from: ` + a + `}`), "is the commit to go back to"},
		{"event", with(`notifications: [{secretRef: {name: chat}, events: [All]}]`), "Unsupported value"},
	} {
		t.Run(c.name, func(t *testing.T) { check(t, s, "Sync", c.spec, c.want) })
	}
}

func check(t *testing.T, s schema, kind, spec, want string) {
	t.Helper()
	got := s.judge(t, "apiVersion: padis.io/v1alpha1\nkind: "+kind+"\nmetadata: {name: a, namespace: shop}\nspec: "+spec+"\n")
	if (got == "") != (want == "") || !strings.Contains(got, want) {
		t.Errorf("said %q, want %q", got, want)
	}
}
