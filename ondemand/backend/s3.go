package backend

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/pagein/pagein/internal/httprange"
)

const (
	// signatureLife is how long a signed URL can be used.
	signatureLife = time.Hour
	// signatureUse is how long it is used: signing anew costs next to nothing, but the URL is what a server's behaviour is remembered by.
	signatureUse = 10 * time.Minute
	// roleTimeout bounds asking the machine for its IAM role's credentials.
	roleTimeout = 5 * time.Second
	// amazon is where S3 is when nothing else is said.
	amazon = "https://s3.amazonaws.com"
	// maxSigners bounds the endpoints that one place is used with.
	maxSigners = 64
)

// s3Object is an object in S3: something that an HTTP server has at a URL that has to be signed.
type s3Object struct {
	httpObject
	key    string
	bucket string
	signer *signer

	mu     sync.Mutex
	signed *url.URL
	until  time.Time
}

// openS3 opens s3://BUCKET/KEY with the parameters endpoint, region and style.
func (c *configured) openS3(u *url.URL, size int64) (Object, error) {
	s, err := c.signer(u.Query())
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", plainURL(u), err)
	}
	o := &s3Object{bucket: u.Host, key: strings.TrimPrefix(u.Path, "/"), signer: s}
	o.httpObject = httpObject{name: plainURL(u), size: size, memory: &c.storage.memory, stall: c.storage.stall, locate: o.locate, refuse: s3Error}
	o.client = c.client(s.hostOf(o.bucket))
	return o, nil
}

// Range implements [Object]. A signature that is not accepted any more, as when credentials have been rotated, is made anew once.
func (o *s3Object) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	before := o.current()
	r, err := o.httpObject.Range(ctx, off, n)
	if status := (*httprange.StatusError)(nil); before == nil || !errors.As(err, &status) ||
		status.Code != http.StatusForbidden && status.Code != http.StatusUnauthorized && status.Code != http.StatusBadRequest {
		return r, err
	}
	o.mu.Lock()
	o.signed = nil
	o.mu.Unlock()
	o.signer.forget()
	return o.httpObject.Range(ctx, off, n)
}

// current is the signed URL in use, nil if the next use makes one.
func (o *s3Object) current() *url.URL {
	o.mu.Lock()
	defer o.mu.Unlock()
	if time.Now().After(o.until) {
		o.signed = nil
	}
	return o.signed
}

func (o *s3Object) locate(ctx context.Context) (*url.URL, error) {
	if u := o.current(); u != nil {
		return u, nil
	}
	u, err := o.signer.sign(ctx, o.bucket, o.key)
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.signed, o.until = u, time.Now().Add(signatureUse)
	return u, nil
}

// s3Error reads what S3 says about a failure.
func s3Error(resp *http.Response) error {
	e := httprange.NewStatusError(resp)
	var said struct{ Code, Message string }
	if err := xml.NewDecoder(io.LimitReader(resp.Body, 8<<10)).Decode(&said); err == nil && said.Code != "" {
		e.Detail = said.Code + ": " + said.Message
	}
	return e
}

// signer makes URLs that give access, for one endpoint and region.
type signer struct {
	client    *minio.Client
	creds     *credentials.Credentials
	endpoint  *url.URL
	style     minio.BucketLookupType
	anonymous bool
}

// signer returns the signer for a URL's parameters, which count where the place says nothing.
func (c *configured) signer(q url.Values) (*signer, error) {
	pick := func(configured, param, fallback string) string {
		for _, v := range []string{configured, q.Get(param), fallback} {
			if v != "" {
				return v
			}
		}
		return ""
	}
	endpoint, region, style := pick(c.Endpoint, "endpoint", amazon), pick(c.Region, "region", ""), pick(c.Style, "style", "")
	key := endpoint + " " + region + " " + style
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.signers[key]; s != nil {
		return s, nil
	}
	s, err := c.newSigner(endpoint, region, style)
	if err != nil {
		return nil, err
	}
	if c.signers == nil || len(c.signers) >= maxSigners {
		c.signers = make(map[string]*signer)
	}
	c.signers[key] = s
	return s, nil
}

func (c *configured) newSigner(endpoint, region, style string) (*signer, error) {
	u, err := parseEndpoint(endpoint)
	if err != nil {
		return nil, err
	}
	s := &signer{endpoint: u, style: minio.BucketLookupAuto, anonymous: c.Anonymous}
	switch style {
	case "":
	case "path":
		s.style = minio.BucketLookupPath
	case "host":
		s.style = minio.BucketLookupDNS
	default:
		return nil, fmt.Errorf("style %q is neither path nor host", style)
	}
	switch {
	case c.AccessKey != "":
		s.creds = credentials.NewStaticV4(c.AccessKey, c.SecretKey, c.Token)
	case !c.Anonymous:
		s.creds = credentials.NewChainCredentials([]credentials.Provider{
			&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{Client: &http.Client{Timeout: roleTimeout}},
		})
	}
	transport := c.guard // it may ask for the bucket's region
	if transport == nil {
		transport = c.transport
	}
	s.client, err = minio.New(u.Host, &minio.Options{
		Creds: s.creds, Secure: u.Scheme == "https", Region: region, BucketLookup: s.style, MaxRetries: 1,
		Transport: httprange.Patience(transport, c.storage.stall),
	})
	return s, err
}

func parseEndpoint(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("S3 endpoint %q is not https://HOST[:PORT]: %w", s, errBadURL)
	}
	return u, nil
}

// forget has the credentials looked up again.
func (s *signer) forget() {
	if s.creds != nil {
		s.creds.Expire()
	}
}

// sign returns a URL that reads an object.
func (s *signer) sign(ctx context.Context, bucket, key string) (*url.URL, error) {
	if s.anonymous {
		u := &url.URL{Scheme: s.endpoint.Scheme, Host: s.hostOf(bucket), Path: "/" + key}
		if u.Host == s.endpoint.Host {
			u.Path = "/" + bucket + u.Path
		}
		return u, nil
	}
	have, err := s.creds.GetWithContext(&credentials.CredContext{Client: &http.Client{Timeout: roleTimeout}})
	if err != nil {
		return nil, fmt.Errorf("find credentials for %s: %w", s.endpoint.Host, err)
	}
	if have.AccessKeyID == "" {
		return nil, fmt.Errorf("%w for %s: configure keys, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", errNoCredentials, s.endpoint.Host)
	}
	u, err := s.client.PresignedGetObject(ctx, bucket, key, signatureLife, nil)
	if err != nil {
		return nil, fmt.Errorf("sign for %s: %w", s.endpoint.Host, err)
	}
	return u, nil
}

var errNoCredentials = errors.New("there are no S3 credentials")

// hostOf is the server that has a bucket.
func (s *signer) hostOf(bucket string) string {
	byHost := s.style == minio.BucketLookupDNS || s.style == minio.BucketLookupAuto && isAmazon(s.endpoint.Hostname()) && !strings.Contains(bucket, ".")
	if byHost {
		return bucket + "." + s.endpoint.Host
	}
	return s.endpoint.Host
}

func isAmazon(host string) bool {
	return strings.HasSuffix(host, ".amazonaws.com") || strings.HasSuffix(host, ".amazonaws.com.cn")
}
