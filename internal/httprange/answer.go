package httprange

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// Accept takes over the answer to a request for bytes [off, off+n) of size. The body yields exactly n bytes and then io.EOF, and must be closed. An answer with
// anything but exactly that range is closed and refused; the error is a *[StatusError], [ErrNoRange] or [ErrBadAnswer].
func Accept(resp *http.Response, off, n, size int64) (*Body, error) {
	b := &Body{body: resp.Body, left: n}
	if err := check(resp, off, n, size); err != nil {
		b.left = resp.ContentLength // what Close may read to keep the connection
		_ = b.Close()
		return nil, err
	}
	return b, nil
}

func check(resp *http.Response, off, n, size int64) error {
	switch resp.StatusCode {
	case http.StatusPartialContent:
		if err := checkContentRange(resp.Header.Get("Content-Range"), off, n, size); err != nil {
			return answerError(resp, err)
		}
	case http.StatusOK:
		if off != 0 || n != size {
			return answerError(resp, ErrNoRange)
		}
	default:
		return NewStatusError(resp)
	}
	switch enc := resp.Header.Get("Content-Encoding"); enc {
	case "", "identity":
	case "aws-chunked": // how it was uploaded: some S3 servers keep the word, although what they send is not chunked
	default:
		return answerError(resp, fmt.Errorf("%w: the body is encoded with %s", ErrBadAnswer, oneLine(enc)))
	}
	if resp.ContentLength >= 0 && resp.ContentLength != n {
		return answerError(resp, fmt.Errorf("%w: Content-Length is %d, want %d", ErrBadAnswer, resp.ContentLength, n))
	}
	return nil
}

// answerError names the host that gave an answer.
func answerError(resp *http.Response, err error) error {
	if resp.Request == nil {
		return err
	}
	return fmt.Errorf("%s: %w", resp.Request.URL.Host, err)
}

// checkContentRange checks "bytes FIRST-LAST/SIZE", where SIZE may be "*".
func checkContentRange(h string, off, n, size int64) error {
	bad := fmt.Errorf("%w: Content-Range is %q, want \"bytes %d-%d/%d\"", ErrBadAnswer, oneLine(h), off, off+n-1, size)
	unit, spec, _ := strings.Cut(h, " ")
	span, total, _ := strings.Cut(spec, "/")
	first, last, _ := strings.Cut(span, "-")
	if !strings.EqualFold(unit, "bytes") {
		return bad
	}
	for _, c := range []struct {
		s    string
		want int64
	}{{first, off}, {last, off + n - 1}, {total, size}} {
		if c.s == "*" && c.want == size {
			continue
		}
		if v, err := strconv.ParseInt(c.s, 10, 64); err != nil || v != c.want {
			return bad
		}
	}
	return nil
}
