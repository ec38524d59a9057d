package registry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

var (
	// ErrNoRange says that the server sends whole blobs although a part was asked for. Lazy loading is impossible with it.
	ErrNoRange = errors.New("the server ignores Range requests")
	// ErrBadAnswer says that the server answered something else than what was asked for.
	ErrBadAnswer = errors.New("wrong answer from the server")
	// ErrStalled says that the server sent nothing for too long.
	ErrStalled = errors.New("no answer from the server")
)

// StatusError is an HTTP answer other than success.
type StatusError struct {
	Code   int    // HTTP status
	Host   string // who answered, which after a redirect is not the registry
	Detail string // what the registry says about it, one line, may be empty
}

func newStatusError(resp *http.Response) *StatusError {
	e := &StatusError{Code: resp.StatusCode}
	if resp.Request != nil {
		e.Host = resp.Request.URL.Host
	}
	return e
}

// Error says what happened and what to do about it.
func (e *StatusError) Error() string {
	s := fmt.Sprintf("%s answers %d %s", e.Host, e.Code, http.StatusText(e.Code))
	if e.Detail != "" {
		s += " (" + e.Detail + ")"
	}
	switch {
	case e.Code == http.StatusUnauthorized || e.Code == http.StatusForbidden:
		return s + ": no permission; log in, for example with docker login"
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

// IsPermanent reports whether an error of this package will not go away by itself.
func IsPermanent(err error) bool {
	if status := (*StatusError)(nil); errors.As(err, &status) {
		return status.Permanent()
	}
	var (
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		invalid  x509.CertificateInvalidError
		verify   *tls.CertificateVerificationError
	)
	return errors.Is(err, ErrNoRange) || errors.Is(err, errPlainHTTP) || errors.Is(err, errdef.ErrNotFound) ||
		errors.As(err, &unknown) || errors.As(err, &hostname) || errors.As(err, &invalid) || errors.As(err, &verify)
}

var errPlainHTTP = errors.New("the registry speaks plain HTTP: use --plain-http")

// Explain turns an error of oras into one of this package where there is more to say to a user; other errors, and nil, stay as they are.
func Explain(err error) error {
	if err == nil {
		return nil
	}
	if resp := (*errcode.ErrorResponse)(nil); errors.As(err, &resp) {
		e := &StatusError{Code: resp.StatusCode}
		if len(resp.Errors) > 0 {
			e.Detail = oneLine(resp.Errors.Error())
		}
		if resp.URL != nil {
			e.Host = resp.URL.Host
		}
		return e
	}
	switch {
	case errors.Is(err, auth.ErrBasicCredentialNotFound):
		return fmt.Errorf("%w: log in, for example with docker login", err)
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return fmt.Errorf("%w: %w", err, errPlainHTTP)
	case errors.Is(err, io.EOF): // the connection ended before an answer
		return fmt.Errorf("the server closed the connection: %w", io.ErrUnexpectedEOF)
	}
	return err
}

// oneLine makes a registry's words fit for a message.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "?")), " ")
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}
