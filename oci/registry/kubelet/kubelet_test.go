package kubelet

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pagein/pagein/oci/registry"
)

func TestImagesMatchByKubeletsRules(t *testing.T) {
	for _, c := range []struct {
		pattern, image string
		want           bool
	}{
		{"123.dkr.ecr.*.amazonaws.com", "123.dkr.ecr.us-east-1.amazonaws.com/app", true},
		{"*.dkr.ecr.*.amazonaws.com", "123.dkr.ecr.us-east-1.amazonaws.com/app", true},
		{"*.amazonaws.com", "123.dkr.ecr.us-east-1.amazonaws.com/app", false},
		{"*.azurecr.io", "team.azurecr.io/a/b", true},
		{"*.azurecr.io", "azurecr.io/a", false},
		{"gcr.io", "gcr.io/a", true},
		{"gcr.io", "eu.gcr.io/a", false},
		{"gcr.io/team", "gcr.io/team/a", true},
		{"gcr.io/team", "gcr.io/teamster/a", true},
		{"gcr.io/team", "gcr.io/other", false},
		{"registry.io:8080/path", "registry.io:8080/path/a", true},
		{"registry.io:8080", "registry.io/a", false},
		{"registry.io", "registry.io:8080/a", false},
		{"app*.k8s.io", "app1.k8s.io/a", true},
		{"*.*.registry.io", "a.b.registry.io/x", true},
		{"127.0.0.1:5000", "127.0.0.1:5000/x", true},
		{"[::1]:5000", "[::1]:5000/x", true},
	} {
		if got, err := matches(c.pattern, c.image); got != c.want || err != nil {
			t.Errorf("%s for %s: %v, %v", c.pattern, c.image, got, err)
		}
	}
	for _, pattern := range []string{"[a", "a b%"} {
		if _, err := matches(pattern, "registry.io/a"); err == nil {
			t.Errorf("pattern %q is none, and nobody says so", pattern)
		}
	}
}

func TestTheMostParticularPatternCounts(t *testing.T) {
	logins := map[string]login{"gcr.io": {"a", "all"}, "gcr.io/team": {"a", "team"}, "other.io": {"a", "other"}}
	for image, want := range map[string]string{"gcr.io/team/app": "team", "gcr.io/x": "all", "x.io/x": ""} {
		if c, _ := choose(logins, image); c.Password != want {
			t.Errorf("%s: got %q, want %q", image, c.Password, want)
		}
	}
}

// plugins has one plugin, a shell script, that notes in a file how often it ran.
func plugins(t *testing.T, keep, script string) (p *Plugins, runs func() int) {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "runs")
	config := fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
- name: test-provider
  matchImages: ["*.example.com"]
  defaultCacheDuration: %q
  apiVersion: credentialprovider.kubelet.k8s.io/v1
  args: [get]
  env: [{name: SECRET, value: "from the environment"}]
