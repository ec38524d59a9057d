package backend

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"time"

	"github.com/pagein/pagein/internal/httprange"
	"github.com/pagein/pagein/oci/registry"
)

var (
	// errBadRange says that a range is not within its object.
	errBadRange = errors.New("range outside of the object")
	// errOtherSize says that a file is not what its manifest says.
	errOtherSize = errors.New("wrong size")
	// ErrForbidden says that the configuration does not let the node read from a place.
	ErrForbidden = errors.New("not allowed by the configuration")
)

// IsPermanent reports whether an error will not go away by itself, so that trying again at once is useless: the object does not exist, access is
// denied, the server cannot serve ranges. A later attempt may still succeed, when somebody has mended the cause. When several places were asked, all of
// their errors must be permanent.
func IsPermanent(err error) bool {
	if all := (*httprange.SourcesError)(nil); errors.As(err, &all) {
		return all.All(IsPermanent)
	}
	if errors.Is(err, context.Canceled) {
		return false
	}
	return registry.IsPermanent(err) || errors.Is(err, errBadRange) || errors.Is(err, errOtherSize) || errors.Is(err, ErrForbidden) || errors.Is(err, errBadURL) ||
		errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrInvalid)
}

// IsRefusal reports whether a source did not let us in, or one of several did not (401, 403): it may as soon as it, or whoever gives us credentials, has changed its mind.
func IsRefusal(err error) bool {
	if all := (*httprange.SourcesError)(nil); errors.As(err, &all) {
		return slices.ContainsFunc(all.Errs, IsRefusal)
	}
	status := (*httprange.StatusError)(nil)
	return errors.As(err, &status) && (status.Code == http.StatusUnauthorized || status.Code == http.StatusForbidden)
}

// RetryAfter is how long a source wants to be left alone after it failed with err, at most a minute; 0 if it did not say.
func RetryAfter(err error) time.Duration {
	if all := (*httprange.SourcesError)(nil); errors.As(err, &all) { // the first to be ready again counts
		least := RetryAfter(all.Errs[0])
		for _, err := range all.Errs[1:] {
			least = min(least, RetryAfter(err))
		}
		return least
	}
	if status := (*httprange.StatusError)(nil); errors.As(err, &status) {
		return status.RetryAfter
	}
	return 0
}

// rangeError says what was being read when err happened.
func rangeError(o Object, off, n int64, err error) error {
	return fmt.Errorf("read bytes %d to %d of %s: %w", off, off+n-1, o, httprange.Redact(err))
}

// checkRange refuses ranges that are not within the object.
func checkRange(o Object, off, n int64) error {
	if off < 0 || n <= 0 || off > o.Size()-n {
		return fmt.Errorf("read %d bytes at %d of %s: %w: it has %d", n, off, o, errBadRange, o.Size())
	}
	return nil
}
