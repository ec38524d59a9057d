package signature

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pagein/pagein/internal/require"
)

// cosign runs the real program, without the services of sigstore.
func (d *desk) cosign(dir string, args ...string) (string, error) {
	d.Helper()
	cmd := exec.Command(require.Tool(d, "cosign"), args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "COSIGN_PASSWORD=secret", "HOME="+dir, "COSIGN_YES=true")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (d *desk) ref() string { return d.repo.String() + "@" + d.manifest.Digest.String() }

// cosignKey makes a pair of keys with cosign.
func (d *desk) cosignKey(dir string) (*PrivateKey, PublicKey) {
	d.Helper()
	if out, err := d.cosign(dir, "generate-key-pair"); err != nil {
		d.Fatalf("%v\n%s", err, out)
	}
	private, err := ReadPrivateKey(filepath.Join(dir, "cosign.key"), func() ([]byte, error) { return []byte("secret"), nil })
	if err != nil {
		d.Fatal(err)
	}
	public, err := ReadPublicKeys([]string{filepath.Join(dir, "*.pub")})
	if err != nil || len(public) != 1 {
		d.Fatal(public, err)
	}
	return private, public[0]
}

func TestCosignVerifiesOurSignatures(t *testing.T) {
	d := newDesk(t)
	dir := t.TempDir()
	private, _ := d.cosignKey(dir)
	verify := []string{"verify", "--key", "cosign.pub", "--insecure-ignore-tlog=true", "--allow-http-registry", d.ref()}
	if out, err := d.cosign(dir, verify...); err == nil {
		t.Errorf("it verifies what is not signed: %s", out)
	}
	d.sign(private)
	if out, err := d.cosign(dir, verify...); err != nil || !strings.Contains(out, d.manifest.Digest.String()) {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestSignaturesOfCosignAreVerified(t *testing.T) {
	for name, options := range map[string][]string{
		"simple signing": {"--new-bundle-format=false", "--use-signing-config=false", "--tlog-upload=false"},
		"bundle":         {"--new-bundle-format=true", "--use-signing-config=false", "--tlog-upload=false"},
	} {
		d := newDesk(t)
		dir := t.TempDir()
		ours := d.key("Ed25519")
		d.sign(ours)
		_, public := d.cosignKey(dir)
		if _, err := Verify(t.Context(), d.repo, d.manifest, []PublicKey{public}); err == nil {
			t.Errorf("%s: verified before it is signed", name)
		}
		if out, err := d.cosign(dir, append(append([]string{"sign", "--key", "cosign.key", "--allow-http-registry"}, options...), d.ref())...); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		refer, err := referrers(t.Context(), d.repo, d.manifest)
		if err != nil {
			t.Fatal(err)
		}
		if bundles := slices.ContainsFunc(refer, func(r ocispec.Descriptor) bool { return r.ArtifactType == typeBundle }); bundles != (name == "bundle") {
			t.Errorf("%s: bundles are there: %v", name, bundles)
		}
		by, err := Verify(t.Context(), d.repo, d.manifest, []PublicKey{public})
		if err != nil || by.Name != public.Name {
			t.Errorf("%s: signed by %q, %v", name, by.Name, err)
		}
		if _, err := d.signedBy(ours); err != nil {
			t.Errorf("%s: our signature does not verify any more: %v", name, err)
		}
	}
}
