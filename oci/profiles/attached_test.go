package profiles_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"

	"github.com/pagein/pagein/internal/servertest"
	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/profiles"
	"github.com/pagein/pagein/oci/registry/registrytest"
	"github.com/pagein/pagein/profile"
)

// album is an image in a registry, that profiles are attached to.
type album struct {
	*testing.T
	place artifact.Place
	image ocispec.Descriptor
	notes []string // of the last look
}

func newAlbum(t *testing.T) *album {
	t.Helper()
	client := registrytest.Client(t)
	ref, err := oci.ParseRef(servertest.Distribution(t, nil).Addr + "/team/app")
	if err != nil {
		t.Fatal(err)
	}
	a := &album{T: t}
	if a.place, err = artifact.Open(client, ref); err != nil {
		t.Fatal(err)
	}
	config := a.put(ocispec.MediaTypeImageConfig, []byte("{}"))
	a.image = a.manifest(ocispec.Manifest{Config: config})
	return a
}

func (a *album) put(mediaType string, data []byte) ocispec.Descriptor {
	a.Helper()
	desc := content.NewDescriptorFromBytes(mediaType, data)
	if err := a.place.Target().Push(a.Context(), desc, bytes.NewReader(data)); err != nil {
		a.Fatal(err)
	}
	return desc
}

func (a *album) manifest(m ocispec.Manifest) ocispec.Descriptor {
	a.Helper()
	m.Versioned, m.MediaType = specs.Versioned{SchemaVersion: 2}, ocispec.MediaTypeImageManifest
	raw, err := json.Marshal(m)
	if err != nil {
		a.Fatal(err)
	}
	return a.put(m.MediaType, raw)
}

// attach attaches a profile of a page of a file.
func (a *album) attach(file string, runs int) digest.Digest {
	a.Helper()
	return a.push(&profile.Profile{Runs: runs, Entries: []profile.Entry{{Path: file, Len: profile.PageSize}}})
}

func (a *album) push(p *profile.Profile) digest.Digest {
	a.Helper()
	desc, err := profiles.Push(a.Context(), a.place.Target(), &a.image, p)
	if err != nil {
		a.Fatal(err)
	}
	return desc.Digest
}

// files are the files that the attached profiles name.
func (a *album) files() (files []string, err error) {
	a.notes = nil
	p, err := profiles.Attached(a.Context(), a.place, a.image, func(message string) { a.notes = append(a.notes, message) })
	if err != nil {
		return nil, err
	}
	for _, e := range p.Entries {
		if !slices.Contains(files, e.Path) {
			files = append(files, e.Path)
		}
	}
	slices.Sort(files)
	return files, nil
}

// TestABrokenProfileIsLeftOut has a text that is none, a manifest without one, and a profile that fills all the runs that can be merged.
func TestABrokenProfileIsLeftOut(t *testing.T) {
	a := newAlbum(t)
	config := a.put(profiles.MediaTypeConfig, ocispec.DescriptorEmptyJSON.Data)
	text := a.put(profiles.MediaType, []byte("no profile"))
	broken := a.manifest(ocispec.Manifest{ArtifactType: profiles.Type, Subject: &a.image, Config: config, Layers: []ocispec.Descriptor{text}})
	if _, err := a.files(); err == nil || !strings.Contains(err.Error(), "can be used: load profile "+broken.Digest.String()) || len(a.notes) != 1 {
		t.Errorf("error is %v; %q", err, a.notes)
	}
	empty := a.manifest(ocispec.Manifest{ArtifactType: profiles.Type, Subject: &a.image, Config: config, Layers: []ocispec.Descriptor{text, text}})
	a.attach("/a", 1)
	files, err := a.files()
	if err != nil || !slices.Equal(files, []string{"/a"}) || len(a.notes) != 2 {
		t.Errorf("%v, %v; %q", files, err, a.notes)
	}
	for _, d := range []digest.Digest{broken.Digest, empty.Digest} {
		if !strings.Contains(fmt.Sprint(a.notes), d.String()) {
			t.Errorf("%q do not name %s", a.notes, d)
		}
	}
	all := map[digest.Digest]string{a.attach("/b", profile.MaxRuns): "/b", a.attach("/c", profile.MaxRuns): "/c"}
	if files, err = a.files(); err != nil || len(a.notes) < 4 || !strings.Contains(fmt.Sprint(a.notes), "runs, at most") {
		t.Errorf("of %v: %v, %v; %q", all, files, err, a.notes)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := profiles.Attached(ctx, a.place, a.image, func(message string) { t.Error(message) }); err == nil {
		t.Error("it does not end")
	}
}

// TestManyProfilesAreMergedInPart has more than are merged, and two that have too much together.
func TestManyProfilesAreMergedInPart(t *testing.T) {
	a := newAlbum(t)
	byDigest := make(map[string]string)
	var order []string
	for i := range 34 {
		file := fmt.Sprintf("/%02d", i)
		d := a.attach(file, 1).String()
		byDigest[d] = file
		order = append(order, d)
	}
	slices.Sort(order)
	var want []string
	for _, d := range order[:32] {
		want = append(want, byDigest[d])
	}
	slices.Sort(want)
	files, err := a.files()
	if err != nil || !slices.Equal(files, want) || len(a.notes) != 1 || !strings.HasPrefix(a.notes[0], "2 more profiles") {
		t.Errorf("%v, %v; %q", files, err, a.notes)
	}

	a = newAlbum(t)
	for _, file := range []string{"/a", "/b"} {
		p := &profile.Profile{}
		for i := range int64(profile.MaxEntries/4 + 1) {
			p.Entries = append(p.Entries, profile.Entry{Path: file, Off: 2 * i * profile.PageSize, Len: profile.PageSize})
		}
		a.push(p)
	}
	if files, err := a.files(); err != nil || len(files) != 1 || len(a.notes) != 1 || !strings.Contains(a.notes[0], "there would be 131074 entries") {
		t.Errorf("%v, %v; %q", files, err, a.notes)
	}
}
