package backend_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/pagein/pagein/internal/servertest"
	"github.com/pagein/pagein/ondemand/backend"
	"github.com/pagein/pagein/ondemand/backend/backendtest"
)

// bucket makes a bucket "images" with an object "dir/object".
func bucket(t *testing.T, addr string, content []byte) {
	t.Helper()
	c, err := minio.New(addr, &minio.Options{Creds: credentials.NewStaticV4(servertest.S3AccessKey, servertest.S3SecretKey, ""), Region: servertest.S3Region})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if err := c.MakeBucket(ctx, "images", minio.MakeBucketOptions{Region: servertest.S3Region}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.PutObject(ctx, "images", "dir/object", bytes.NewReader(content), int64(len(content)), minio.PutObjectOptions{}); err != nil {
		t.Fatal(err)
	}
}

// withKeys is the place that is allowed, with the right keys.
func withKeys(addr string) backend.Place {
	return backend.Place{URL: "s3://images", Endpoint: "http://" + addr, AccessKey: servertest.S3AccessKey, SecretKey: servertest.S3SecretKey}
}

func TestS3Conforms(t *testing.T) {
	addr := servertest.VersityGW(t).Addr
	s := storage(t, withKeys(addr))
	backendtest.Run(t, backendtest.Suite{
		Open: func(t *testing.T, content []byte) backend.Object {
			bucket(t, addr, content)
			return openURL(t, s, "s3://images/dir/object?endpoint=http://"+addr, len(content))
		},
		Missing: func(t *testing.T) backend.Object { return openURL(t, s, "s3://images/missing", 1000) },
	})
}

func TestS3CredentialsComeFromTheEnvironment(t *testing.T) {
	addr := servertest.VersityGW(t).Addr
	bucket(t, addr, content)
	t.Setenv("AWS_ACCESS_KEY_ID", servertest.S3AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", servertest.S3SecretKey)
	o := openURL(t, storage(t, backend.Place{URL: "s3://images", Endpoint: "http://" + addr, Region: servertest.S3Region}), "s3://images/dir/object", len(content))
	if got, err := backendtest.Read(context.Background(), o, 5, 1000); err != nil || !bytes.Equal(got, content[5:1005]) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestS3CredentialsComeFromAFileOrTheMachinesRole(t *testing.T) {
	addr := servertest.VersityGW(t).Addr
	bucket(t, addr, content)
	asked := 0
	role := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		fmt.Fprintf(w, `{"AccessKeyId":%q,"SecretAccessKey":%q,"Token":"","Expiration":%q}`,
			servertest.S3AccessKey, servertest.S3SecretKey, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	t.Cleanup(role.Close)
	file := filepath.Join(t.TempDir(), "credentials")
	writeObject(t, file, fmt.Appendf(nil, "[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", servertest.S3AccessKey, servertest.S3SecretKey))
	for name, env := range map[string]map[string]string{
		"file": {"AWS_SHARED_CREDENTIALS_FILE": file},
		"role": {"AWS_SHARED_CREDENTIALS_FILE": "/does/not/exist", "AWS_CONTAINER_CREDENTIALS_FULL_URI": role.URL + "/credentials"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("AWS_ACCESS_KEY_ID", "")
			t.Setenv("AWS_SECRET_ACCESS_KEY", "")
			for k, v := range env {
				t.Setenv(k, v)
			}
			o := openURL(t, storage(t, backend.Place{URL: "s3://images", Endpoint: "http://" + addr, Region: servertest.S3Region}), "s3://images/dir/object", len(content))
			for range 3 {
				if _, err := backendtest.Read(context.Background(), o, 5, 1000); err != nil {
					t.Error(err)
				}
			}
		})
	}
	if asked != 1 {
		t.Errorf("the role was asked for %d times", asked)
	}
}

func TestS3CredentialsThatRotateAreLookedUpAgain(t *testing.T) {
	addr := servertest.VersityGW(t).Addr
	bucket(t, addr, content)
	t.Setenv("AWS_ACCESS_KEY_ID", servertest.S3AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", "not any more")
	o := openURL(t, storage(t, backend.Place{URL: "s3://images", Endpoint: "http://" + addr, Region: servertest.S3Region}), "s3://images/dir/object", len(content))
	if _, err := backendtest.Read(context.Background(), o, 5, 1000); err == nil || !strings.Contains(err.Error(), "SignatureDoesNotMatch") || !strings.Contains(err.Error(), addr) {
		t.Errorf("error is %v", err)
	}
	t.Setenv("AWS_SECRET_ACCESS_KEY", servertest.S3SecretKey)
	if _, err := backendtest.Read(context.Background(), o, 5, 1000); err != nil {
		t.Errorf("with the new key: %v", err)
	}
}

func TestS3WithoutCredentialsSaysSo(t *testing.T) {
	addr := servertest.VersityGW(t).Addr
	bucket(t, addr, content)
	o := openURL(t, storage(t, backend.Place{URL: "s3://images", Endpoint: "http://" + addr, Anonymous: true}), "s3://images/dir/object", len(content))
	if _, err := backendtest.Read(context.Background(), o, 5, 1000); err == nil || !backend.IsPermanent(err) || !strings.Contains(err.Error(), "AccessDenied") {
		t.Errorf("error is %v", err)
	}
}

func TestS3BucketsAreFoundByPathOrByHost(t *testing.T) {
	for _, c := range []struct{ place, url, want string }{
		{"", "s3://images/o", "https://images.s3.amazonaws.com/o"},
		{"", "s3://images/o?style=path", "https://s3.amazonaws.com/images/o"},
		{"https://minio.example.com", "s3://images/o", "https://minio.example.com/images/o"},
		{"https://minio.example.com", "s3://images/o?style=host", "https://images.minio.example.com/o"},
	} {
		s := storage(t, backend.Place{URL: "s3://images", Endpoint: c.place, Anonymous: true})
		if got, err := backend.LocateS3(openURL(t, s, c.url, 10)); err != nil || got != c.want {
			t.Errorf("%s at %q is %s, want %s (%v)", c.url, c.place, got, c.want, err)
		}
	}
}
