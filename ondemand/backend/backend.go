// Package backend reads ranges of source objects: the remote byte strings that frames are cut from.
//
// It knows how to get bytes from registries, image layouts, HTTP servers, S3 and directories, and nothing of blobs, frames or kernels. What it returns is not
// trusted: the engine verifies every frame before it uses it. The one idea to hold in mind: a backend does one thing once. Whether to try again, elsewhere or at
// all is decided by who calls; the backend says what it takes to decide: is it permanent, when to come back, who is to blame.
package backend

import (
	"context"
	"io"
)

// Object is one source object. Its methods may be called concurrently, and hold nothing open between calls that would have to be closed. These comments are the contract; package
// backendtest tries whether an implementation keeps it.
type Object interface {
	// Range opens n bytes from offset off, n > 0. A range that is not within the object is a permanent error.
	//
	// The reader yields exactly n bytes and then io.EOF. A source that has fewer makes it fail with io.ErrUnexpectedEOF, and bytes beyond n are never
	// read. An answer that is anything else than the range (a whole object, another range, other encodings) is an error, not data. The caller closes the
	// reader, early if it likes, and cancels ctx only after that. The reader need not be fit for concurrent use.
	//
	// Nothing is retried, except what costs no time: another place for the same bytes, a file handle or a redirect that had got stale. Neither Range nor the
	// reader waits without end: with next to no bytes for some time, half a minute unless configured, they fail.
	//
	// Errors, of Range and of the reader, name the object as String does, the range, the host or directory that is to blame, and the reason; they hold no
	// secrets. [IsPermanent] tells whether trying again is useless, [RetryAfter] when the source wants to be asked again. When ctx has ended, its error is
	// among them, and they are not permanent.
	Range(ctx context.Context, off, n int64) (io.ReadCloser, error)
	// Size is the object's length in bytes, as its manifest states it.
	Size() int64
	// String names the object for messages, in one line and without credentials: "localhost:5000/app@sha256:…".
	String() string
}

// rejecter is a range that can be told that its bytes are wrong.
type rejecter interface{ Reject() }

// Reject tells the source of a range, which may be closed, that its bytes were not what they should be. A backend with more than one place to read from prefers the others for a
// while; one with a single place does nothing.
func Reject(r io.Reader) {
	if r, ok := r.(rejecter); ok {
		r.Reject()
	}
}
