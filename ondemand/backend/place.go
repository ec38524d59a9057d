package backend

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"

	"github.com/pagein/pagein/internal/httprange"
)

// Place is storage that the node's administrator allows and knows how to reach: everything whose URL is at or below URL. Settings that do not fit the URL's scheme are refused.
type Place struct {
	URL string // https://HOST[/PATH], http://HOST[/PATH], s3://BUCKET[/PREFIX], file:///DIRECTORY

	Headers  map[string]string // http, https: for requests to that server only
	CA       string            // https, s3: PEM file with further certificates to trust
	Insecure bool              // https, s3: do not verify certificates

	Endpoint  string // s3: https://HOST[:PORT], default Amazon's
	Region    string // s3: default asks the service
	AccessKey string // s3: with SecretKey; default $AWS_ACCESS_KEY_ID and so on, ~/.aws/credentials, the machine's IAM role
	SecretKey string // s3
	Token     string // s3: of temporary credentials
	Style     string // s3: path (https://HOST/BUCKET/KEY) or host (https://BUCKET.HOST/KEY); default by endpoint
	Anonymous bool   // s3: do not sign
}

// configured is a place that is ready for use.
type configured struct {
	Place
	storage   *Storage
	url       *url.URL // path without a slash at its end
	headers   http.Header
	transport *http.Transport
	guard     http.RoundTripper // instead of transport, when others choose the host

	mu      sync.Mutex
	clients map[string]*http.Client // by host
	signers map[string]*signer      // by endpoint and region, for S3
}

// configure checks a place.
func (s *Storage) configure(p Place) (*configured, error) {
	u, err := url.Parse(p.URL)
	if err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" {
		return nil, fmt.Errorf("it is no URL of scheme, host and path: %w", errBadURL)
	}
	if err := p.check(u); err != nil {
		return nil, err
	}
	u.Path = strings.TrimSuffix(path.Clean("/"+u.Path), "/")
	if u.Scheme == "file" && u.Path == "" {
		return nil, errors.New("the root directory is too much: name the directory that holds the objects")
	}
	c := &configured{Place: p, storage: s, url: u, headers: make(http.Header)}
	for k, v := range p.Headers {
		c.headers.Set(k, v)
	}
	t, err := tlsConfig(p)
	if err != nil {
		return nil, err
	}
	c.transport = httprange.NewTransport(t)
	s.transports = append(s.transports, c.transport)
	return c, nil
}

// check refuses settings that mean nothing for the scheme.
func (p Place) check(u *url.URL) error {
	onlyS3 := p.Endpoint+p.Region+p.AccessKey+p.SecretKey+p.Token+p.Style != "" || p.Anonymous
	switch u.Scheme {
	case "file":
		if u.Host != "" || onlyS3 || len(p.Headers) > 0 || p.CA != "" || p.Insecure {
			return errors.New("a directory has no settings besides its file:///PATH")
		}
	case "http", "https":
		if u.Host == "" || onlyS3 {
			return errors.New("an HTTP server has a host, and no settings of S3")
		}
	case "s3":
		if len(p.Headers) > 0 {
			return errors.New("headers are for http and https")
		}
		return p.checkS3()
	default:
		return fmt.Errorf("scheme %q is none of https, http, s3, file", u.Scheme)
	}
	return nil
}

func (p Place) checkS3() error {
	if p.Endpoint != "" {
		if _, err := parseEndpoint(p.Endpoint); err != nil {
			return err
		}
	}
	if (p.AccessKey == "") != (p.SecretKey == "") {
		return errors.New("access key and secret key go together")
	}
	if p.Anonymous && p.AccessKey != "" {
		return errors.New("either anonymous or with keys")
	}
	if p.Style != "" && p.Style != "path" && p.Style != "host" {
		return fmt.Errorf("style %q is neither path nor host", p.Style)
	}
	return nil
}

// contains reports whether a URL is at or below the place.
func (c *configured) contains(u *url.URL) bool {
	if u.Scheme != c.url.Scheme || c.url.Host != "" && u.Host != c.url.Host {
		return false
	}
	if u.Scheme == "s3" {
		if e := u.Query().Get("endpoint"); e != "" && strings.TrimSuffix(e, "/") != strings.TrimSuffix(c.Endpoint, "/") {
			return false // credentials are for one endpoint
		}
	}
	rest, found := strings.CutPrefix(u.Path, c.url.Path)
	return found && strings.HasPrefix(rest, "/")
}
