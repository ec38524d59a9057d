package trust

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
	"oras.land/oras-go/v2/content"

	"github.com/pagein/pagein/internal/keytest"
	"github.com/pagein/pagein/internal/servertest"
	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/registry/registrytest"
	"github.com/pagein/pagein/oci/signature"
)

func TestMain(m *testing.M) {
	Init()
	os.Exit(m.Run())
}

func TestTrustIsForWhatIsNamed(t *testing.T) {
	for _, c := range []struct {
		patterns string
		ref      string
		trusted  bool
	}{
		{"", "127.0.0.1:5000/a", true},
		{"", "localhost/a", true},
		{"", "localhost:443/a", false},
		{"", "registry.example.com/a", false},
		{"registry.example.com", "registry.example.com/a/b", true},
		{"registry.example.com", "registry.example.com.evil.org/a", false},
		{"*.example.com", "registry.example.com/a", true},
		{"registry.example.com/team/*", "registry.example.com/team/app", true},
		{"registry.example.com/team/*", "registry.example.com/team/app/x", false},
		{"registry.example.com/team/**", "registry.example.com/team/app/x", true},
		{"registry.example.com/team/**", "registry.example.com/teams/app", false},
		{"registry.example.com/team/**", "registry.example.com/team", false},
		{"registry.example.com/*/app", "registry.example.com/team/app", true},
		{"registry.example.com/**", "registry.example.com/team/app", true},
		{"Registry.example.com/a", "REGISTRY.example.com/a", true},
		{"[2001:db8::1]:5000/team/*", "[2001:db8::1]:5000/team/app", true},
		{"[2001:db8::1]:*", "[2001:db8::1]:5000/app", true},
		{"[2001:db8::1]", "[2001:db8::1]/app", true},
		{"[2001:db8::1]", "[2001:db8::2]/app", false},
		{"[rs]egistry.example.com", "registry.example.com/app", true},
		{"other.example.com registry.example.com/app", "registry.example.com/app", true},
	} {
		var rules []Rule
		if c.patterns != "" {
			rules = append(rules, Rule{Repositories: strings.Fields(c.patterns)})
		}
		policy, err := New(rules...)
		if err != nil {
			t.Fatal(err)
		}
		ref, err := oci.ParseRef(c.ref)
		if err != nil {
			t.Fatal(err)
		}
		if err := policy.Repository(ref); (err == nil) != c.trusted {
			t.Errorf("%q, %s: %v", c.patterns, c.ref, err)
		}
	}
	if err := (*Policy)(nil).Repository(oci.Ref{Kind: oci.Registry, Host: "localhost", Repository: "a"}); err != nil {
		t.Errorf("without a policy: %v", err)
	}
}

func TestRulesThatMakeNoSenseAreRefused(t *testing.T) {
	for want, r := range map[string]Rule{
		"would demand nothing":        {Repositories: []string{"a.example.com"}, Keys: []string{}},
		"or an empty command":         {Repositories: []string{"a.example.com"}, Command: []string{}},
		"is a URL":                    {Repositories: []string{"https://a.example.com/x"}},
		"team/\" has an empty elem":   {Repositories: []string{"a.example.com/team/"}},
		"com/\" has an empty elem":    {Repositories: []string{"a.example.com/"}},
		"\"x:1\" is the name of none": {Repositories: []string{"a.example.com/x:1"}},
		"\"X\" is the name of none":   {Repositories: []string{"a.example.com/X"}},
		"team**\": ** stands":         {Repositories: []string{"a.example.com/team**"}},
		"**/x\": ** stands":           {Repositories: []string{"a.example.com/**/x"}},
		"would trust everybody":       {},
		"names no registry":           {Repositories: []string{"good.example.com", ""}},
		"write HOST":                  {Repositories: []string{"/app"}},
		"syntax error":                {Repositories: []string{"a[/x"}},
		"must be absolute":            {Keys: []string{"keys/*.pub"}},
		"must be absolute paths":      {Keys: []string{"/keys/["}},
		"must begin with an absolut":  {Command: []string{"policy"}},
	} {
		if _, err := New(Rule{Repositories: []string{"*"}}, r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error is %v, want %q", r, err, want)
		}
	}
}

// shop is a registry with something that is signed.
type shop struct {
	*testing.T
	dir       string
	candidate artifact.Candidate
}

