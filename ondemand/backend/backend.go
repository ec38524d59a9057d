// Package backend reads ranges of source objects: the remote byte strings that frames are cut from.
//
// It knows how to get bytes from an image layout or a registry and nothing of blobs, frames or kernels. What it returns is not
// trusted: the engine verifies every frame before it uses it.
package backend

import (
	"context"
	"io"
)

// Object is one source object. Its methods may be called concurrently.
type Object interface {
	// Range opens n bytes from offset off. The reader yields exactly n bytes and then io.EOF; a server that sends fewer makes it fail with
	// io.ErrUnexpectedEOF, and bytes beyond n are never read. The caller closes the reader, early if it likes, and cancels ctx only after that.
	// Range itself does not retry. An error for which [IsPermanent] holds will not go away by itself.
	Range(ctx context.Context, off, n int64) (io.ReadCloser, error)
	// Size is the object's length in bytes, as its manifest states it.
	Size() int64
	// String names the object for messages, without credentials: "localhost:5000/app@sha256:…".
	String() string
}
