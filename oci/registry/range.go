package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
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
	var failed httprange.Failures
	for _, e := range choose(all, canPull) {
		get := &rangeRequest{r: r, e: e, blob: e.url("/"+r.Reference.Repository+"/blobs/"+desc.Digest.String(), ""), off: off, n: n, size: desc.Size}
		body, err := get.open(ctx)
		if err == nil {
			body.OnError(func(err error) error {
				get.failed(ctx, err)
				return wrap(err)
			})
			return &rangeBody{Body: body, reject: get.reject}, nil
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
	reject func()
}

// Reject says that the bytes were not what they should be.
func (b *rangeBody) Reject() { b.reject() }

// rangeRequest asks one endpoint for one range.
type rangeRequest struct {
	r            *Repository
	e            *endpoint
	blob         *url.URL // what the endpoint calls it
	off, n, size int64
	viaPeers     bool // the answer came through the peer-to-peer proxy
}

func (g *rangeRequest) notes() *notes { return &g.r.c.notes }

// open asks where the blob was the last time, if that is known, and else the endpoint.
func (g *rangeRequest) open(ctx context.Context) (*httprange.Body, error) {
	key := g.blob.String()
	known := g.notes().get(key)
	if known.lacks != nil {
		return nil, known.lacks
	}
	if body, err, ok := g.fromPeers(ctx); ok {
		return body, err
	}
	if known.target != nil {
		body, err := g.from(ctx, known.target)
		if err == nil {
			return body, nil
		}
		g.notes().forget(key)
		if status := (*StatusError)(nil); ctx.Err() != nil || errors.As(err, &status) && !expired(status.Code) {
			g.failed(ctx, err)
			return nil, err
		}
	}
	body, err := g.ask(ctx, g.e.direct)
	if err != nil {
		g.failed(ctx, err)
		return nil, err
	}
	g.e.health.worked()
	return body, nil
}

// from asks a place that an endpoint redirected to.
func (g *rangeRequest) from(ctx context.Context, u *url.URL) (*httprange.Body, error) {
	resp, err := g.get(ctx, u, g.e.elsewhere.Do)
	if err != nil {
		return nil, err
	}
	return httprange.Accept(resp, g.off, g.n, g.size)
}

// ask asks the endpoint, goes where it redirects to, and remembers where that was.
func (g *rangeRequest) ask(ctx context.Context, endpoint *auth.Client) (*httprange.Body, error) {
	u, life, now := g.blob, maxLife, time.Now()
	resp, err := g.get(ctx, u, endpoint.Do)
	for hops := 0; err == nil && httprange.IsRedirect(resp); hops++ {
		if hops == maxRedirects {
			_ = resp.Body.Close()
			return nil, fmt.Errorf("%s: %w", g.e, errRedirects)
		}
		if u, err = next(resp, g.e.scheme); err != nil {
			return nil, fmt.Errorf("%s: %w", g.e, err)
		}
		life = min(life, lifeOf(u, now))
		do := g.e.elsewhere.Do
		if u.Host == g.e.host && u.Scheme == g.e.scheme {
			do, life = endpoint.Do, 0 // it wants credentials again, and asking it is no shortcut
		}
		resp, err = g.get(ctx, u, do)
	}
	if err != nil {
		return nil, err
	}
	body, err := httprange.Accept(resp, g.off, g.n, g.size)
	if err == nil && u != g.blob && life > 0 {
		g.notes().set(g.blob.String(), note{target: u, until: now.Add(life)})
	}
	return body, err
}

// get sends one request for the range.
func (g *rangeRequest) get(ctx context.Context, u *url.URL, do func(*http.Request) (*http.Response, error)) (*http.Response, error) {
	// The scope lets the authentication client find a token at the first attempt.
	ctx = auth.AppendScopesForHost(ctx, u.Host, auth.ScopeRepository(g.r.Reference.Repository, auth.ActionPull))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	httprange.Set(req, g.off, g.n)
	return do(req)
}

// next is where a redirect leads. It lets go of the answer.
func next(resp *http.Response, firstScheme string) (*url.URL, error) {
	defer resp.Body.Close()
	u, err := resp.Location()
	if err != nil {
		return nil, fmt.Errorf("%w: %d without a usable Location", httprange.ErrBadAnswer, resp.StatusCode)
	}
	if resp.ContentLength > 0 && resp.ContentLength < 4096 {
		_, _ = io.CopyN(io.Discard, resp.Body, resp.ContentLength) // only the connection's fate depends on it
	}
	return u, checkScheme(firstScheme, &http.Request{URL: u})
}

// failed draws the conclusions of an error: an endpoint in trouble is avoided for a while, and so is one that does not have this blob, or ignores Range, if there are others.
func (g *rangeRequest) failed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return // who asked has gone: that says nothing
	}
	if g.viaPeers {
		g.r.c.o.Peers.Failed(err)
		return
	}
	key := g.blob.String()
	g.notes().forget(key)
	status := (*StatusError)(nil)
	switch {
	case errors.Is(err, ErrNoRange):
		g.notes().set(key, note{lacks: err, until: time.Now().Add(lackLife)})
	case errors.As(err, &status) && (status.Code == http.StatusNotFound || status.Code == http.StatusGone) && g.e.mirrors != "":
		g.notes().set(key, note{lacks: err, until: time.Now().Add(lackLife)})
	case errors.As(err, &status) && status.Permanent():
	default:
		g.e.health.failed()
	}
}

// errRejected says that bytes were wrong.
var errRejected = errors.New("it lately sent wrong bytes of this blob")

// reject has the blob asked for elsewhere for a while. The registry itself has nobody behind it, and stays.
func (g *rangeRequest) reject() {
	if g.viaPeers {
		g.r.c.o.Peers.Failed(errRejected)
		return
	}
	if g.e.mirrors == "" {
		g.notes().forget(g.blob.String())
		return
	}
	g.notes().set(g.blob.String(), note{lacks: fmt.Errorf("%s: %w", g.e, errRejected), until: time.Now().Add(lackLife)})
}

// fromPeers asks the peer-to-peer proxy, if there is one and it works. Otherwise, and when it fails, ok is false and the endpoint is to be asked.
func (g *rangeRequest) fromPeers(ctx context.Context) (body *httprange.Body, err error, ok bool) {
	peers := g.r.c.o.Peers
	if g.e.peers == nil || !peers.Usable() {
		return nil, nil, false
	}
	body, err = g.ask(ctx, g.e.peers)
	if err == nil {
		peers.Worked()
		g.viaPeers = true
		return body, nil, true
	}
	if ctx.Err() != nil {
		return nil, err, true
	}
	peers.Failed(err)
	return nil, err, !peers.Fallback
}
