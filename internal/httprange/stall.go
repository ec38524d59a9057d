package httprange

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"
)

// minRate is what a download must bring on average over each stall time in which somebody waits for it, in bytes per second. Below it another server, or another
// connection, is worth a try.
const minRate = 1 << 10

// Patience returns a round tripper that ends a download in which next to nothing happens for the time stall: no answer, or bytes of its body at less than 1 KiB/s.
// The error is [ErrStalled]. Uploads are left alone, as a server may take its time to digest one; a form that is posted, as for a token, is none.
func Patience(base http.RoundTripper, stall time.Duration) http.RoundTripper {
	return &patience{base: base, stall: stall}
}

type patience struct {
	base  http.RoundTripper
	stall time.Duration
}

// RoundTrip implements http.RoundTripper.
func (p *patience) RoundTrip(req *http.Request) (*http.Response, error) {
	if uploads(req) {
		return p.base.RoundTrip(req)
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	b := &watchedBody{ctx: ctx, cancel: cancel, stall: p.stall, quota: int64(minRate * p.stall / time.Second)}
	b.timer = time.AfterFunc(p.stall, func() { cancel(ErrStalled) })
	resp, err := p.base.RoundTrip(req.WithContext(ctx))
	b.timer.Stop()
	if err != nil {
		err = b.cause(err)
		cancel(nil)
		return nil, err
	}
	b.body = resp.Body
	b.renew()
	resp.Body = b
	return resp, nil
}

// uploads reports whether a request brings the server something, instead of asking it.
func uploads(req *http.Request) bool {
	switch req.Method {
	case http.MethodGet, http.MethodHead:
		return false
	case http.MethodPost:
		kind, _, _ := mime.ParseMediaType(req.Header.Get("Content-Type"))
		return kind != "application/x-www-form-urlencoded"
	}
	return true
}

// watchedBody is the body of an answer. The clock runs only while somebody waits for bytes, and starts anew whenever quota bytes have come.
type watchedBody struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	body   io.ReadCloser
	timer  *time.Timer
	stall  time.Duration
	quota  int64

	left time.Duration // until the download counts as stalled
	need int64         // bytes until the clock starts anew
}

func (b *watchedBody) renew() { b.left, b.need = b.stall, b.quota }

func (b *watchedBody) Read(p []byte) (int, error) {
	start := time.Now()
	b.timer.Reset(b.left)
	n, err := b.body.Read(p)
	b.timer.Stop()
	b.left = max(b.left-time.Since(start), 0)
	if b.need -= int64(n); b.need <= 0 {
		b.renew()
	}
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
