// Package attach puts source objects of artifacts into storage besides the registry, for converters: [Attachment] is an artifact.Attachment.
//
// It knows how objects are named there, and nothing of how they are made or read. The one idea to hold in mind: an object's name is its digest, so whatever is there
// already is what is wanted.
package attach

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pagein/pagein/ondemand/backend"
)

// Attachment is storage that objects are put into. Its methods may be called concurrently.
type Attachment struct {
	storage *backend.Storage
	places  []place
}

// place is a directory of objects: where nodes read them, and where they are put, which is the same unless a file server shows them under another URL.
type place struct{ read, write *url.URL }

// separator stands between the URL that nodes read and the one that is written to.
var separator = regexp.MustCompile(`=(s3|file)://`)

// New returns an attachment to the given places: s3://BUCKET[/PREFIX][?endpoint=…&region=…&style=…], file:///DIRECTORY, or READ=WRITE with a URL that nodes read at and one of
// those. Credentials for S3 are those of the environment, ~/.aws/credentials or the machine's role. It does not connect.
func New(specs []string) (*Attachment, error) {
	if len(specs) == 0 {
		return nil, errors.New("no place is named")
	}
	a := &Attachment{}
	var allowed []backend.Place
	for _, spec := range specs {
		p, err := parse(spec)
		if err != nil {
			return nil, fmt.Errorf("attach %q: %w", spec, err)
		}
		a.places = append(a.places, p)
		q := p.write.Query()
		plain := *p.write
		plain.RawQuery = ""
		allowed = append(allowed, backend.Place{URL: plain.String(), Endpoint: q.Get("endpoint"), Region: q.Get("region"), Style: q.Get("style")})
	}
	var err error
	a.storage, err = backend.NewStorage(backend.StorageOptions{Places: allowed})
	return a, err
}

func parse(spec string) (place, error) {
	read, write := spec, spec
	if at := separator.FindStringIndex(spec); at != nil {
		read, write = spec[:at[0]], spec[at[0]+1:]
	}
	var p place
	var err error
	if p.write, err = parseURL(write, "s3", "file"); err != nil {
		return p, err
	}
	p.read, err = parseURL(read, "s3", "file", "https", "http")
	return p, err
}

// parseURL accepts URLs of directories with one of the given schemes.
func parseURL(s string, schemes ...string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.User != nil || u.Fragment != "" || u.Opaque != "":
		return nil, errors.New("it is no URL without credentials")
	case (u.Scheme == "file") != (u.Host == ""):
		return nil, errors.New("it must be file:///DIRECTORY, or have a bucket or host")
	case u.Scheme == "s3" && strings.ContainsAny(u.Host, "=:"):
		return nil, errors.New("its bucket's name is none")
	case u.Scheme == "file" && (strings.Trim(u.Path, "/") == "" || u.RawQuery != ""):
		return nil, errors.New("it names no directory")
	case u.Scheme != "s3" && u.RawQuery != "":
		return nil, errors.New("only s3:// URLs have parameters")
	}
	for _, scheme := range schemes {
		if u.Scheme == scheme {
			u.Path = strings.TrimSuffix(u.Path, "/")
			return u, nil
		}
	}
	return nil, fmt.Errorf("its scheme is none of %s", strings.Join(schemes, ", "))
}

// Attach implements artifact.Attachment.
func (a *Attachment) Attach(ctx context.Context, desc ocispec.Descriptor, r io.ReaderAt) (urls []string, sent int64, err error) {
	for _, p := range a.places {
		put, err := a.storage.Put(ctx, object(p.write, desc), io.NewSectionReader(r, 0, desc.Size), desc.Size)
		if err != nil {
			return nil, sent, err
		}
		if put {
			sent += desc.Size
		}
		urls = append(urls, object(p.read, desc))
	}
	return urls, sent, nil
}

// object is where a directory has an object: sha256-HEX within it.
func object(dir *url.URL, desc ocispec.Descriptor) string {
	u := *dir
	u.Path += "/" + desc.Digest.Algorithm().String() + "-" + desc.Digest.Encoded()
	return u.String()
}

// Close closes idle connections.
func (a *Attachment) Close() { a.storage.Close() }
