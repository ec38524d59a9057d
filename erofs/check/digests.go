package check

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
)

// Digests reads every regular file that has a content digest, compares, and calls problem, which may be nil, for each that has another content or cannot be read. Linux
// shares the pages of files whose digests are equal, so a wrong one shows a file the content of another. It returns how many digests are right. Images without digests
// take no time. The error says that there was no going on, or that ctx ended.
func Digests(ctx context.Context, fsys *erofs.FS, problem func(path string, err error)) (right uint64, err error) {
	if fsys.Super().DigestXattr == "" {
		return 0, nil
	}
	if problem == nil {
		problem = func(string, error) {}
	}
	root, err := fsys.Root()
	if err != nil {
		return 0, err
	}
	seen := inodeSet{}
	buf := make([]byte, 1<<20)
	err = erofs.Visit(root, erofs.Visitor{Enter: func(path string, _ int, _ erofs.Entry, h erofs.Handle, err error) error {
		if err != nil { // which is for [Image] to report
			return nil
		}
		st := h.Stat()
		if st.Mode&unix.S_IFMT != unix.S_IFREG || seen.has(st.Ino) {
			return nil
		}
		seen.add(st.Ino)
		ok, err := digestIsRight(ctx, h, st.Size, buf)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			problem(path, err)
		case ok:
			right++
		}
		return nil
	}})
	if err != nil {
		return right, fmt.Errorf("check digests: %w", err)
	}
	return right, nil
}

// digestIsRight compares a file with its digest. ok is false if it has none.
func digestIsRight(ctx context.Context, h erofs.Handle, size int64, buf []byte) (ok bool, err error) {
	want, ok, err := h.Digest()
	if !ok || err != nil {
		return false, err
	}
	hash := sha256.New()
	for off := int64(0); off < size && ctx.Err() == nil; {
		b := buf[:min(int64(len(buf)), size-off)]
		n, err := h.ReadAt(b, off)
		if n < len(b) {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return false, fmt.Errorf("read for its digest: %w", err)
		}
		hash.Write(b)
		off += int64(n)
	}
	if got := [32]byte(hash.Sum(nil)); got != want {
		return false, fmt.Errorf("its content has SHA-256 %x, its attribute says %x", got, want)
	}
	return true, nil
}