func newShop(t *testing.T) *shop {
	t.Helper()
	client := registrytest.Client(t)
	s := &shop{T: t, dir: t.TempDir()}
	ref, err := oci.ParseRef(servertest.Distribution(t, nil).Addr + "/team/app")
	if err != nil {
		t.Fatal(err)
	}
	place, err := artifact.Open(client, ref)
	if err != nil {
		t.Fatal(err)
	}
	config := s.push(place, ocispec.MediaTypeImageConfig, ocispec.Image{})
	desc := s.push(place, ocispec.MediaTypeImageManifest, ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config})
	ref.Digest = desc.Digest
	s.candidate = artifact.Candidate{Place: place, Ref: ref, Manifest: desc, Subject: &config}
	return s
}

func (s *shop) push(place artifact.Place, mediaType string, v any) ocispec.Descriptor {
	s.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		s.Fatal(err)
	}
	desc := content.NewDescriptorFromBytes(mediaType, b)
	if err := place.Target().Push(s.Context(), desc, bytes.NewReader(b)); err != nil {
		s.Fatal(err)
	}
	return desc
}

// key makes a key, and signs with it.
func (s *shop) key(name string, signs bool) {
	s.Helper()
	private, _ := keytest.Pair(s, s.dir, name)
	if !signs {
		return
	}
	k, err := signature.ReadPrivateKey(private, nil)
	if err != nil {
		s.Fatal(err)
	}
	if _, err := signature.Sign(s.Context(), s.candidate.Place.Repository, s.candidate.Manifest, k); err != nil {
		s.Fatal(err)
	}
}

func (s *shop) write(name, text string) string {
	s.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil { // #nosec G306 -- some are programs
		s.Fatal(err)
	}
	return path
}

// check checks that the candidate is trusted, if want is "", or why not.
func (s *shop) check(name, want string, rules ...Rule) {
	s.Helper()
	policy, err := New(rules...)
	if err != nil {
		s.Fatal(err)
	}
	err = policy.Check(s.Context(), s.candidate)
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		s.Errorf("%s: %v, want %q", name, err, want)
	}
}

func TestTheFirstRuleThatNamesTheRepositoryDecides(t *testing.T) {
	s := newShop(t)
	s.key("ours", true)
	s.key("theirs", false)
	ours, theirs, nobody := filepath.Join(s.dir, "ours.pub"), filepath.Join(s.dir, "theirs.pub"), filepath.Join(s.dir, "nobody.pub")
	here := []string{s.candidate.Ref.Host + "/team/*"}
	refuse := []string{"/bin/sh", "-c", "echo not today >&2; exit 7"}
	s.check("loopback", "")
	s.check("our key", "", Rule{Keys: []string{theirs, ours}})
	s.check("all keys", "", Rule{Keys: []string{filepath.Join(s.dir, "*.pub")}})
	s.check("their key", "but by 1 other key", Rule{Keys: []string{theirs}})
	s.check("their key, and what to do about it", "keys in [trust] demand a signature by one of "+theirs+": sign it (pagein sign --key, ", Rule{Keys: []string{theirs}})
	s.check("no key", "no key is there", Rule{Keys: []string{nobody}})
	s.check("their key and no key", "not all keys could be read", Rule{Keys: []string{theirs, nobody}})
	s.check("our key and no key", "", Rule{Keys: []string{ours, nobody}})
	s.check("elsewhere", "", Rule{Repositories: []string{"registry.example.com"}, Keys: []string{theirs}})
	s.check("first here", "", Rule{Repositories: here}, Rule{Keys: []string{theirs}})
	s.check("first theirs", "but by 1 other key", Rule{Repositories: here, Keys: []string{theirs}}, Rule{Repositories: here})
	s.check("key and command", "not today", Rule{Keys: []string{ours}, Command: refuse})
	s.check("wrong key and command", "but by 1 other key", Rule{Keys: []string{theirs}, Command: refuse})
	s.candidate.Ref.Host = "registry.example.com"
	s.check("not on loopback", "is not trusted")
	s.check("not on loopback, but signed", "", Rule{Keys: []string{ours}})

	policy, err := New(Rule{Keys: []string{ours, nobody}}, Rule{Repositories: here})
	if err != nil {
		t.Fatal(err)
	}
	if p := policy.Problems(); len(p) != 1 || !strings.Contains(p[0].Error(), nobody) {
		t.Errorf("problems are %v", p)
	}
}

