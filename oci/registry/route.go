package registry

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/pagein/pagein/internal/httprange"
)

// router is the HTTP client that oras talks to a repository with. Oras knows one server; the router sends what is meant for it to the endpoints that may be asked for it,
// and makes their answers look as if they came from that server, uploads' locations included.
type router struct{ r *Repository }

// Do implements oras' remote.Client.
func (rt *router) Do(req *http.Request) (*http.Response, error) {
	// Oras makes paths of the digests in manifests and lists, whatever somebody wrote there.
	if slices.Contains(strings.Split(req.URL.Path, "/"), "..") {
		return nil, fmt.Errorf("%s %s%s: what is asked for leads out of the repository", req.Method, req.URL.Host, req.URL.Path)
	}
	all, err := rt.r.endpoints()
	if err != nil {
		return nil, err
	}
	path, found := strings.CutPrefix(req.URL.EscapedPath(), "/v2/")
	what := need(req.Method, path)
	able := choose(all, what)
	if !found || len(able) == 0 {
		return nil, fmt.Errorf("%s %s%s: %w: hosts.toml names no server for it", req.Method, req.URL.Host, req.URL.Path, errNoEndpoint)
	}
	if what == canPush {
		return rt.push(able[0], req, "/"+path)
	}
	var failed httprange.SourcesError
	for i, e := range able {
		last := i == len(able)-1
		resp, err := rt.send(e, req, "/"+path, last)
		switch {
		case err != nil:
			failed.Errs = append(failed.Errs, err)
			if req.Context().Err() == nil {
				e.health.Failed()
			}
		case last || resp.StatusCode < 300:
			if resp.StatusCode < 300 {
				e.health.Worked()
			}
			rt.disguise(e, req, resp)
			return resp, nil
		default:
			failed.Errs = append(failed.Errs, httprange.NewStatusError(resp))
			_ = resp.Body.Close()
			if resp.StatusCode >= 500 {
				e.health.Failed()
			}
		}
		if req.Context().Err() != nil {
			break
		}
	}
	return nil, &failed
}

// need is what an endpoint must be able to do for a request to the API: path is without the leading "/v2/".
func need(method, path string) capability {
	switch {
	case method != http.MethodGet && method != http.MethodHead:
		return canPush
	case strings.Contains(path, "/referrers/"):
		return canReferrers
	case strings.Contains(path, "/blobs/"):
		return canPull
	}
	if i := strings.LastIndex(path, "/manifests/"); i >= 0 && strings.Contains(path[i:], ":") { // a tag has no colon
		return canPull
	}
	return canPull | canResolve
}

// send asks one endpoint. Only the last of them is worth waiting for when it is in trouble.
func (rt *router) send(e *endpoint, req *http.Request, path string, last bool) (*http.Response, error) {
	client := e.retrying
	if !last {
		client = e.once
	}
	out, err := rt.translate(e, req, path)
	if err != nil {
		return nil, err
	}
	return client.Do(out)
}

// translate makes a request for an endpoint out of one for the server that oras knows.
func (rt *router) translate(e *endpoint, req *http.Request, path string) (*http.Request, error) {
	ctx := forRepository(req.Context(), rt.r)
	if scopes := auth.GetScopesForHost(ctx, rt.r.Reference.Host()); len(scopes) > 0 {
		ctx = auth.AppendScopesForHost(ctx, e.host, scopes...)
	}
	out := req.Clone(ctx)
	u, err := url.PathUnescape(path)
	if err != nil {
		return nil, err
	}
	out.URL = e.url(u, req.URL.RawQuery)
	out.Host = ""
	return out, nil
}

// push sends something that changes the registry, to the one endpoint that is for this.
func (rt *router) push(e *endpoint, req *http.Request, path string) (*http.Response, error) {
	out, err := rt.translate(e, req, path)
	if err != nil {
		return nil, err
	}
	if err := makeRepeatable(out); err != nil {
		return nil, err
	}
	resp, err := e.retrying.Do(out)
	if err != nil {
		return nil, err
	}
	rt.disguise(e, req, resp)
	return resp, nil
}

// makeRepeatable keeps a small body, such as a manifest, so that it can be sent again with credentials.
func makeRepeatable(req *http.Request) error {
	if req.Body == nil || req.GetBody != nil || req.ContentLength <= 0 || req.ContentLength > maxMetadata {
		return nil
	}
	defer req.Body.Close()
	b, err := io.ReadAll(io.LimitReader(req.Body, req.ContentLength+1))
	if err != nil {
		return err
	}
	if int64(len(b)) != req.ContentLength {
		return fmt.Errorf("there are %d bytes to send, want %d", len(b), req.ContentLength)
	}
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
	req.Body, err = req.GetBody()
	return err
}

// disguise makes an endpoint's answer look like one of the server that oras knows. An answer of the registry itself stays as it is.
func (rt *router) disguise(e *endpoint, req *http.Request, resp *http.Response) {
	if resp.Request == nil || e.scheme == req.URL.Scheme && e.host == req.URL.Host && e.path == "/v2" {
		return
	}
	if at, err := resp.Location(); err == nil && at.Scheme == e.scheme && at.Host == e.host {
		if rest, ok := strings.CutPrefix(at.Path, strings.TrimSuffix(e.path, "/")); ok {
			at.Scheme, at.Host, at.Path = req.URL.Scheme, req.URL.Host, "/v2"+rest
			resp.Header.Set("Location", at.String())
		}
	}
	as := req.Clone(req.Context())
	if authorization := resp.Request.Header.Get("Authorization"); authorization != "" { // uploads go on with it
		as.Header.Set("Authorization", authorization)
	}
	resp.Request = as
}
