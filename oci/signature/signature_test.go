package signature

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"

	"github.com/pagein/pagein/internal/servertest"
	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/registry"
	"github.com/pagein/pagein/oci/registry/registrytest"
)

// desk is a repository with a manifest to be signed.
type desk struct {
	*testing.T
	repo     *registry.Repository
	manifest ocispec.Descriptor
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	client := registrytest.Client(t)
	ref, err := oci.ParseRef(servertest.Distribution(t, nil).Addr + "/app")
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{T: t}
	if d.repo, err = client.Repository(ref); err != nil {
		t.Fatal(err)
	}
	d.manifest = d.push(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: d.blob(ocispec.MediaTypeImageConfig, []byte("{}")),
	}, "")
	return d
}

// blob stores a blob.
func (d *desk) blob(mediaType string, b []byte) ocispec.Descriptor {
	d.Helper()
	desc, err := push(d.Context(), d.repo, mediaType, b)
	if err != nil {
		d.Fatal(err)
	}
	return desc
}

// push stores a manifest, with a tag if there is one.
func (d *desk) push(m ocispec.Manifest, tag string) ocispec.Descriptor {
	d.Helper()
	b, err := json.Marshal(m)
	if err != nil {
		d.Fatal(err)
	}
	desc := content.NewDescriptorFromBytes(ocispec.MediaTypeImageManifest, b)
	if tag == "" {
		tag = desc.Digest.String()
	}
	if err := d.repo.PushReference(d.Context(), desc, bytes.NewReader(b), tag); err != nil {
		d.Fatal(err)
	}
	return desc
}

// key makes a key.
func (d *desk) key(kind string) *PrivateKey {
	d.Helper()
	k, err := parsePrivateKey(kind, privatePEM(d, newKeys(d)[kind]), noPassword)
	if err != nil {
		d.Fatal(err)
	}
	return k
}

func (d *desk) sign(key *PrivateKey) ocispec.Descriptor {
	d.Helper()
	desc, err := Sign(d.Context(), d.repo, d.manifest, key)
	if err != nil {
		d.Fatal(err)
	}
	return desc
}

// signedBy reports which key verifies.
func (d *desk) signedBy(keys ...*PrivateKey) (string, error) {
	d.Helper()
	var public []PublicKey
	for _, k := range keys {
		public = append(public, k.Public())
	}
	by, err := Verify(d.Context(), d.repo, d.manifest, public)
	return by.Name, err
}

// refused checks that no key verifies, and why.
func (d *desk) refused(name, want string, keys ...*PrivateKey) {
	d.Helper()
	by, err := d.signedBy(keys...)
	if !errors.Is(err, ErrUnsigned) || !strings.Contains(err.Error(), want) {
		d.Errorf("%s: signed by %q, %v, want %q", name, by, err, want)
	}
}

// payload signs bytes as a payload.
func (d *desk) payload(key *PrivateKey, b []byte) ocispec.Descriptor {
	d.Helper()
	sig, err := key.sign(b)
	if err != nil {
		d.Fatal(err)
	}
	layer := d.blob(typePayload, b)
	layer.Annotations = map[string]string{annotation: base64.StdEncoding.EncodeToString(sig)}
	return layer
}

// signatures is a manifest of layers, which refers to nothing.
func (d *desk) signatures(layers ...ocispec.Descriptor) ocispec.Manifest {
	d.Helper()
	return ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: typeSignatures, Layers: layers,
		Config: d.blob(ocispec.MediaTypeImageConfig, []byte("{}")),
	}
}

