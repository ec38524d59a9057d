package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
	"oras.land/oras-go/v2/content"

	"github.com/pagein/pagein/internal/keytest"
	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/internal/tartest"
	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/registry"
	"github.com/pagein/pagein/oci/registry/registrytest"
	"github.com/pagein/pagein/oci/signature"
)

// hostileLab has a node that wants signatures, and a registry that anybody may push to and that lies.
type hostileLab struct {
	*runtimeLab
	*liar
	client    *registry.Client
	ours      string // private key that the node trusts the holder of
	theirs    string // private key that it knows nothing of
	something []imageLayer
}

// policies are commands by the repository that they decide about.
var policies = map[string]string{
	"refused": "echo not in production >&2; exit 1",
	"crashed": "kill -SEGV $$",
	"hung":    "sleep 1000",
	"allowed": "grep -q '\"repository\":\"allowed\"'",
}

func newHostileLab(r *runtimeLab) *hostileLab {
	r.Helper()
	t, h := r.T, &hostileLab{runtimeLab: r}
	h.liar = newLiar(t, h.registry)
	h.client = registrytest.Client(t)
	h.ours, _ = keytest.Pair(t, h.dir, "ours")
	h.theirs, _ = keytest.Pair(t, t.TempDir(), "theirs")
	h.something = []imageLayer{h.layer(tartest.Directory("data", 0o755), tartest.File("data/other", strings.Repeat("other", 5000)))}
	var rules strings.Builder
	for repository, script := range policies {
		fmt.Fprintf(&rules, "[[trust.policy]]\nrepositories = ['127.0.0.1:*/%s']\ncommand = ['/bin/sh', '-c', '''%s''']\n", repository, script)
	}
	h.stop(unix.SIGTERM)
	h.serve(h.configure("read-deadline = '2s'\n[trust]\nkeys = [%q]\n%s", filepath.Join(h.dir, "*.pub"), &rules)...)
	return h
}

// made is an artifact in the registry.
type made struct {
	place    artifact.Place
	desc     ocispec.Descriptor
	manifest ocispec.Manifest
	config   artifact.Config
}

// image makes an image, and an artifact of it that is signed with a key or not.
func (h *hostileLab) image(repository, key string, layers ...imageLayer) (image ocispec.Descriptor, m made) {
	h.Helper()
	ref, err := oci.ParseRef(h.push(repository, layers...))
	if err != nil {
		h.Fatal(err)
	}
	var options []string
	if key != "" {
		options = append(options, "--sign-key="+key)
	}
	h.pagein(append(append([]string{"convert", "--quiet"}, options...), ref.String())...)
	place, a, err := artifact.Find(h.Context(), h.client, ref, nil)
	if err != nil {
		h.Fatal(err)
	}
	m = made{place: place, desc: a.Descriptor}
	h.fetch(place, a.Descriptor, &m.manifest)
	h.fetch(place, m.manifest.Config, &m.config)
	if image, err = place.Resolve(h.Context(), ref); err != nil {
		h.Fatal(err)
	}
	return image, m
}

// put stores JSON in the repository of an artifact, under a tag if there is one.
func (h *hostileLab) put(m made, mediaType, tag string, v any) ocispec.Descriptor {
	h.Helper()
	desc, b := inJSON(h.lab, mediaType, v)
	if tag == "" {
		tag = desc.Digest.String()
	}
	if err := m.place.Repository.PushReference(h.Context(), desc, bytes.NewReader(b), tag); err != nil {
		h.Fatal(err)
	}
	return desc
}

// refer makes the list of what refers to an image one that an attacker wrote.
func (h *hostileLab) refer(m made, image ocispec.Descriptor, artifacts ...ocispec.Descriptor) {
	h.Helper()
	for i := range artifacts {
		artifacts[i].ArtifactType = artifact.Type
	}
	h.put(m, ocispec.MediaTypeImageIndex, strings.Replace(image.Digest.String(), ":", "-", 1),
		ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: artifacts})
}

// moveSignatures gives an artifact the signatures of another one, with a change or without.
func (h *hostileLab) moveSignatures(from, to made, change func(*ocispec.Manifest)) {
	h.Helper()
	desc, err := from.place.Repository.Resolve(h.Context(), signature.Tag(from.desc.Digest))
	if err != nil {
		h.Fatal(err)
	}
	var m ocispec.Manifest
	h.fetch(from.place, desc, &m)
	m.Subject = &ocispec.Descriptor{MediaType: to.desc.MediaType, Digest: to.desc.Digest, Size: to.desc.Size}
	if change != nil {
		change(&m)
	}
	h.put(to, ocispec.MediaTypeImageManifest, signature.Tag(to.desc.Digest), m)
}

