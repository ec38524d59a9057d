package backend

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/pagein/pagein/internal/httprange"
)

// httpObject is something that an HTTP server has.
type httpObject struct {
	name   string // without query
	size   int64
	locate func(context.Context) (*url.URL, error) // where it is now; a signature in it may differ each time
	client *http.Client                            // does not follow redirects
	memory *httprange.Memory                       // of where it redirects to
	stall  time.Duration                           // how long an answer may take to begin
	refuse func(*http.Response) error              // what an answer other than success means, or nil for what HTTP says
}

// Range implements [Object].
func (o *httpObject) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if err := checkRange(o, off, n); err != nil {
		return nil, err
	}
	fail := func(err error) error { return rangeError(o, off, n, err) }
	u, err := o.locate(ctx)
	if err != nil {
		return nil, fail(err)
	}
	source := httprange.Source{URL: u, Size: o.size, Home: o.do, Elsewhere: o.do, Memory: o.memory, Stall: o.stall}
	body, err := source.Range(ctx, off, n)
	if err != nil {
		return nil, fail(o.learn(u, err))
	}
	body.OnError(fail)
	return body, nil
}

// do sends a request.
func (o *httpObject) do(req *http.Request) (*http.Response, error) {
	resp, err := o.client.Do(req)
	if err != nil || o.refuse == nil || resp.StatusCode < 400 {
		return resp, err
	}
	defer resp.Body.Close()
	return nil, o.refuse(resp)
}

// learn notes that a server ignores Range, so that it does not begin to send the whole object again and again.
func (o *httpObject) learn(u *url.URL, err error) error {
	if errors.Is(err, httprange.ErrNoRange) {
		o.memory.Lacks(u, err)
	}
	return err
}

// Size implements [Object].
func (o *httpObject) Size() int64 { return o.size }

// String implements [Object].
func (o *httpObject) String() string { return o.name }
