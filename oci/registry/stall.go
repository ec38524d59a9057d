package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// patience is a round tripper that ends a download in which nothing happens: no answer, or no next byte of its body, for a while. Uploads are
// left alone, as a registry may take its time to digest one.
type patience struct {
	base  http.RoundTripper
	stall time.Duration
}

// RoundTrip implements http.RoundTripper.
func (p *patience) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		return p.base.RoundTrip(req)
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	b := &watchedBody{ctx: ctx, cancel: cancel, stall: p.stall}
	b.timer = time.AfterFunc(p.stall, func() { cancel(ErrStalled) })
	resp, err := p.base.RoundTrip(req.WithContext(ctx))
	b.timer.Stop()
	if err != nil {
		err = b.cause(err)
		cancel(nil)
		return nil, err
	}
	b.body = resp.Body
	resp.Body = b
	return resp, nil
}

// watchedBody is the body of an answer. The clock runs only while somebody waits for bytes.
type watchedBody struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	body   io.ReadCloser
	timer  *time.Timer
	stall  time.Duration
}

func (b *watchedBody) Read(p []byte) (int, error) {
	b.timer.Reset(b.stall)
	n, err := b.body.Read(p)
	b.timer.Stop()
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.cause(err)
	}
	return n, err
}

func (b *watchedBody) Close() error {
	err := b.body.Close()
	b.timer.Stop()
	b.cancel(nil)
	return err
}

// cause says that the answer stalled if that is why err happened.
func (b *watchedBody) cause(err error) error {
	if errors.Is(context.Cause(b.ctx), ErrStalled) {
		return fmt.Errorf("%w for %s", ErrStalled, b.stall)
	}
	return err
}
