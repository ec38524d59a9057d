package registry

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/pagein/pagein/internal/httprange"
)

// What ranged reads fail with.
var (
	ErrNoRange   = httprange.ErrNoRange   // the server sends whole blobs although a part was asked for
	ErrBadAnswer = httprange.ErrBadAnswer // the server answered something else than what was asked for
	ErrStalled   = httprange.ErrStalled   // the server sent next to nothing for too long
)

// StatusError is an HTTP answer other than success.
type StatusError = httprange.StatusError

// ErrPlainHTTP says that a registry was asked by HTTPS and does not speak it. How to have it asked otherwise is for who knows where that is said.
var ErrPlainHTTP = errors.New("the registry speaks plain HTTP")

// IsPermanent reports whether an error of this package will not go away by itself.
func IsPermanent(err error) bool {
	if all := (*httprange.SourcesError)(nil); errors.As(err, &all) {
		return all.All(IsPermanent)
	}
	return httprange.IsPermanent(err) || errors.Is(err, ErrPlainHTTP) || errors.Is(err, errdef.ErrNotFound)
}

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
		return howToLogIn(e)
	}
	err = httprange.Redact(err)
	status := (*StatusError)(nil)
	switch {
	case errors.Is(err, auth.ErrBasicCredentialNotFound), errors.As(err, &status):
		return howToLogIn(err)
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return fmt.Errorf("%w: %w", err, ErrPlainHTTP)
	case errors.Is(err, io.EOF): // the connection ended before an answer
		return fmt.Errorf("the server closed the connection: %w", io.ErrUnexpectedEOF)
	}
	return err
}

// Unresolved is the error of what could not find ref. It has the name once: oras begins with it too if nothing is there.
func Unresolved(ref string, err error) error {
	err = Explain(err)
	if errors.Is(err, errdef.ErrNotFound) && err.Error() == ref+": "+errdef.ErrNotFound.Error() {
		err = errdef.ErrNotFound
	}
	return fmt.Errorf("find %s: %w", ref, err)
}

// howToLogIn adds to an error what to do about it, if that is to log in and nobody has said so yet.
func howToLogIn(err error) error {
	const hint = "log in, for example with docker login"
	status := (*StatusError)(nil)
	if errors.As(err, &status) && status.Code != http.StatusUnauthorized && status.Code != http.StatusForbidden || strings.Contains(err.Error(), hint) {
		return err
	}
	return fmt.Errorf("%w: %s", err, hint)
}

// oneLine makes others' words fit for a message.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "?")), " ")
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}
