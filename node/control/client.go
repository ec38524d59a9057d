package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/sys/unix"
)

// statusPatience is how long a daemon may take to describe itself: it fetches nothing for that.
const statusPatience = 20 * time.Second

// Client asks a daemon. Its methods may be called concurrently; each waits until the daemon has answered or ctx ends, in which case the
// daemon gives up too. Errors of the daemon are [*Error]s.
type Client struct {
	path string
	http *http.Client
}

// NewClient returns a client of the daemon at address, which need not be running yet.
func NewClient(address string) (*Client, error) {
	path, err := SocketPath(address)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
		MaxIdleConns: 2,
	}
	return &Client{path: path, http: &http.Client{Transport: transport}}, nil
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Mount makes an image appear at a directory.
func (c *Client) Mount(ctx context.Context, req MountRequest) (MountResponse, error) {
	var resp MountResponse
	err := c.do(ctx, http.MethodPost, "/v1/mounts", req, &resp)
	return resp, err
}

// Unmount takes the image off the directory target.
func (c *Client) Unmount(ctx context.Context, target string) error {
	return c.do(ctx, http.MethodDelete, "/v1/mounts?"+url.Values{"target": {target}}.Encode(), nil, nil)
}

// Prepare makes an image mountable and says how to mount it.
func (c *Client) Prepare(ctx context.Context, req PrepareRequest) (PrepareResponse, error) {
	var resp PrepareResponse
	err := c.do(ctx, http.MethodPost, "/v1/prepare", req, &resp)
	return resp, err
}

// GC removes what nobody has mounted.
func (c *Client) GC(ctx context.Context, req GCRequest) (GCResponse, error) {
	var resp GCResponse
	err := c.do(ctx, http.MethodPost, "/v1/gc", req, &resp)
	return resp, err
}

// CheckStore verifies all that is in the store, and repairs it if that is wanted.
func (c *Client) CheckStore(ctx context.Context, req CheckRequest) (CheckResponse, error) {
	var resp CheckResponse
	err := c.do(ctx, http.MethodPost, "/v1/check", req, &resp)
	return resp, err
}

// Status describes the daemon and what it serves.
func (c *Client) Status(ctx context.Context) (Status, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, statusPatience, fmt.Errorf("no answer within %s: it is stopped or hangs, see its log", statusPatience))
	defer cancel()
	var resp Status
	err := c.do(ctx, http.MethodGet, "/v1/status", nil, &resp)
	return resp, err
}

// Timeline tells what happened to the mounted image with that ID, of events those of the last time; 0 for all.
func (c *Client) Timeline(ctx context.Context, image string, last time.Duration) (Timeline, error) {
	var resp Timeline
	err := c.do(ctx, http.MethodGet, "/v1/timeline?"+url.Values{"image": {image}, "last": {last.String()}}.Encode(), nil, &resp)
	return resp, err
}

// Recordings returns what is kept of the first minutes of the image with that ID.
func (c *Client) Recordings(ctx context.Context, image string) (Recordings, error) {
	var resp Recordings
	err := c.do(ctx, http.MethodGet, "/v1/recordings?"+url.Values{"image": {image}}.Encode(), nil, &resp)
	return resp, err
}

// Health returns nil when the daemon answers.
func (c *Client) Health(ctx context.Context) error {
	return c.do(ctx, http.MethodGet, "/v1/healthz", nil, nil)
}

// do sends in as JSON, if it is not nil, and reads the answer into out, if that is not nil.
func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader = http.NoBody
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("ask pageind at %s: %w", c.path, err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://pageind"+path, body)
	if err != nil {
		return fmt.Errorf("ask pageind at %s: %w", c.path, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	answer := json.NewDecoder(io.LimitReader(resp.Body, maxResponse))
	if resp.StatusCode != http.StatusOK {
		var e wireError
		if err := answer.Decode(&e); err != nil || e.Message == "" {
			return fmt.Errorf("pageind at %s answered %s", c.path, resp.Status)
		}
		return &Error{Class: e.Class, Err: errors.New(e.Message)}
	}
	if out == nil {
		return nil
	}
	if err := answer.Decode(out); err != nil {
		return fmt.Errorf("read the answer of pageind at %s: %w", c.path, err)
	}
	return nil
}

// unreachable words why there is no answer so that a human knows what to do.
func (c *Client) unreachable(ctx context.Context, err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err // "Post http://pageind/…" is nobody's business
	}
	var errno unix.Errno
	if errors.As(err, &errno) {
		err = errno // the message names the socket already
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("waiting for pageind at %s: %w", c.path, context.Cause(ctx))
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ECONNREFUSED):
		return Errorf(Unavailable, "cannot reach pageind at %s: is it running? (%w)", c.path, err)
	case errors.Is(err, unix.EACCES):
		return Errorf(Unavailable, "cannot reach pageind at %s: only the user it runs as and root may: %w", c.path, err)
	case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET):
		return Errorf(Unavailable, "pageind at %s ended before it had answered", c.path)
	default:
		return fmt.Errorf("ask pageind at %s: %w", c.path, err)
	}
}