func TestSignaturesAreFoundByTagAndByReference(t *testing.T) {
	for _, kind := range []string{"ECDSA", "Ed25519"} {
		d := newDesk(t)
		key, other := d.key(kind), d.key("ECDSA")
		d.refused("nothing", "at all", key)
		first := d.sign(key)
		if again := d.sign(key); again.Digest != first.Digest {
			t.Errorf("signed again it is %s, not %s", again.Digest, first.Digest)
		}
		if by, err := d.signedBy(other, key); err != nil || by != kind {
			t.Errorf("signed by %q, %v", by, err)
		}
		d.refused("another key", "by 1 other key", other)
		second := d.sign(other)
		if list, err := List(t.Context(), d.repo, d.manifest); err != nil || len(list) != 2 || list[0].Descriptor.Digest != second.Digest || !list[0].Tagged || list[1].Descriptor.Digest != first.Digest || list[1].Tagged {
			t.Errorf("signatures are %v, %v", list, err)
		}
		for _, k := range []*PrivateKey{key, other} {
			if _, err := d.signedBy(k); err != nil {
				t.Errorf("after two signed: %v", err)
			}
		}
		// Whoever takes the tag takes nothing from those that refer to the manifest.
		d.push(ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: d.blob("x", []byte("x"))}, Tag(d.manifest.Digest))
		if by, err := d.signedBy(key); err != nil || by != kind {
			t.Errorf("without the tag signed by %q, %v", by, err)
		}
	}
}

// TestSignaturesThatSayNothingOfTheManifestAreNone has signatures by a key that is trusted, of something else.
func TestSignaturesThatSayNothingOfTheManifestAreNone(t *testing.T) {
	d := newDesk(t)
	key := d.key("ECDSA")
	right, err := newPayload("x/y", d.manifest.Digest)
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := newPayload("x/y", digest.FromString("another"))
	if err != nil {
		t.Fatal(err)
	}
	with := func(layer ocispec.Descriptor, change func(*ocispec.Descriptor)) ocispec.Descriptor {
		change(&layer)
		return layer
	}
	gigantic := bytes.Repeat([]byte("x"), maxPayload+1)
	for name, c := range map[string]struct {
		want  string
		layer ocispec.Descriptor
	}{
		"another digest":      {"what is signed is \"" + digest.FromString("another").String(), d.payload(key, wrong)},
		"another type":        {"not \"cosign container", d.payload(key, bytes.Replace(right, []byte("cosign"), []byte("atomic"), 1))},
		"no JSON":             {"read what is signed", d.payload(key, []byte("["))},
		"no digest":           {"names no digest", d.payload(key, []byte(`{"critical":{"type":"cosign container image signature"}}`))},
		"no signature":        {"no signature in base64", d.blob(typePayload, right)},
		"no base64":           {"no signature in base64", with(d.payload(key, right), func(l *ocispec.Descriptor) { l.Annotations[annotation] = "%" })},
		"no signature at all": {"other key", with(d.payload(key, right), func(l *ocispec.Descriptor) { l.Annotations[annotation] = "AAAA" })},
		"gigantic":            {"at most", d.payload(key, gigantic)},
		"signed by another":   {"other key", d.payload(d.key("Ed25519"), right)},
		"another layer":       {"at all", with(d.payload(key, right), func(l *ocispec.Descriptor) { l.MediaType = "x" })},
		"lies about its data": {"other key", with(d.payload(key, right), func(l *ocispec.Descriptor) { l.Data, l.Digest = right, d.payload(key, wrong).Digest })},
	} {
		d.push(d.signatures(c.layer), Tag(d.manifest.Digest))
		d.refused(name, c.want, key)
	}
	d.push(d.signatures(d.payload(key, right)), Tag(d.manifest.Digest))
	if by, err := d.signedBy(key); err != nil || by != "ECDSA" {
		t.Errorf("what is right is refused: %v", err)
	}
}