`, keep)
	write := func(name, content string, mode os.FileMode) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("test-provider", "#!/bin/sh\necho x >> "+log+"\nquestion=$(cat)\n"+script+"\n", 0o755)
	if err := os.Mkdir(filepath.Join(dir, "config"), 0o755); err != nil {
		t.Fatal(err)
	}
	write("config/50-test.yaml", config, 0o644)
	p, err := Open(filepath.Join(dir, "config"), dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return p, func() int {
		b, err := os.ReadFile(log)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return strings.Count(string(b), "x")
	}
}

func at(host, repository string) registry.Place {
	return registry.Place{Registry: host, Repository: repository, Host: host}
}

// answering is a plugin's script that answers with a password for all of example.com.
func answering(keyType, keep, password string) string {
	if keep != "" {
		keep = `"cacheDuration":"` + keep + `",`
	}
	return fmt.Sprintf(`cat <<END
{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1","cacheKeyType":%q,%s"auth":{"*.example.com":{"username":"me","password":"%s"}}}
END`, keyType, keep, password)
}

func TestPluginsAreAskedAsKubeletAsksThem(t *testing.T) {
	script := `[ "$1" = get ] && [ "$SECRET" = "from the environment" ] || exit 1
case $question in *'"apiVersion":"credentialprovider.kubelet.k8s.io/v1"'*'"kind":"CredentialProviderRequest"'*'"image":"a.example.com/team/app"'*) ;; *) exit 1 ;; esac
`
	p, runs := plugins(t, "1h", script+answering("Image", "", "right"))
	if c, err := p.Credential(t.Context(), at("a.example.com", "team/app")); err != nil || c.Username != "me" || c.Password != "right" {
		t.Errorf("%+v, %v", c, err)
	}
	mirrored := at("a.example.com", "team/app")
	mirrored.Host = "mirror.example.com"
	for _, other := range []registry.Place{at("example.org", "team/app"), mirrored} {
		if c, err := p.Credential(t.Context(), other); err != nil || c.Username != "" || runs() != 1 {
			t.Errorf("%+v: %+v, %v", other, c, err)
		}
	}
}

func TestAnswersAreKeptForAsLongAndAsMuchAsPluginsSay(t *testing.T) {
	for _, c := range []struct {
		name, keep, script string
		runs               int // for an image twice, another one of the same registry, and one of another registry
	}{
		{"by image", "1h", answering("Image", "", "x"), 3},
		{"by registry", "1h", answering("Registry", "", "x"), 2},
		{"for all", "1h", answering("Global", "", "x"), 1},
		{"not at all", "1h", answering("Global", "0s", "x"), 4},
		{"by default not", "0s", answering("Global", "", "x"), 4},
		{"longer than default", "0s", answering("Global", "1h", "x"), 1},
	} {
		p, runs := plugins(t, c.keep, c.script)
		for _, place := range []registry.Place{at("a.example.com", "1"), at("a.example.com", "1"), at("a.example.com", "2"), at("b.example.com", "1")} {
			if got, err := p.Credential(t.Context(), place); err != nil || got.Password != "x" {
				t.Errorf("%s: %+v, %v", c.name, got, err)
			}
		}
		if runs() != c.runs {
			t.Errorf("%s: it ran %d times, want %d", c.name, runs(), c.runs)
		}
	}
}

// refuse has what the plugin answered refused when it is of that age.
func (p *Plugins) refuse(at registry.Place, age time.Duration) {
	for key, a := range p.providers[0].answers {
		a.at = time.Now().Add(-age)
		p.providers[0].answers[key] = a
	}
	p.Refused(at, registry.Credential{})
}

func TestWhatARegistryRefusesIsAskedForAgain(t *testing.T) {
	p, runs := plugins(t, "24h", answering("Registry", "", "x"))
	place := at("a.example.com", "app")
	for _, age := range []time.Duration{-time.Hour, 2 * refusedAge} { // the first is new however slow this machine is
		if _, err := p.Credential(t.Context(), place); err != nil {
			t.Fatal(err)
		}
		p.refuse(place, age)
	}
	if _, err := p.Credential(t.Context(), place); err != nil || runs() != 2 {
		t.Errorf("it ran %d times, want 2: %v", runs(), err)
	}
}

func TestPluginsThatMisbehaveCostAnErrorWithoutSecrets(t *testing.T) {
	for name, c := range map[string]struct{ script, says string }{
		"fails":           {"echo the cloud is gone >&2; echo hush; exit 1", "the cloud is gone"},
		"no JSON":         {"echo hush", "no JSON"},
		"another kind":    {`echo '{"kind":"Secret","password":"hush"}'`, "no CredentialProviderResponse"},
		"another version": {strings.Replace(answering("Image", "", "hush"), "k8s.io/v1", "k8s.io/v9", 1), "no CredentialProviderResponse"},
		"odd key":         {answering("Planet", "", "hush"), "cacheKeyType"},
		"odd duration":    {answering("Image", "hush", "hush"), "cacheDuration"},
		"too much":        {"head -c 3000000 /dev/zero", "it prints more than"},
	} {
		p, runs := plugins(t, "1h", c.script)
		for range 2 { // one that fails is left alone for a while, also when what another one gave is refused
			_, err := p.Credential(t.Context(), at("a.example.com", "app"))
			if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "test-provider") || strings.Contains(err.Error(), "hush") {
				t.Errorf("%s: %v", name, err)
			}
			p.refuse(at("a.example.com", "app"), 2*refusedAge)
		}
		if runs() != 1 {
			t.Errorf("%s: it ran %d times", name, runs())
		}
	}
}

func TestConfigurationsThatMakeNoSenseAreRefused(t *testing.T) {
	const head = "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:\n"
	provider := func(name, match, keep, api string) string {
		return fmt.Sprintf("- {name: %q, matchImages: [%s], defaultCacheDuration: %q, apiVersion: %q}\n", name, match, keep, api)
	}
	const api = protocol + "/v1"
	for name, config := range map[string]string{
		"another kind":   "apiVersion: v1\nkind: Secret\n",
		"no YAML":        "\t{",
		"path as name":   head + provider("../evil", `"a.io"`, "1h", api),
		"no images":      head + provider("x", "", "1h", api),
		"bad pattern":    head + provider("x", `"[a"`, "1h", api),
		"no duration":    head + provider("x", `"a.io"`, "", api),
		"negative":       head + provider("x", `"a.io"`, "-1h", api),
		"other protocol": head + provider("x", `"a.io"`, "1h", "v1"),
	} {
		if _, err := parseConfig([]byte(config)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := Open(t.TempDir()+"/none", t.TempDir(), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a configuration that is not there is taken")
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte("apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:\n- {name: x, matchImages: [a.io], defaultCacheDuration: 1h, apiVersion: credentialprovider.kubelet.k8s.io/v1}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseConfig(b)
		if err != nil {
			return
		}
		for _, p := range c.Providers {
			if strings.ContainsAny(p.Name, "/\\") {
				t.Errorf("provider %q", p.Name)
			}
		}
	})
}
