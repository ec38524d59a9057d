package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/pagein/pagein/internal/httprange"
)

// Range opens bytes [off, off+n) of the blob desc. The reader yields exactly n bytes and then io.EOF, fails with io.ErrUnexpectedEOF when
// the server sends fewer, and must be closed before ctx is cancelled. The endpoints are asked one after the other until one answers; nothing is retried.
// The reader also has a method Reject, for when its bytes turned out to be wrong: for a while they are asked for elsewhere.
//
// Errors that callers may want to tell apart: *[StatusError], [ErrNoRange], [ErrStalled].
func (r *Repository) Range(ctx context.Context, desc ocispec.Descriptor, off, n int64) (io.ReadCloser, error) {
	wrap := func(err error) error {
		return fmt.Errorf("read bytes %d to %d of %s@%s: %w", off, off+n-1, r, desc.Digest, Explain(err))
	}
	if off < 0 || n <= 0 || off > desc.Size-n {
		return nil, wrap(fmt.Errorf("the range is outside of its %d bytes", desc.Size))
	}
	if err := desc.Digest.Validate(); err != nil {
		return nil, wrap(err)
	}
	all, err := r.endpoints()
	if err != nil {
		return nil, wrap(err)
	}
	var failed httprange.SourcesError
	able := choose(all, canPull)
	for i, e := range able {
		at := r.at(e, desc)
		body, err := at.open(ctx, off, n, i == len(able)-1)
		if err == nil {
			body.OnError(func(err error) error {
				at.failed(ctx, err)
				return wrap(fmt.Errorf("%s: %w", e, err))
			})
			return &rangeBody{Body: body, at: at}, nil
		}
		failed.Errs = append(failed.Errs, Explain(err))
		if ctx.Err() != nil {
			break
		}
	}
	if len(failed.Errs) == 0 {
		return nil, wrap(fmt.Errorf("%w: hosts.toml names no server for it that may be pulled from", errNoEndpoint))
	}
	return nil, wrap(&failed)
}

var errNoEndpoint = errors.New("nobody to ask")

// rangeBody is a range that came from some endpoint.
type rangeBody struct {
	*httprange.Body
	at *blobAt
}

// Reject says that the bytes were not what they should be.
func (b *rangeBody) Reject() { b.at.reject() }

// Close implements io.Closer.
func (b *rangeBody) Close() error {
	defer b.at.release()
	return b.Body.Close()
}

// blobAt is a blob at one endpoint.
type blobAt struct {
	e        *endpoint
	peers    *httprange.Proxy // to be asked first, or nil
	viaPeers bool             // the answer came from there
	patience time.Duration    // until the answer begins, if there is somebody else to ask
	release  func()           // gives back what the answer holds, once it is closed
	source   httprange.Source
	scoped   func(*loginClient) httprange.Do
}

func (r *Repository) at(e *endpoint, desc ocispec.Descriptor) *blobAt {
	scope := auth.ScopeRepository(r.Reference.Repository, auth.ActionPull)
	scoped := func(client *loginClient) httprange.Do {
		return func(req *http.Request) (*http.Response, error) { // the scope lets the client find a token at the first attempt
			return client.Do(req.WithContext(auth.AppendScopesForHost(forRepository(req.Context(), r), req.URL.Host, scope)))
		}
	}
	return &blobAt{e: e, peers: r.c.o.Peers, patience: r.c.o.Stall / 3, release: func() {}, scoped: scoped, source: httprange.Source{
		URL: e.url("/"+r.Reference.Repository+"/blobs/"+desc.Digest.String(), ""), Size: desc.Size,
		Home: scoped(e.direct), Elsewhere: e.elsewhere.Do, Memory: &r.c.memory, Stall: r.c.o.Stall,
	}}
}

// open asks for a range: peers first, if there are any and they work. Only the last that can be asked is waited for until it stalls.
func (b *blobAt) open(ctx context.Context, off, n int64, last bool) (*httprange.Body, error) {
	if b.peers != nil && b.peers.Usable() {
		through := b.source
		through.Home = b.scoped(b.e.peers)
		through.Memory = new(httprange.Memory) // what is behind a redirect, peers are not to share
		body, err := b.ask(ctx, through, off, n, last && !b.peers.Fallback)
		if err == nil {
			b.viaPeers = true
			b.peers.Worked()
			return body, nil
		}
		if ctx.Err() == nil {
			b.peers.Failed(err)
		}
		if ctx.Err() != nil || !b.peers.Fallback {
			return nil, err
		}
	}
	body, err := b.ask(ctx, b.source, off, n, last)
	if err != nil {
		b.failed(ctx, err)
		return nil, err
	}
	b.e.health.Worked()
	return body, nil
}

func (b *blobAt) ask(ctx context.Context, s httprange.Source, off, n int64, last bool) (*httprange.Body, error) {
	if last {
		return s.Range(ctx, off, n)
	}
	body, release, err := httprange.Promptly(ctx, b.patience, func(ctx context.Context) (*httprange.Body, error) { return s.Range(ctx, off, n) })
	if errors.Is(err, ErrStalled) {
		return nil, fmt.Errorf("%s: %w", b.e, err)
	}
	if err != nil {
		return nil, err
	}
	b.release = release
	return body, nil
}

// failed draws the conclusions of an error: an endpoint in trouble is avoided for a while, and so is one that ignores Range, or a mirror that does not have this blob.
func (b *blobAt) failed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return // who asked has gone: that says nothing
	}
	if b.viaPeers {
		b.peers.Failed(err)
		return
	}
	status := (*StatusError)(nil)
	switch {
	case errors.Is(err, ErrNoRange):
		b.source.Memory.Lacks(b.source.URL, err)
	case errors.As(err, &status) && status.Permanent():
		if b.e.mirrors != "" && (status.Code == http.StatusNotFound || status.Code == http.StatusGone) {
			b.source.Memory.Lacks(b.source.URL, err)
		}
	default:
		b.source.Memory.Forget(b.source.URL)
		b.e.health.Failed()
	}
}

// errRejected says that bytes were wrong.
var errRejected = errors.New("it lately sent wrong bytes of this blob")

// reject has the blob asked for elsewhere for a while. The registry itself has nobody behind it, and stays.
func (b *blobAt) reject() {
	switch {
	case b.viaPeers:
		b.peers.Failed(errRejected)
	case b.e.mirrors != "":
		b.source.Memory.Lacks(b.source.URL, fmt.Errorf("%s: %w", b.e, errRejected))
	default:
		b.source.Memory.Forget(b.source.URL)
	}
}
