package main

import (
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/internal/servertest"
	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/layout"
	"github.com/pagein/pagein/oci/signature"
	"github.com/pagein/pagein/profile"
)

// opensslKeys makes a pair of keys as docs/security.md says.
func opensslKeys(t *testing.T, algorithm ...string) (private, public string) {
	t.Helper()
	dir := t.TempDir()
	private, public = filepath.Join(dir, "sign.pem"), filepath.Join(dir, "sign.pub")
	for _, args := range [][]string{append([]string{"genpkey", "-out", private, "-algorithm"}, algorithm...), {"pkey", "-in", private, "-pubout", "-out", public}} {
		if out, err := exec.Command(require.Tool(t, "openssl"), args...).CombinedOutput(); err != nil {
			t.Fatalf("openssl %q: %v\n%s", args, err, out)
		}
	}
	return private, public
}

// TestSignedArtifactsAreFoundCopiedAndDeletedWithTheirSignatures has an image that is converted three times.
func TestSignedArtifactsAreFoundCopiedAndDeletedWithTheirSignatures(t *testing.T) {
	name, repo := platformsAt(t, servertest.Distribution(t, nil).Addr)
	ed, edPub := opensslKeys(t, "ed25519")
	ec, ecPub := opensslKeys(t, "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
	run := func(args ...string) (int, string, string) {
		t.Helper()
		return pagein(t, append([]string{"pagein"}, args...)...)
	}
	must := func(args ...string) string {
		t.Helper()
		status, stdout, stderr := run(args...)
		if status != exitSuccess {
			t.Fatalf("%q: status %d: %s", args, status, stderr)
		}
		return strings.TrimSpace(stdout)
	}
	convert := func(args ...string) string {
		t.Helper()
		var made struct{ Reference string }
		if err := json.Unmarshal([]byte(must(append(append([]string{"convert", "--json"}, args...), name+":v1")...)), &made); err != nil {
			t.Fatal(err)
		}
		return made.Reference
	}
	unsigned := func(key, image, want string) {
		t.Helper()
		if status, stdout, stderr := run("verify", "--key="+key, image); status != exitFailure || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("status %d: %s%s, want %q", status, stdout, stderr, want)
		}
	}

	first := convert("--sign-key=" + ed)
	if got := must("verify", "--key="+edPub, name+":v1"); got != first {
		t.Errorf("verified is %s, made was %s", got, first)
	}
	unsigned(ecPub, name+":v1", "not signed by a trusted key")
	second := convert("--level=best", "--order=tar")
	if second == first || must("verify", "--key="+edPub, name+":v1") != first {
		t.Errorf("the newest one, %s, is verified although nobody signed it", second)
	}
	if got := must("sign", "--key="+ec, name+":v1"); got != second {
		t.Errorf("signed is %s, the newest is %s", got, second)
	}
	var v verified
	if err := json.Unmarshal([]byte(must("verify", "--json", "--key="+filepath.Dir(ecPub)+"/*.pub", "--key="+edPub, name+":v1")), &v); err != nil || v.Reference != second || v.Key != ecPub || v.Subject == "" {
		t.Errorf("verified is %+v, %v", v, err)
	}

	if out := must("inspect", name+":v1"); !strings.Contains(out, "generation 1\n") || strings.Count(out, "signatures sha256:") != 1 {
		t.Errorf("inspect says %s", out)
	}

	copied := name + "-copy"
	must("copy", "--image", name+":v1", copied+":v1")
	must("copy", first, copied+":artifact")
	for key, want := range map[string]string{edPub: first, ecPub: second} {
		for _, at := range []string{name, copied} {
			if got := must("verify", "--key="+key, at+":v1"); !strings.HasSuffix(got, strings.TrimPrefix(want, name)) {
				t.Errorf("with %s it is %s, want %s", key, got, want)
			}
		}
	}
	must("verify", "--key="+edPub, copied+":artifact")

	place := artifact.Place{Repository: repo}
	made, err := place.OfImage(t.Context(), resolve(t, repo, "v1"))
	if err != nil || len(made) != 2 {
		t.Fatalf("artifacts are %v, %v", made, err)
	}
	if out := must("rm", "--artifacts", name+":v1"); strings.Count(out, "@sha256:") != 4 {
		t.Errorf("it deletes %s", out)
	}
	for _, a := range made {
		if _, err := repo.Resolve(t.Context(), signature.Tag(a.Digest)); !errors.Is(err, errdef.ErrNotFound) {
			t.Errorf("%s: %v", signature.Tag(a.Digest), err)
		}
		if list, err := signature.List(t.Context(), repo, ocispec.Descriptor{MediaType: a.MediaType, Digest: a.Digest, Size: a.Size}); err != nil || len(list) > 0 {
			t.Errorf("signatures are left: %v, %v", list, err)
		}
	}
	unsigned(edPub, name+":v1", "no artifact is attached")
}

