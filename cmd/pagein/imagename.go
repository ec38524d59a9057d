package main

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/urfave/cli/v2"

	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/report"
)

// servedImage is findImage, of the names that images were pulled by, too: containerd has them mounted as name@digest, the digest being that of the artifact, so that only the registry knows which
// of them a tag means. Where it does not, as it is away or the tag was moved, what alone is mounted of the repository is taken, with a word on standard error.
func servedImage(c *cli.Context, s control.Status, what string) (control.Image, error) {
	image, notServed := findImage(s, what)
	if notServed == nil {
		return image, nil
	}
	unpacked := wasUnpacked(s, what)
	notServed = cmp.Or(unpacked, notServed)
	related := sameRepository(s, what) // without any the registry need not be asked
	if len(related) == 0 {
		return image, notServed
	}
	m, err := meaning(c, what)
	for _, i := range related {
		if err == nil && m.is(i) {
			return i, nil
		}
	}
	if unpacked != nil {
		return image, unpacked
	}
	why := "the registry has another image of that name"
	if err != nil {
		why = err.Error()
	}
	if len(related) == 1 {
		fmt.Fprintf(c.App.ErrWriter, "pagein: note: taking %s, as it is all that is mounted of that repository: %s\n", related[0].Ref, why)
		return related[0], nil
	}
	var names []string
	for _, i := range related {
		names = append(names, i.Ref)
	}
	return image, fmt.Errorf("which mounted image %s is cannot be told (%s): name one of %s", what, why, strings.Join(names, ", "))
}

// wasUnpacked is an error that says why an image is not lazy, if containerd pulled it for pageind and the daemon still knows why it is not; else nil.
func wasUnpacked(s control.Status, what string) error {
	ref, err := oci.ParseRef(what)
	if err != nil || ref.Kind != oci.Registry {
		return nil
	}
	if ref.Tag == "" && ref.Digest == "" {
		ref.Tag = oci.DefaultTag
	}
	for _, u := range s.Unpacked {
		if u.Image == ref.String() {
			return fmt.Errorf("%s was unpacked as any other image on %s, so nobody waits for its bytes: %s", u.Image, u.At.Local().Format(time.DateTime), report.Printable(u.Reason))
		}
	}
	return nil
}

// sameRepository returns the images from the repository of a registry that a reference names.
func sameRepository(s control.Status, what string) []control.Image {
	wanted, err := oci.ParseRef(what)
	if err != nil || wanted.Kind != oci.Registry || isDirectory(what) {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(s.Images), func(i control.Image) bool {
		ref, err := oci.ParseRef(i.Ref)
		return err != nil || ref.Kind != oci.Registry || ref.Host != wanted.Host || ref.Repository != wanted.Repository
	})
}

// named is what a reference means where it points to.
type named struct {
	id        string          // of the image that would be mounted now
	artifacts []digest.Digest // all of the same image: that one, and those before it
}

// is reports whether that is what an image was mounted from.
func (n named) is(image control.Image) bool {
	ref, err := oci.ParseRef(image.Ref)
	return image.ID == n.id || err == nil && slices.Contains(n.artifacts, ref.Digest)
}

// meaning asks the registry, for a bounded time, what a reference means.
func meaning(c *cli.Context, what string) (n named, err error) {
	ctx, cancel := context.WithTimeout(c.Context, patience)
	defer cancel()
	err = look(c, func(l *looker) error {
		ref, err := l.parse(what)
		if err != nil {
			return err
		}
		place, a, err := artifact.Find(ctx, l.client, ref, l.platform)
		if err != nil {
			return err
		}
		n = named{a.MetaDigest.Encoded(), []digest.Digest{a.Descriptor.Digest}}
		if a.Subject == nil {
			return nil
		}
		list, err := place.Attached(ctx, *a.Subject)
		for _, d := range list {
			n.artifacts = append(n.artifacts, d.Digest)
		}
		return err
	})
	return n, err
}

// imageID finds out which image is meant: one that the daemon serves, or that a reference names.
func imageID(c *cli.Context, s control.Status, what string) (string, error) {
	image, notServed := findImage(s, what)
	if notServed == nil {
		return image.ID, nil
	}
	if sum, err := hex.DecodeString(what); err == nil && len(sum) == 32 {
		return what, nil
	}
	if _, err := os.Stat(what); err == nil {
		return "", notServed
	}
	m, err := meaning(c, what)
	if err != nil {
		return "", errors.Join(notServed, err)
	}
	return m.id, nil
}
