package backend_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/pagein/pagein/internal/servertest"
	"github.com/pagein/pagein/ondemand/backend"
	"github.com/pagein/pagein/ondemand/backend/backendtest"
)

// stores are places that objects can be put into, and a URL below each.
func stores(t *testing.T) (*backend.Storage, map[string]string) {
	t.Helper()
	addr, dir := servertest.VersityGW(t).Addr, t.TempDir()
	c, err := minio.New(addr, &minio.Options{Creds: credentials.NewStaticV4(servertest.S3AccessKey, servertest.S3SecretKey, ""), Region: servertest.S3Region})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.MakeBucket(context.Background(), "images", minio.MakeBucketOptions{Region: servertest.S3Region}); err != nil {
		t.Fatal(err)
	}
	return storage(t, withKeys(addr), backend.Place{URL: "file://" + dir}), map[string]string{
		"S3": "s3://images/a/object?endpoint=http://" + addr, "directory": "file://" + dir + "/a/object",
	}
}

func TestWhatIsPutCanBeReadAndIsPutOnce(t *testing.T) {
	s, urls := stores(t)
	for name, url := range urls {
		for _, want := range []bool{true, false} {
			if sent, err := s.Put(context.Background(), url, bytes.NewReader(content), int64(len(content))); err != nil || sent != want {
				t.Errorf("%s: sent is %v, want %v: %v", name, sent, want, err)
			}
		}
		if got, err := backendtest.Read(context.Background(), openURL(t, s, url, len(content)), 0, int64(len(content))); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

func TestHalfAnObjectIsNeverThere(t *testing.T) {
	s, urls := stores(t)
	for name, url := range urls {
		for what, r := range map[string]io.Reader{
			"too short": bytes.NewReader(content[1:]),
			"failing":   io.MultiReader(bytes.NewReader(content[1:]), failing{errors.New("the source broke")}),
		} {
			if _, err := s.Put(context.Background(), url, r, int64(len(content))); err == nil || !strings.Contains(err.Error(), "a/object") {
				t.Errorf("%s, %s: error is %v", name, what, err)
			}
			if _, err := backendtest.Read(context.Background(), openURL(t, s, url, len(content)), 0, 10); err == nil {
				t.Errorf("%s, %s: something is there", name, what)
			}
		}
	}
	dir := filepath.Dir(strings.TrimPrefix(urls["directory"], "file://"))
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

func TestObjectsArePutOnlyWhereTheyMay(t *testing.T) {
	s, _ := stores(t)
	for _, url := range []string{"file:///tmp/pagein-not-allowed", "s3://other/object", "https://example.com/object", "nothing"} {
		if _, err := s.Put(context.Background(), url, bytes.NewReader(content), int64(len(content))); err == nil || !backend.IsPermanent(err) {
			t.Errorf("%s: error is %v", url, err)
		}
	}
	s = storage(t, backend.Place{URL: "https://example.com"})
	if _, err := s.Put(context.Background(), "https://example.com/object", bytes.NewReader(content), int64(len(content))); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("error is %v", err)
	}
}
