package registry

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// realmPath begins the path that stands for a token server, at the host of the registry that names it.
const realmPath = "/.pagein-realm/"

// realms is a round tripper that makes token servers look as if they were at their registry's own host. The authentication client refuses token servers of another name at private
// addresses, which is how registries within companies are often set up; the site below has a rule of its own, which it keeps when it connects: a registry may send its clients to
// addresses that are as widely reachable as its own.
type realms struct {
	base         http.RoundTripper
	scheme, host string // of the endpoint
}

// RoundTrip implements http.RoundTripper.
func (r *realms) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host != r.host {
		return r.base.RoundTrip(req)
	}
	if code, ok := strings.CutPrefix(req.URL.Path, realmPath); ok {
		return r.ask(req, code)
	}
	resp, err := r.base.RoundTrip(req)
	if err == nil && resp.StatusCode == http.StatusUnauthorized {
		if h := resp.Header.Get("Www-Authenticate"); h != "" {
			resp.Header.Set("Www-Authenticate", r.disguise(h))
		}
	}
	return resp, err
}

// realmForm is the parameter of a challenge that says where tokens are.
var realmForm = regexp.MustCompile(`(?i)(\brealm=")([^"]*)(")`)

// disguise replaces the realm of a challenge.
func (r *realms) disguise(challenge string) string {
	m := realmForm.FindStringSubmatchIndex(challenge)
	if m == nil {
		return challenge
	}
	u, err := url.Parse(challenge[m[4]:m[5]])
	if err != nil || u.Host == "" || u.Host == r.host || !r.allows(u) {
		return challenge // the authentication client has its say
	}
	as := url.URL{Scheme: r.scheme, Host: r.host, RawQuery: u.RawQuery}
	u.RawQuery = ""
	as.Path = realmPath + base64.RawURLEncoding.EncodeToString([]byte(u.String()))
	return challenge[:m[4]] + as.String() + challenge[m[5]:]
}

// allows refuses token servers that would get credentials without TLS although the registry has it.
func (r *realms) allows(u *url.URL) bool {
	return u.User == nil && (u.Scheme == "https" || u.Scheme == "http" && r.scheme == "http")
}

// ask sends a token request where it is meant to go.
func (r *realms) ask(req *http.Request, code string) (*http.Response, error) {
	raw, err := base64.RawURLEncoding.DecodeString(code)
	if err != nil {
		return nil, fmt.Errorf("find the token server of %s: %w", r.host, err)
	}
	u, err := url.Parse(string(raw))
	if err != nil || u.Host == "" || !r.allows(u) {
		return nil, fmt.Errorf("the token server of %s has no acceptable URL", r.host)
	}
	u.RawQuery = req.URL.RawQuery
	out := req.Clone(req.Context())
	out.URL, out.Host = u, ""
	resp, err := r.base.RoundTrip(out)
	if err != nil {
		return nil, fmt.Errorf("token server %s: %w", u.Host, err)
	}
	if at, err := u.Parse(resp.Header.Get("Location")); err == nil && resp.Header.Get("Location") != "" {
		resp.Header.Set("Location", at.String())
	}
	return resp, nil
}
