package backend

import (
	"path/filepath"
	"strings"
	"testing"
)

// FuzzURL has every URL that is opened lie in the places that are configured, or be asked for without credentials.
func FuzzURL(f *testing.F) {
	for _, u := range []string{
		"file:///mnt/images/a", "file:///mnt/images/../a", "file:///mnt/images/%2e%2e/a", "s3://images/k?endpoint=https://minio.example.com", "s3://images/k?endpoint=https://evil.example.com&style=host",
		"https://files.example.com/images/a", "https://files.example.com/images/../a", "http://files.example.com/a", "https://[::1]/a", "s3://other/k?style=odd",
	} {
		f.Add(u)
	}
	s, err := NewStorage(StorageOptions{Places: []Place{
		{URL: "file:///mnt/images"}, {URL: "https://files.example.com/images", Headers: map[string]string{"Authorization": "secret"}},
		{URL: "s3://images", Endpoint: "https://minio.example.com", AccessKey: "a", SecretKey: "b"},
	}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(s.Close)
	f.Fuzz(func(t *testing.T, raw string) {
		o, err := s.Open(raw, 10)
		if err != nil {
			return
		}
		if strings.ContainsAny(o.String(), "?\n\r") {
			t.Errorf("%q is named %q", raw, o)
		}
		switch o := o.(type) {
		case *posixObject:
			if o.dir != "/mnt/images" || !filepath.IsLocal(o.name) {
				t.Errorf("%q is %s in %s", raw, o.name, o.dir)
			}
		case *s3Object:
			if o.signer.creds != nil && o.signer.endpoint.Host != "minio.example.com" {
				t.Errorf("%q is signed for %s", raw, o.signer.endpoint)
			}
		case *httpObject:
			u, err := o.locate(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			withHeaders := o.client == s.places[1].client("files.example.com")
			if withHeaders && (u.Host != "files.example.com" || !strings.HasPrefix(u.Path, "/images/")) {
				t.Errorf("%q gets the headers", raw)
			}
			if !withHeaders && u.Scheme != "https" {
				t.Errorf("%q is read without TLS", raw)
			}
		}
	})
}
