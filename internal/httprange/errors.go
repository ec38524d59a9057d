package httprange

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

var (
	// ErrNoRange says that the server sends whole objects although a part was asked for. Lazy loading is impossible with it.
	ErrNoRange = errors.New("the server ignores Range requests")
	// ErrBadAnswer says that the server answered something else than what was asked for.
	ErrBadAnswer = errors.New("wrong answer from the server")
	// ErrStalled says that the server sent nothing, or next to nothing, for too long.
	ErrStalled = errors.New("no answer from the server")
	// ErrRefused says that something was not asked for because the rules forbid it.
	ErrRefused = errors.New("not followed")
)

// maxRetryAfter bounds the wait that a server may ask for.
const maxRetryAfter = time.Minute

// StatusError is an HTTP answer other than success.
type StatusError struct {
	Code       int           // HTTP status
	Host       string        // who answered, which after a redirect is not who was asked first
	Detail     string        // what the server says about it, one line, may be empty
	RetryAfter time.Duration // the wait that the server asks for, at most a minute; 0 if it asks for none
}

// NewStatusError describes an answer. It does not read its body.
func NewStatusError(resp *http.Response) *StatusError {
	e := &StatusError{Code: resp.StatusCode, RetryAfter: retryAfter(resp.Header.Get("Retry-After"), time.Now())}
	if resp.Request != nil {
		e.Host = resp.Request.URL.Host
	}
	return e
}

// retryAfter reads a number of seconds or a date.
func retryAfter(h string, now time.Time) time.Duration {
	if h == "" {
		return 0
	}
	d := time.Duration(0)
	if s, err := strconv.ParseUint(h, 10, 31); err == nil {
		d = time.Duration(s) * time.Second
	} else if t, err := http.ParseTime(h); err == nil {
		d = t.Sub(now)
	}
	return min(max(d, 0), maxRetryAfter)
}

// Error says what happened and what to do about it.
func (e *StatusError) Error() string {
	s := fmt.Sprintf("%s answers %d %s", e.Host, e.Code, http.StatusText(e.Code))
	if e.Detail != "" {
		s += " (" + oneLine(e.Detail) + ")"
	}
	switch {
	case e.Code == http.StatusUnauthorized || e.Code == http.StatusForbidden:
		return s + ": no permission"
	case e.Code == http.StatusNotFound || e.Code == http.StatusGone:
		return s + ": it does not exist, or no more"
	case e.Code == http.StatusTooManyRequests:
		return s + ": too many requests"
	case e.Code >= 500:
		return s + ": the server is in trouble"
	}
	return s
}

// Permanent reports whether trying again, without somebody changing something, is useless.
func (e *StatusError) Permanent() bool {
	return e.Code >= 400 && e.Code < 500 &&
		e.Code != http.StatusRequestTimeout && e.Code != http.StatusTooEarly && e.Code != http.StatusTooManyRequests
}

// SourcesError is what several sources answered that were asked one after the other, in that order.
type SourcesError struct {
	Errs []error // not empty
}

// Error tells all.
func (f *SourcesError) Error() string {
	if len(f.Errs) == 1 {
		return f.Errs[0].Error()
	}
	all := make([]string, len(f.Errs))
	for i, err := range f.Errs {
		all[i] = err.Error()
	}
	return fmt.Sprintf("all %d sources failed: %s", len(all), strings.Join(all, "; "))
}

// Unwrap returns the single errors.
func (f *SourcesError) Unwrap() []error { return f.Errs }

// All reports whether is holds for each of the errors.
func (f *SourcesError) All(is func(error) bool) bool {
	for _, err := range f.Errs {
		if !is(err) {
			return false
		}
	}
	return true
}

// IsPermanent reports whether an error of this package, or of a TLS handshake, will not go away by itself.
func IsPermanent(err error) bool {
	if all := (*SourcesError)(nil); errors.As(err, &all) {
		return all.All(IsPermanent)
	}
	if status := (*StatusError)(nil); errors.As(err, &status) {
		return status.Permanent()
	}
	var (
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		invalid  x509.CertificateInvalidError
		verify   *tls.CertificateVerificationError
	)
	return errors.Is(err, ErrNoRange) || errors.Is(err, ErrRefused) ||
		errors.As(err, &unknown) || errors.As(err, &hostname) || errors.As(err, &invalid) || errors.As(err, &verify)
}

// Redact takes from an error the query of the URL that was asked for: it may hold a signature that gives access. Other errors, and nil, stay as they are.
func Redact(err error) error {
	var u *url.Error
	if !errors.As(err, &u) {
		return err
	}
	plain, _, found := strings.Cut(u.URL, "?")
	if !found {
		return err
	}
	return &redacted{err: err, text: strings.ReplaceAll(err.Error(), u.URL, plain+"?…")}
}

// redacted is an error with another text.
type redacted struct {
	err  error
	text string
}

func (e *redacted) Error() string { return e.text }
func (e *redacted) Unwrap() error { return e.err }

// oneLine makes a server's words fit for a message.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "?")), " ")
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}