// bytesOf fetches what is right.
func (h *hostileLab) bytesOf(m made, desc ocispec.Descriptor) []byte {
	h.Helper()
	b, err := content.FetchAll(h.Context(), m.place.Target(), desc)
	if err != nil {
		h.Fatal(err)
	}
	return b
}

// layerOf is the first layer of a type.
func (m made) layerOf(mediaType string) ocispec.Descriptor {
	return m.manifest.Layers[slices.IndexFunc(m.manifest.Layers, func(d ocispec.Descriptor) bool { return d.MediaType == mediaType })]
}

// unpacked pulls an image through the liar, and checks that it was pulled as any other and that the reason was said once. It leaves nothing of it.
func (h *hostileLab) unpacked(name, image, reason string) {
	h.Helper()
	said, image := len(h.said()), h.addr+"/"+image
	h.pull(image)
	if mounted := h.mounted(); len(mounted) > 0 {
		h.Errorf("%s: mounted are %v", name, mounted)
	}
	if got := h.run(image, "sha256sum", "/data/random"); got != digestOf(h.data, "/data/random") {
		h.Errorf("%s: it reads %q", name, got)
	}
	news := h.said()[said:]
	if strings.Count(news, reason) != 1 || strings.Count(news, "unpacked as usual") != 1 {
		h.Errorf("%s: want %q once, said was\n%s", name, reason, news)
	}
	h.Ctr("images", "rm", "--sync", image)
}

// lazy pulls an image through the liar, and checks that it is mounted.
func (h *hostileLab) lazy(name, image string) string {
	h.Helper()
	image = h.addr + "/" + image
	h.pull(image)
	if mounted := h.mounted(); len(mounted) != 1 {
		h.Errorf("%s: mounted are %v", name, mounted)
	}
	return image
}

// TestHostileArtifactsAreNotUsedAndTheirImagesCanBePulled has attackers who may push whatever they want, and registries that answer whatever they want, but have no key.
func TestHostileArtifactsAreNotUsedAndTheirImagesCanBePulled(t *testing.T) {
	beside(t)
	h := newHostileLab(newRuntimeLabAnywhere(t))
	_, other := h.image("other", h.ours, h.something...)

	_, unsigned := h.image("unsigned", "", h.layers...)
	h.unpacked("unsigned", "unsigned:1", "not signed at all")
	if !h.wasAsked(unsigned.desc.Digest.String()) {
		t.Error("the artifact that is not signed was not even looked at")
	}
	for _, part := range append(unsigned.manifest.Layers, unsigned.manifest.Config) {
		if h.wasAsked(part.Digest.String()) {
			t.Errorf("%s of an artifact that is not signed was read", part.MediaType)
		}
	}

	h.image("foreign", h.theirs, h.layers...)
	h.unpacked("signed by another key", "foreign:1", "not signed by a trusted key, but by 1 other key")

	h.image("stale", h.ours, h.layers[:2]...)
	h.push("stale", h.layers...)
	h.unpacked("stale after the tag was pushed anew", "stale:1", "no artifact is attached")

	image, m := h.image("subject", h.ours, h.layers...)
	_, stranger := h.image("subject", h.ours, h.something...)
	h.push("subject", h.layers...)
	h.refer(m, image, stranger.desc)
	h.unpacked("another image's", "subject:1", "it does not belong to image "+image.Digest.String())

	for repository, c := range map[string]struct {
		reason string
		change func(*ocispec.Manifest)
		lie    func([]byte) []byte
	}{
		"moved":     {reason: "what is signed is \\\"sha256:"},
		"gigantic":  {reason: "at most 262144 are allowed", change: func(m *ocispec.Manifest) { m.Annotations = map[string]string{"x": strings.Repeat("x", 1<<20)} }},
		"malformed": {reason: "has no signature in base64", change: func(m *ocispec.Manifest) { m.Layers[0].Annotations = nil }},
		"garbled":   {reason: "read signatures", lie: swapped([]byte(`{"layers":[{`))},
	} {
		_, signed := h.image(repository, h.ours, h.something...)
		_, m := h.image(repository, "", h.layers...)
		h.moveSignatures(signed, m, c.change)
		h.lie(signature.Tag(m.desc.Digest), c.lie)
		h.unpacked("signature of another artifact, "+repository, repository+":1", c.reason)
		h.lie(signature.Tag(m.desc.Digest), nil) // which the artifacts of other repositories have too
	}

	// An artifact that only looks newer, and one that somebody who may push has made newer, hide nothing.
	image, m = h.image("newer", h.ours, h.layers...)
	attack := m.manifest
	attack.Annotations = map[string]string{artifact.AnnotationGeneration: "2147483647"}
	attacked := h.put(m, ocispec.MediaTypeImageManifest, "", attack)
	attacked.Annotations = attack.Annotations
	h.refer(m, image, attacked, m.desc)
	name := h.lazy("behind a newer one that is not signed", "newer:1")
	if got := h.run(name, "sha256sum", "/data/random"); got != digestOf(h.data, "/data/random") {
		t.Errorf("it reads %q", got)
	}
	h.Ctr("images", "rm", "--sync", name)

	h.push("named", h.layers...)
	h.pagein("convert", "--quiet", "--tag-suffix=-pagein", h.registry+"/named:1")
	h.unpacked("annotation that names an unsigned artifact", "named:1-pagein", "not signed at all")

	for repository, reason := range map[string]string{
		"refused": "policy command /bin/sh (exit status 1): not in production", "crashed": "signal: segmentation fault", "hung": "policy command /bin/sh did not answer",
	} {
		h.image(repository, "", h.layers...)
		h.unpacked("policy command", repository+":1", reason)
	}
	h.image("allowed", "", h.layers...)
	h.Ctr("images", "rm", "--sync", h.lazy("allowed by a command", "allowed:1"))

	for what, c := range map[string]func(made) ocispec.Descriptor{
		"manifest": func(m made) ocispec.Descriptor { return m.desc },
		"meta":     func(m made) ocispec.Descriptor { return m.layerOf(artifact.MediaTypeMeta) },
		"map":      func(m made) ocispec.Descriptor { return m.layerOf(artifact.MediaTypeMap) },
	} {
		lies := map[string]func([]byte) []byte{"swapped": swapped(h.bytesOf(other, c(other))), "truncated": truncated, "flipped": flipped}
		if os.Getenv(require.GuestEnv) != "" { // an emulated machine needs ten seconds for each
			lies = map[string]func([]byte) []byte{"flipped": flipped}
		}
		for how, change := range lies {
			h.pagein("gc") // what is there is not asked for
			_, m := h.image(how+"-"+what, h.ours, h.layers...)
			lied := c(m).Digest.String()
			h.lie(lied, change)
			h.unpacked(what+" "+how, how+"-"+what+":1", "reason=")
			h.lie(lied, nil)
		}
	}
}

