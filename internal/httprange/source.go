package httprange

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// maxRedirects is how often an answer may lead elsewhere.
const maxRedirects = 10

// ErrRedirects says that there was no end to redirects.
var ErrRedirects = errors.New("more than 10 redirects")

// Do sends a request and does not follow redirects.
type Do func(*http.Request) (*http.Response, error)

// DontFollow is an http.Client's CheckRedirect for a [Do].
func DontFollow(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// CheckRedirect is an http.Client's CheckRedirect that keeps redirects from leaving TLS, and bounds them. Credentials stay with the very host that they were for: net/http would
// take them along to other ports of it and to its subdomains.
func CheckRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return ErrRedirects
	}
	if req.URL.Host != via[0].URL.Host {
		req.Header.Del("Authorization")
	}
	return checkScheme(via[0].URL.Scheme, req.URL)
}

func checkScheme(first string, u *url.URL) error {
	if u.Scheme != "https" && (u.Scheme != "http" || first == "https") {
		return fmt.Errorf("redirect from %s to %s://%s is %w", first, u.Scheme, u.Host, ErrRefused)
	}
	return nil
}

// Source is something that can be read by range at a URL, or where that redirects to.
type Source struct {
	URL       *url.URL
	Size      int64         // bytes
	Home      Do            // asks URL's own server
	Elsewhere Do            // asks other servers, without credentials
	Memory    *Memory       // where it was the last time
	Stall     time.Duration // how long an answer may take to begin, whoever is asked for it
}

// Range asks for bytes [off, off+n): where they were the last time, if that is known and still holds, else at the source's URL. A redirect that led to
// the bytes is remembered for as long as its signature says, or some minutes. So in the long run a range costs one request. All of that together takes no longer than Stall.
func (s Source) Range(ctx context.Context, off, n int64) (*Body, error) {
	known := s.Memory.get(s.URL.String())
	if known.lacks != nil {
		return nil, known.lacks
	}
	return s.promptly(ctx, s.Stall, s.URL, func(ctx context.Context) (*Body, error) {
		if known.target != nil {
			body, err := s.from(ctx, known.target, off, n)
			if err == nil {
				return body, nil
			}
			s.Memory.Forget(s.URL)
			if status := (*StatusError)(nil); ctx.Err() != nil || errors.As(err, &status) && !outdated(status.Code) {
				return nil, err
			}
		}
		return s.ask(ctx, off, n)
	})
}

// promptly has open ask u, and gives up if no answer has begun within the limit.
func (s Source) promptly(ctx context.Context, limit time.Duration, u *url.URL, open func(context.Context) (*Body, error)) (*Body, error) {
	body, done, err := Promptly(ctx, limit, open)
	if errors.Is(err, ErrStalled) {
		return nil, fmt.Errorf("%s: %w", u.Host, err)
	}
	if err != nil {
		return nil, err
	}
	body.onClose(done)
	return body, nil
}

// from asks where the source had redirected to. If there is no answer, there is to be time left to ask the source itself.
func (s Source) from(ctx context.Context, u *url.URL, off, n int64) (*Body, error) {
	return s.promptly(ctx, s.Stall/3, u, func(ctx context.Context) (*Body, error) {
		resp, err := send(ctx, s.Elsewhere, u, off, n)
		if err != nil {
			return nil, err
		}
		return Accept(resp, off, n, s.Size)
	})
}

// outdated reports whether what a remembered target answers may mean that the redirect does not hold any more.
func outdated(code int) bool {
	switch code {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusGone:
		return true
	}
	return IsRedirect(&http.Response{StatusCode: code})
}

// ask asks the source's server, goes where it redirects to, and remembers where that was.
func (s Source) ask(ctx context.Context, off, n int64) (*Body, error) {
	u, life, now := s.URL, maxLife, time.Now()
	resp, err := send(ctx, s.Home, u, off, n)
	for hops := 0; err == nil && IsRedirect(resp); hops++ {
		if hops == maxRedirects {
			_ = resp.Body.Close()
			return nil, fmt.Errorf("%s: %w", s.URL.Host, ErrRedirects)
		}
		if u, err = s.next(resp); err != nil {
			return nil, fmt.Errorf("%s: %w", s.URL.Host, err)
		}
		life = min(life, lifeOf(u, now))
		do := s.Elsewhere
		if u.Host == s.URL.Host && u.Scheme == s.URL.Scheme {
			do, life = s.Home, 0 // it may want credentials again, and asking it is no shortcut
		}
		resp, err = send(ctx, do, u, off, n)
	}
	if err != nil {
		return nil, err
	}
	body, err := Accept(resp, off, n, s.Size)
	if err == nil && u != s.URL && life > 0 {
		s.Memory.set(s.URL.String(), note{target: u, until: now.Add(life)})
	}
	return body, err
}

// send asks for the range once.
func send(ctx context.Context, do Do, u *url.URL, off, n int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	Set(req, off, n)
	return do(req)
}

// next is where a redirect leads. It lets go of the answer.
func (s Source) next(resp *http.Response) (*url.URL, error) {
	defer resp.Body.Close()
	u, err := resp.Location()
	if err != nil {
		return nil, fmt.Errorf("%w: %d without a usable Location", ErrBadAnswer, resp.StatusCode)
	}
	if resp.ContentLength > 0 && resp.ContentLength <= maxDrain {
		_, _ = io.CopyN(io.Discard, resp.Body, resp.ContentLength) // only the connection's fate depends on it
	}
	return u, checkScheme(s.URL.Scheme, u)
}
