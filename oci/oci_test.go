package oci

import (
	"path/filepath"
	"strings"
	"testing"
)

const someDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestParseRefReadsEveryForm(t *testing.T) {
	for s, want := range map[string]Ref{
		"oci:image":                          {Kind: Layout, Path: "image"},
		"oci:/a/b:v1.0":                      {Kind: Layout, Path: "/a/b", Tag: "v1.0"},
		"oci:a:b/":                           {Kind: Layout, Path: "a:b"},
		"oci:a:b/c:d":                        {Kind: Layout, Path: "a:b/c", Tag: "d"},
		"oci:a@" + someDigest:                {Kind: Layout, Path: "a", Digest: someDigest},
		"oci:a:t@" + someDigest:              {Kind: Layout, Path: "a", Tag: "t", Digest: someDigest},
		"dir:/some where":                    {Kind: Dir, Path: "/some where"},
		"dir:a:b":                            {Kind: Dir, Path: "a:b"},
		"erofs:image":                        {Kind: EROFS, Path: "image"},
		"erofs:/i,/d1,d2":                    {Kind: EROFS, Path: "/i,/d1,d2"},
		"tar:-":                              {Kind: Tar, Path: "-"},
		"tar:x.tar.gz":                       {Kind: Tar, Path: "x.tar.gz"},
		"localhost:5000/app":                 {Kind: Registry, Host: "localhost:5000", Repository: "app"},
		"localhost:5000/a/b:t":               {Kind: Registry, Host: "localhost:5000", Repository: "a/b", Tag: "t"},
		"[::1]:5000/app@" + someDigest:       {Kind: Registry, Host: "[::1]:5000", Repository: "app", Digest: someDigest},
		"alpine":                             {Kind: Registry, Host: "docker.io", Repository: "library/alpine"},
		"ghcr.io/x/y:1@" + someDigest:        {Kind: Registry, Host: "ghcr.io", Repository: "x/y", Tag: "1", Digest: someDigest},
		"registry.example.com:8443/x:latest": {Kind: Registry, Host: "registry.example.com:8443", Repository: "x", Tag: "latest"},
	} {
		got, err := ParseRef(s)
		if err != nil {
			t.Error(err)
			continue
		}
		if got != want {
			t.Errorf("%q is %+v, want %+v", s, got, want)
		}
		if again, err := ParseRef(got.String()); err != nil || again != got {
			t.Errorf("%q is written as %q, which is %+v, %v", s, got, again, err)
		}
	}
}

func TestParseRefSaysWhatToWriteInstead(t *testing.T) {
	for s, want := range map[string]string{
		"":                              "it is empty",
		"localhost:5000":                "write localhost:5000/REPOSITORY",
		"registry.example.com:5000":     "write registry.example.com:5000/REPOSITORY",
		"oci:":                          "no directory",
		"oci::tag":                      "no directory",
		"oci:a:":                        "is no tag",
		"oci:a:b c":                     "is no tag",
		"oci:a@sha256:12":               "digest",
		"dir:":                          "no path",
		"erofs:":                        "no path",
		"erofs:a,,b":                    "no path",
		"tar:":                          "no path",
		"/some/dir":                     "oci:DIR[:TAG]",
		"./dir":                         "oci:DIR[:TAG]",
		"https://ghcr.io/x/y":           "it is a URL",
		"Host/Upper":                    "oci:DIR[:TAG]",
		"ghcr.io/x@sha256:1234":         "oci:DIR[:TAG]",
		"ghcr.io/" + "a\x00b":           "oci:DIR[:TAG]",
		strings.Repeat("a/", 200) + "b": "oci:DIR[:TAG]",
	} {
		if r, err := ParseRef(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gives %+v, %v; want an error with %q", s, r, err, want)
		}
	}
}

func TestReferenceIsDigestThenTagThenLatest(t *testing.T) {
	for s, want := range map[string]string{
		"oci:a":                       "latest",
		"localhost/a:t":               "t",
		"localhost/a:t@" + someDigest: someDigest,
	} {
		r, err := ParseRef(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Reference(); got != want {
			t.Errorf("%q resolves %q, want %q", s, got, want)
		}
	}
}

func TestLoopbackRegistriesAreRecognised(t *testing.T) {
	for s, want := range map[string]bool{
		"localhost:5000/a": true, "localhost/a": true, "127.0.0.1:1/a": true, "127.1.2.3/a": true, "[::1]:5000/a": true,
		"localhost:443/a": false, "localhost.example.com/a": false, "10.0.0.1:5000/a": false, "alpine": false, "oci:localhost": false,
	} {
		r, err := ParseRef(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Loopback(); got != want {
			t.Errorf("%q: loopback is %v, want %v", s, got, want)
		}
	}
}

func TestAbsoluteLeavesNothingRelative(t *testing.T) {
	for _, s := range []string{"oci:a:t", "dir:.", "tar:x", "erofs:x"} {
		r, err := ParseRef(s)
		if err != nil {
			t.Fatal(err)
		}
		abs, err := r.Absolute()
		if err != nil || !filepath.IsAbs(abs.Path) || abs.Tag != r.Tag {
			t.Errorf("%q becomes %+v, %v", s, abs, err)
		}
	}
	devices, err := Ref{Kind: EROFS, Path: "a,/b"}.Absolute()
	if files := devices.Files(); err != nil || len(files) != 2 || !filepath.IsAbs(files[0]) || files[1] != "/b" {
		t.Errorf("an image with a device becomes %q, %v", files, err)
	}
	for _, s := range []string{"tar:-", "localhost/a"} {
		r, err := ParseRef(s)
		if err != nil {
			t.Fatal(err)
		}
		if abs, err := r.Absolute(); err != nil || abs != r {
			t.Errorf("%q becomes %+v, %v", s, abs, err)
		}
	}
}

func FuzzParseRef(f *testing.F) {
	for _, s := range []string{"oci:a:t", "dir:x", "tar:-", "erofs:a,b", "localhost:5000/a:t@" + someDigest, "oci:a:b/@" + someDigest, "oci:a@sha256/:t"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRef(s)
		if err != nil {
			return
		}
		if again, err := ParseRef(r.String()); err != nil || again != r {
			t.Fatalf("%q is %+v; written as %q it is %+v, %v", s, r, r, again, err)
		}
	})
}