// TestBlobsThatAreSwappedBehindTheirDigestsShowNoWrongByte lies about the data of an image that is mounted.
func TestBlobsThatAreSwappedBehindTheirDigestsShowNoWrongByte(t *testing.T) {
	beside(t)
	h := newHostileLab(newRuntimeLabAnywhere(t))
	_, m := h.image("app", h.ours, h.layers...)
	_, other := h.image("other", h.ours, h.something...)
	object := m.layerOf(artifact.MediaTypeObject)
	for how, change := range map[string]func([]byte) []byte{
		"swapped": swapped(h.bytesOf(other, other.layerOf(artifact.MediaTypeObject))), "truncated": truncated,
		"zeros": func(b []byte) []byte { return make([]byte, len(b)) },
	} {
		h.lie(object.Digest.String(), change)
		image := h.lazy(how, "app:1")
		if out, err := h.Try(h.runArgs(image, "sha256sum", "/data/random")...); err == nil {
			t.Errorf("%s: it reads %q", how, out)
		}
		if !strings.Contains(h.said(), object.Digest.String()) {
			t.Errorf("%s: nobody says what is wrong", how)
		}
		h.lie(object.Digest.String(), nil)
		h.waitFor("the source not to be avoided any more", func() bool {
			out, err := h.Try(h.runArgs(image, "sha256sum", "/data/random")...)
			if err == nil && out != digestOf(h.data, "/data/random") {
				t.Fatalf("%s: it reads %q", how, out)
			}
			return err == nil
		})
		h.Ctr("images", "rm", "--sync", image)
		h.pagein("gc")
	}
}

// TestAKeyThatIsTakenAwayCountsNoMore without a restart, and what was mounted stays.
func TestAKeyThatIsTakenAwayCountsNoMore(t *testing.T) {
	beside(t)
	h := newHostileLab(newRuntimeLabAnywhere(t))
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(filepath.Join(h.dir, from), filepath.Join(h.dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	h.image("first", h.ours, h.layers...)
	image := h.lazy("while the key is there", "first:1")
	move("ours.pub", "ours.away")
	if got := h.run(image, "sha256sum", "/data/random"); got != digestOf(h.data, "/data/random") {
		t.Errorf("it reads %q", got)
	}
	h.Ctr("images", "rm", "--sync", image)
	h.image("second", h.ours, h.layers...)
	h.unpacked("without the key", "second:1", "no key is there that it could be signed with")
	move("ours.away", "ours.pub")
	h.image("third", h.ours, h.layers...)
	h.lazy("with the key again", "third:1")
}
