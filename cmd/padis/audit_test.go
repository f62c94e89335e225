package main

import (
	"strings"
	"testing"
	"time"

	"padis.io/padis/api/server/audit/change"
)

func TestAudit(t *testing.T) {
	useAPI(t)
	file := manifest(t, strings.ReplaceAll(webManifest, "web", "audited"))
	padis("apply", "-f", file).expect(t, exitOK)
	padis("scale", "app/audited", "--replicas", "5").expect(t, exitOK)
	padis("delete", "app", "audited").expect(t, exitOK)
	deadline := time.Now().Add(10 * time.Second)
	for !strings.Contains(padis("audit", "app/audited").out, "  delete  ") {
		if time.Now().After(deadline) {
			t.Fatal("the deletion has no line after 10 s")
		}
		time.Sleep(10 * time.Millisecond)
	}
	padis("audit", "app", "audited").expect(t, exitOK, "  patch  apps.padis.io/scale audited in default  by ", "    spec.replicas: 2 -> 5\n", "spec.replicas: set to 2")
	padis("audit", "--kind", "app", "--name", "audited", "--since", "1h", "-o", "json").expect(t, exitOK, `"event":"change"`, `"path":"spec.replicas","before":2,"after":5`)
	padis("audit", "--kind", "lb").expect(t, exitOK)
	for _, nothing := range [][]string{{"app/audited", "-n", "elsewhere"}, {"app/audited", "--actor", "nobody"}, {"app/audited", "--since", "1ns"}, {"networks/audited"}} {
		if r := padis(append([]string{"audit"}, nothing...)...); r.out != "" || r.status != exitOK {
			t.Errorf("%v: %+v", nothing, r)
		}
	}
	padis("audit", "app").expect(t, exitUsage, "KIND/NAME")
	padis("audit", "app/a", "--kind", "app").expect(t, exitUsage, "leave --kind")
	padis("audit", "-o", "yaml").expect(t, exitUsage, "use json")
	padis("audit", "--since", "-1h").expect(t, exitUsage, "positive")
	padis("audit", "nonsense/x").expect(t, exitError, "nonsense")
}

func TestAuditText(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		line change.Line
		want string
	}{
		{change.Line{Time: at, Event: change.Lost, Missing: 3}, "2026-01-02T03:04:05Z  3 lines before this one could not be written\n"},
		{change.Line{Time: at, Event: change.Changed, Verb: "patch", Resource: "apps.padis.io", Namespace: "shop", Name: "web", User: "system:padis:sync", As: "deployer",
			Manager: "padis-sync", Code: 200, Commit: "0123abcd", Author: "Zoë", Signer: "key\x1b[2J", Omitted: 2,
			Fields: []change.Field{{Path: "spec.a", Before: []byte("1")}}},
			"2026-01-02T03:04:05Z  patch  apps.padis.io web in shop  by system:padis:sync as deployer with padis-sync\n" +
				"    commit 0123abcd  author Zoë  signer \"key\\x1b[2J\"\n    spec.a: removed, was 1\n    and 2 more fields\n"},
		{change.Line{Time: at, Event: change.Changed, Verb: "delete", Resource: "secrets", User: "bob", Code: 403, Message: "no"},
			"2026-01-02T03:04:05Z  delete  secrets  by bob  refused: 403 no\n"},
	} {
		if got := auditText(c.line); got != c.want {
			t.Errorf("got\n%swant\n%s", got, c.want)
		}
	}
}
