package main

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/urfave/cli/v2"
	"oras.land/oras-go/v2/errdef"

	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/attach"
	"github.com/pagein/pagein/oci/convert"
	"github.com/pagein/pagein/oci/layout"
	"github.com/pagein/pagein/oci/optimize"
	"github.com/pagein/pagein/oci/registry"
	"github.com/pagein/pagein/oci/remote"
	"github.com/pagein/pagein/profile"
)

// convertRun is one call of the command.
type convertRun struct {
	c        *cli.Context
	src, dst oci.Ref
	dicts    []oci.Ref
	tag      string // for the artifact; empty if it gets none
	suffix   string // of the tag of a copy of the image that names the artifact; empty if there is to be none
	options  convert.Options

	platforms []*ocispec.Platform // of an index; none for this machine's
	all       bool                // all platforms of an index

	touched *profile.Profile // what the artifacts are laid out for, or nil
	laidOut *optimize.Result // how the last one was; nil if it was not

	attached *attach.Attachment // storage for the data, or nil
	remote   *remote.Remote
	client   *registry.Client
}

func (r *convertRun) run(ctx context.Context) (err error) {
	started := time.Now()
	if r.remote, r.client, err = openRemote(r.c); err != nil {
		return err
	}
	defer r.remote.Close()
	defer r.client.Close()
	if r.attached != nil {
		defer r.attached.Close()
	}
	// What a large image takes is mostly long-lived names and places. Collecting earlier than Go's default costs little and keeps the rest small.
	defer debug.SetGCPercent(debug.SetGCPercent(50))

	quiet := r.c.Bool("quiet")
	progress, rate := newProgressLine(r.c.App.ErrWriter, quiet), newMeter()
	r.options.Progress = func(p convert.Progress) { progress.show(func() string { return convertProgress(rate, p) }) }
	r.options.Note = func(message string) {
		if !quiet {
			progress.clear()
			fmt.Fprintf(r.c.App.ErrWriter, "pagein convert: note: %s\n", message)
		}
	}
	err = r.convert(ctx, func(result convert.Result) error {
		progress.clear()
		took := time.Since(started)
		started = time.Now()
		return r.print(result, took)
	})
	progress.clear()
	if err != nil {
		return fmt.Errorf("convert %s: %w", r.src, err)
	}
	return nil
}

// convert makes and stores the artifacts, gives one its tag, and hands each to done. If that fails, a layout that was not there before is not there after it.
func (r *convertRun) convert(ctx context.Context, done func(convert.Result) error) (err error) {
	if err := r.loadProfile(ctx); err != nil {
		return err
	}
	source, err := r.openSource(ctx)
	if err != nil {
		return err
	}
	dst, err := openTarget(r.client, r.dst)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil && dst.Layout != nil {
			err = errors.Join(err, dst.Layout.Discard())
		}
	}()
	if err := r.checkTags(ctx, dst); err != nil { // before the work is done
		return err
	}
	key, err := readKey(r.c.Path(signKey))
	if err != nil {
		return err
	}
	if r.options.Ready, err = signer(dst, key); err != nil {
		return err
	}
	made := make(map[digest.Digest]string)
	for _, c := range source.conversions {
		result, err := r.convertOne(ctx, c, dst)
		if err != nil {
			return err
		}
		if err := done(result); err != nil {
			return err
		}
		made[c.image.Digest] = r.artifact(result).String()
	}
	if r.suffix != "" {
		return r.pushAnnotated(ctx, dst, source.desc, made)
	}
	return nil
}

// convertOne makes one artifact.
func (r *convertRun) convertOne(ctx context.Context, c conversion, dst artifact.Place) (result convert.Result, err error) {
	r.options.Platform = c.image.Platform
	if err := r.loadDictionaries(ctx); err != nil {
		return result, err
	}
	if r.options.Dict != nil {
		defer r.options.Dict.Close() // files without names
	}
	if r.attaches() {
		if r.options.After, err = dst.Newest(ctx, r.dst, c.image, nil); err != nil {
			return result, err
		}
	}
	if result, err = c.run(ctx, dst.Target()); err == nil {
		err = r.layOut(ctx, dst, c.image, &result)
	}
	if err != nil || r.tag == "" {
		return result, err
	}
	if err := r.checkTags(ctx, dst); err != nil { // somebody may have pushed meanwhile
		return result, err
	}
	if err := dst.Target().Tag(ctx, result.Descriptor, r.tag); err != nil {
		return result, fmt.Errorf("tag %s as %q: %w", r.dst, r.tag, registry.Explain(err))
	}
	return result, nil
}

// loadDictionaries finds the artifacts from which may be borrowed.
func (r *convertRun) loadDictionaries(ctx context.Context) error {
	var lenders []convert.Lender
	for _, ref := range r.dicts {
		place, a, err := artifact.Find(ctx, r.client, ref, r.options.Platform)
		if err != nil {
			return fmt.Errorf("open dictionary: %w", err)
		}
		lenders = append(lenders, convert.Lender{Place: place, Artifact: a, Remote: r.remote})
	}
	if len(lenders) == 0 {
		return nil
	}
	var err error
	r.options.Dict, err = convert.LoadDictionary(ctx, r.options.TempDir, r.options.Note, lenders...)
	return err
}

// checkTag refuses to take a name from anything but an artifact: an image that loses its last tag may be gone for good.
func checkTag(ctx context.Context, place artifact.Place, dst oci.Ref) error {
	desc, err := place.Resolve(ctx, dst)
	if errors.Is(err, errdef.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find out what DST names: %w", err)
	}
	switch ours, err := place.IsArtifact(ctx, desc); {
	case err != nil:
		return fmt.Errorf("find out what DST %s names: %w", dst, err)
	case !ours:
		return fmt.Errorf("DST %s names %s, which is no artifact of pagein; choose another tag, or the image would lose its own", dst, desc.Digest)
	}
	return nil
}

// openTarget finds where an artifact is to go. A layout is made if there is none.
func openTarget(client *registry.Client, dst oci.Ref) (artifact.Place, error) {
	if dst.Kind == oci.Layout {
		l, err := layout.Prepare(dst.Path)
		return artifact.Place{Layout: l}, err
	}
	return artifact.Open(client, dst)
}