func TestCommandsAreToldWhatItIsAboutAndHaveNoPrivileges(t *testing.T) {
	s := newShop(t)
	s.key("ours", true)
	script := "cat > " + s.dir + "/question; grep -E '^(CapPrm|CapEff|NoNewPrivs)' /proc/self/status > " + s.dir + "/status; /usr/bin/env > " + s.dir + "/env; pwd >> " + s.dir + "/env"
	s.check("command", "", Rule{Keys: []string{filepath.Join(s.dir, "*.pub")}, Command: []string{s.write("policy", "#!/bin/sh\n"+script+" && [ \"$1\" = strict ]\n"), "strict"}})
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(s.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	var q question
	if err := json.Unmarshal([]byte(read("question")), &q); err != nil {
		t.Fatal(err)
	}
	c := s.candidate
	want := question{
		Reference: c.Ref.String(), Registry: c.Ref.Host, Repository: "team/app", Artifact: c.Manifest.Digest.String(), Subject: c.Subject.Digest.String(),
		Key: filepath.Join(s.dir, "ours.pub"),
	}
	if q != want {
		t.Errorf("it is asked %+v, want %+v", q, want)
	}
	if got := read("status"); got != "CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\n" {
		t.Errorf("its status is %q", got)
	}
	if env := read("env"); strings.Contains(env, "HOME=") || !strings.Contains(env, "PATH=/usr") || !strings.HasSuffix(env, "\n/\n") {
		t.Errorf("its environment and directory are %q", env)
	}
}

func TestCommandsThatFailTrustNothing(t *testing.T) {
	s := newShop(t)
	sh := func(script string) Rule { return Rule{Command: []string{"/bin/sh", "-c", script}} }
	s.check("refuses", "(exit status 1): not by us", sh("echo not by us >&2; echo more >&2; exit 1"))
	s.check("refuses silently", "policy command /bin/sh: exit status 3", sh("exit 3"))
	s.check("crashes", "signal: segmentation fault", sh("kill -SEGV $$"))
	s.check("says much", "aaa", sh("head -c 10000000 /dev/zero | tr '\\0' a >&2; exit 1"))
	s.check("says odd things", "(exit status 1): x  [31mred", sh("printf 'x\\000\\033[31mred' >&2; exit 1"))
	s.check("is not there", "execute /no/such/program: no such file", Rule{Command: []string{"/no/such/program"}})
	s.check("reads nothing", "", sh("exit 0"))
	s.check("leaves something behind that cannot be killed with it", "", sh("setsid sleep 5 & exit 0"))
	if h := (&head{}); true {
		for range 5 {
			_, _ = h.Write(bytes.Repeat([]byte("a"), 1000))
		}
		if len(h.text) != maxSaid {
			t.Errorf("%d bytes are kept", len(h.text))
		}
	}
}

// TestCommandsThatHangAreKilledWithAllThatTheyStarted has a pull that does not wait.
func TestCommandsThatHangAreKilledWithAllThatTheyStarted(t *testing.T) {
	s := newShop(t)
	policy, err := New(Rule{Command: []string{"/bin/sh", "-c", "sleep 1000 & echo $! > " + s.dir + "/pid; mv " + s.dir + "/pid " + s.dir + "/started; wait"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- policy.Check(ctx, s.candidate) }()
	started := filepath.Join(s.dir, "started")
	for !exists(started) {
		select {
		case err := <-done:
			t.Fatalf("it has ended: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	cancel()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "did not answer") {
		t.Errorf("error is %v", err)
	}
	s.ended(started)
}

// TestNothingOfACommandOutlivesItsAnswer has commands that leave a child behind, whatever they answer.
func TestNothingOfACommandOutlivesItsAnswer(t *testing.T) {
	s := newShop(t)
	for status, want := range map[string]string{"0": "", "1": "exit status 1"} {
		child := filepath.Join(s.dir, "child"+status)
		s.check("with status "+status, want, Rule{Command: []string{"/bin/sh", "-c", "sleep 1000 & echo $! > " + child + "; exit " + status}})
		s.ended(child)
	}
}

// ended waits for the end of the process whose number is in a file.
func (s *shop) ended(file string) {
	s.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		s.Fatal(err)
	}
	pid := strings.TrimSpace(string(b))
	for range 1000 {
		if state := processState(pid); state == "Z" || state == "" { // it is a zombie until init has seen it
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.Errorf("process %s still runs", pid)
	if n, err := strconv.Atoi(pid); err == nil {
		_ = unix.Kill(n, unix.SIGKILL)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// processState is a process' letter in /proc, "" if there is no such process.
func processState(pid string) string {
	b, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return rest[:1]
}
