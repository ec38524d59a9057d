package ondemand

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pagein/pagein/internal/kmount"
	"github.com/pagein/pagein/ondemand/store"
)

// File is the transport that needs nothing of the kernel but EROFS mounted from files (Linux ≥ 6.12): it has each blob completed before the mount.
type File struct {
	store *store.Store

	mu    sync.Mutex
	files map[string]*usedFile // by blob ID
}

type usedFile struct {
	*store.Blob
	users int
}

var _ Transport = (*File)(nil)

// NewFile returns a transport for blob files in s.
func NewFile(s *store.Store) *File {
	return &File{store: s, files: make(map[string]*usedFile)}
}

// Name returns "file".
func (t *File) Name() string { return "file" }

// Attach fetches what is missing of the image's blobs, however long that takes.
func (t *File) Attach(ctx context.Context, img *Image) (kmount.EROFS, error) {
	spec := kmount.EROFS{Source: img.MetaPath}
	for i, b := range img.Blobs {
		err := t.use(b)
		if err == nil {
			if err = complete(ctx, b); err != nil {
				err = errors.Join(err, t.drop(b))
			}
		}
		if err != nil {
			for _, b := range img.Blobs[:i] {
				err = errors.Join(err, t.drop(b))
			}
			return kmount.EROFS{}, fmt.Errorf("attach image %s: %w", img.ID, err)
		}
		spec.Devices = append(spec.Devices, t.store.BlobPath(b.ID()))
	}
	return spec, nil
}

// complete fetches all of a blob, in steps that bound the memory that waiting for frames takes. It goes on for as long as each try brings something.
func complete(ctx context.Context, b *Blob) error {
	const step = 64 << 20
	for off := int64(0); off < b.Size(); {
		before := b.Present()
		err := b.fill(ctx, off, step, never)
		switch {
		case err == nil:
			off += step
		case ctx.Err() != nil || b.Present() == before:
			return err
		}
	}
	return nil
}

// never is the deadline of who waits for a source for as long as that works.
func never() (overdue <-chan time.Time, stop func()) { return nil, func() {} }

// use opens the blob's file, or counts one more user of it.
func (t *File) use(b *Blob) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.files[b.ID()]; f != nil {
		f.users++
		return nil
	}
	file, err := t.store.OpenBlob(b.ID(), b.Size(), b.Map().Frames())
	if err != nil {
		return err
	}
	b.Bind(file, file.Presence())
	t.files[b.ID()] = &usedFile{Blob: file, users: 1}
	return nil
}

// drop undoes use. The file of a blob that failed to fill is closed by the last user.
func (t *File) drop(b *Blob) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.files[b.ID()]
	if f == nil {
		return nil
	}
	if f.users--; f.users > 0 {
		return nil
	}
	delete(t.files, b.ID())
	b.Close()
	return f.Close()
}

// Detach closes the blob files that no other attached image uses.
func (t *File) Detach(_ context.Context, img *Image) error {
	var errs error
	for _, b := range img.Blobs {
		errs = errors.Join(errs, t.drop(b))
	}
	return errs
}

// Plain is true: only complete images are attached.
func (t *File) Plain(*Image) bool { return true }

// Serve waits for ctx: nothing is ever asked of this transport.
func (t *File) Serve(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Close closes the blob files. The blobs themselves must be closed before.
func (t *File) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs error
	for _, f := range t.files {
		errs = errors.Join(errs, f.Close())
	}
	clear(t.files)
	return errs
}