func TestGiganticManifestsOfSignaturesAreRefused(t *testing.T) {
	d := newDesk(t)
	key := d.key("ECDSA")
	big := d.signatures()
	big.Annotations = map[string]string{"x": strings.Repeat("x", maxManifest)}
	d.push(big, Tag(d.manifest.Digest))
	d.refused("by tag", "at most 262144 are allowed", key)
	d.push(d.signatures(), Tag(d.manifest.Digest))
	big.Subject = &d.manifest
	d.push(big, "")
	d.refused("by reference", "at most 262144 are allowed", key)

	var layers []ocispec.Descriptor
	for range maxLayers {
		layers = append(layers, d.payload(d.key("ECDSA"), []byte("{}")))
	}
	right, err := newPayload("x/y", d.manifest.Digest)
	if err != nil {
		t.Fatal(err)
	}
	d.push(d.signatures(append(layers, d.payload(key, right))...), Tag(d.manifest.Digest))
	if _, err := d.signedBy(key); !errors.Is(err, ErrUnsigned) {
		t.Errorf("more than %d signatures are looked at: %v", maxLayers, err)
	}
}

// envelope makes a bundle as cosign 3 does.
func envelope(t testing.TB, key *PrivateKey, statement string) []byte {
	t.Helper()
	sig, err := key.sign(fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(statementType), statementType, len(statement), statement))
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(map[string]any{
		"mediaType": typeBundle, "verificationMaterial": map[string]any{"publicKey": map[string]string{"hint": "x"}},
		"dsseEnvelope": map[string]any{"payload": []byte(statement), "payloadType": statementType, "signatures": []any{map[string]any{"sig": sig}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBundlesCountAsSignaturesOnlyIfTheySaySo(t *testing.T) {
	d := newDesk(t)
	key := d.key("ECDSA")
	says := func(predicate string, signed digest.Digest) string {
		return fmt.Sprintf(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":%q}}],"predicateType":%q,"predicate":{}}`, signed.Encoded(), predicate)
	}
	right := says(predicateSigned, d.manifest.Digest)
	for name, c := range map[string]struct {
		want   string
		bundle []byte
	}{
		"an attestation":    {"not \"https://sigstore.dev", envelope(t, key, says("https://spdx.dev/Document", d.manifest.Digest))},
		"another digest":    {"what is signed is", envelope(t, key, says(predicateSigned, digest.FromString("another")))},
		"no subject":        {"names no digest", envelope(t, key, fmt.Sprintf(`{"predicateType":%q}`, predicateSigned))},
		"no statement":      {"read what is signed", envelope(t, key, "x")},
		"no envelope":       {"has no statement", []byte("{}")},
		"no JSON":           {"read bundle", []byte("x")},
		"signed by another": {"other key", envelope(t, d.key("ECDSA"), right)},
		"changed":           {"other key", bytes.Replace(envelope(t, key, right), []byte(`"payload":"e`), []byte(`"payload":"f`), 1)},
		"gigantic":          {"at most", append(envelope(t, key, right), bytes.Repeat([]byte(" "), maxBundle)...)},
	} {
		d.push(d.signatures(d.blob(typeBundle, c.bundle)), Tag(d.manifest.Digest))
		d.refused(name, c.want, key)
	}
	m := d.signatures(d.blob(typeBundle, envelope(t, key, right)))
	m.ArtifactType, m.Subject = typeBundle, &d.manifest
	d.push(m, "")
	if by, err := d.signedBy(key); err != nil || by != "ECDSA" {
		t.Errorf("signed by %q, %v", by, err)
	}
}

func TestCopiesHaveTheSignatures(t *testing.T) {
	from, to := newDesk(t), newDesk(t)
	keys := []*PrivateKey{from.key("ECDSA"), from.key("Ed25519")}
	from.sign(keys[0])
	statement := fmt.Sprintf(`{"subject":[{"digest":{"sha256":%q}}],"predicateType":%q}`, from.manifest.Digest.Encoded(), predicateSigned)
	m := from.signatures(from.blob(typeBundle, envelope(t, keys[1], statement)))
	m.ArtifactType, m.Subject = typeBundle, &from.manifest
	from.push(m, "")
	for range 2 {
		if n, err := Copy(t.Context(), from.repo, to.repo, from.manifest); n != 2 || err != nil {
			t.Errorf("%d are copied, %v", n, err)
		}
	}
	for _, k := range keys {
		if by, err := to.signedBy(k); err != nil {
			t.Errorf("signed by %q, %v", by, err)
		}
	}
}