// TestOnlyWhatIsSignedIsLaidOutAndSigned has somebody who may push, but has no key, attach a newer artifact to an image.
func TestOnlyWhatIsSignedIsLaidOutAndSigned(t *testing.T) {
	name, _ := platformsAt(t, servertest.Distribution(t, nil).Addr)
	image := name + ":v1"
	private, public := opensslKeys(t, "ed25519")
	signed := convertJSON(t, "--sign-key="+private, image)
	pushed := convertJSON(t, "--level=best", "--order=tar", image)
	file, _, _ := strings.Cut(strings.TrimSpace(succeed(t, "ls", image, "/")), "\n")
	w := newWorkload(t)
	w.touched.Entries = []profile.Entry{{Path: "/" + file, Len: 4096}}
	base := func(made string) (base string) {
		t.Helper()
		ref, err := oci.ParseRef(made)
		if err != nil {
			t.Fatal(err)
		}
		a, err := (artifact.Place{Repository: repositoryOf(t, name)}).Load(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		return a.Base.String()
	}
	if got := base(optimized(t, "--profile", w.file(t), image).Reference); got != pushed.Descriptor.Digest.String() {
		t.Errorf("without a key, %s is laid out, the newest is %s", got, pushed.Descriptor.Digest)
	}
	made := optimized(t, "--profile", w.file(t), "--sign-key", private, image).Reference
	if got := base(made); got != signed.Descriptor.Digest.String() {
		t.Errorf("laid out and signed is %s, only %s was signed", got, signed.Descriptor.Digest)
	}
	if got := strings.TrimSpace(succeed(t, "verify", "--key", public, image)); got != made {
		t.Errorf("verified is %s, made was %s", got, made)
	}
	other, _ := opensslKeys(t, "ed25519")
	for _, ref := range []string{image, pushed.Reference} {
		if status, _, stderr := pagein(t, "pagein", "optimize", "--profile", w.file(t), "--sign-key", other, ref); status != exitFailure || !strings.Contains(stderr, "a signature by the same key") {
			t.Errorf("%s: status %d: %s", ref, status, stderr)
		}
	}
}

func TestMisusedKeysAreExplained(t *testing.T) {
	ed, edPub := opensslKeys(t, "ed25519")
	rsa, rsaPub := opensslKeys(t, "RSA")
	dir := t.TempDir() + "/layout"
	if _, err := layout.Create(dir); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		want   string
		status int
		args   []string
	}{
		{"want --key=FILE and REF", exitUsage, []string{"sign", "a"}},
		{"want --key=FILE and REF", exitUsage, []string{"verify", "a"}},
		{"want --key=FILE and REF", exitUsage, []string{"verify", "--key=a"}},
		{"is for artifacts in registries", exitUsage, []string{"convert", "--sign-key=" + ed, "dir:" + t.TempDir(), "oci:" + t.TempDir()}},
		{"PEM type is \"PUBLIC KEY\"", exitFailure, []string{"sign", "--key=" + edPub, "localhost:1/a"}},
		{"use ECDSA on P-256 or Ed25519", exitFailure, []string{"sign", "--key=" + rsa, "localhost:1/a"}},
		{"use ECDSA on P-256 or Ed25519", exitFailure, []string{"verify", "--key=" + rsaPub, "localhost:1/a"}},
		{"no public key", exitFailure, []string{"verify", "--key=" + ed, "localhost:1/a"}},
		{"no such file", exitFailure, []string{"verify", "--key=/none/*.pub", "localhost:1/a"}},
		{"no such file", exitFailure, []string{"sign", "--key=/none", "localhost:1/a"}},
		{"registries, not in directories", exitFailure, []string{"verify", "--key=" + edPub, "oci:" + dir}},
	} {
		if status, _, stderr := pagein(t, append([]string{"pagein"}, c.args...)...); status != c.status || !strings.Contains(stderr, c.want) {
			t.Errorf("%q: status %d: %s", c.args, status, stderr)
		}
	}
}
