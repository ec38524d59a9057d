package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/internal/servertest"
)

// newAttachedLab is a lab on the host: the guests have no servers.
func newAttachedLab(t *testing.T) *lab {
	t.Helper()
	if os.Getenv(require.GuestEnv) != "" {
		t.Skip("the guests have no registries and no S3 servers")
	}
	return newLab(t)
}

// configure writes a configuration and returns the options that have the daemon read it.
func (l *lab) configure(format string, args ...any) []string {
	l.Helper()
	path := filepath.Join(l.dir, "config.toml")
	if err := os.WriteFile(path, fmt.Appendf(nil, format, args...), 0o600); err != nil {
		l.Fatal(err)
	}
	return []string{"--config", path}
}

// sent is what "pagein convert --json" says of where data went.
type sent struct{ Stored, Sent, Attached int64 }

func (l *lab) convert(args ...string) (s sent) {
	l.Helper()
	if err := json.Unmarshal([]byte(l.pagein(append([]string{"convert", "--json"}, args...)...)), &s); err != nil {
		l.Fatal(err)
	}
	return s
}

// TestDataInS3IsReadThere converts into a registry and a bucket, and mounts: the registry has no data at all.
func TestDataInS3IsReadThere(t *testing.T) {
	beside(t)
	l := newAttachedLab(t)
	tokens := servertest.NewTokenServer(t, "secret")
	registry, s3 := servertest.Distribution(t, tokens).Addr, servertest.VersityGW(t).Addr
	c, err := minio.New(s3, &minio.Options{Creds: credentials.NewStaticV4(servertest.S3AccessKey, servertest.S3SecretKey, ""), Region: servertest.S3Region})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.MakeBucket(context.Background(), "images", minio.MakeBucketOptions{Region: servertest.S3Region}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(l.dir, "config.json"), fmt.Appendf(nil, `{"auths":{%q:{"auth":"bWU6c2VjcmV0"}}}`, registry), 0o600); err != nil {
		t.Fatal(err)
	}
	// The image is named by a registry that exists in hosts.toml only.
	if err := os.MkdirAll(filepath.Join(l.dir, "hosts/registry.test"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(l.dir, "hosts/registry.test/hosts.toml"), fmt.Appendf(nil, "server = 'http://%s'\n", registry), 0o600); err != nil {
		t.Fatal(err)
	}
	config := l.configure("hosts-dirs = [%q]\n[[storage]]\nurl = 's3://images'\nendpoint = 'http://%s'\naccess-key = %q\nsecret-key = %q\n",
		l.dir+"/hosts", s3, servertest.S3AccessKey, servertest.S3SecretKey)
	env := []string{"DOCKER_CONFIG=" + l.dir, "PAGEIN_CONFIG=" + config[1]}

	tree := l.tree(1)
	l.env = append(env, "AWS_ACCESS_KEY_ID="+servertest.S3AccessKey, "AWS_SECRET_ACCESS_KEY="+servertest.S3SecretKey)
	s := l.convert("--attach", "s3://images/prefix?endpoint=http://"+s3+"&region="+servertest.S3Region, "dir:"+tree, "registry.test/app:1")
	l.env = append(env, "AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=") // nodes have the keys from the configuration
	if s.Attached == 0 || s.Sent+s.Attached != s.Stored {
		t.Errorf("%d bytes went to the registry and %d to S3, %d are stored", s.Sent, s.Attached, s.Stored)
	}
	l.start(config...)
	l.readAll(tree, l.mount("registry.test/app:1", "a"))
	// Without a daemon too.
	if _, err := l.try("check", "registry.test/app:1"); err != nil {
		t.Error(err)
	}
}

// TestStorageThatGoesAwayIsReplacedByTheRegistry takes the preferred place away under a mount, and brings it back.
func TestStorageThatGoesAwayIsReplacedByTheRegistry(t *testing.T) {
	beside(t)
	l := newAttachedLab(t)
	names := strings.Split("abcdefghijkl", "") // 36 MiB: more than is read ahead
	tree, dir := l.bigFiles(names...), filepath.Join(l.dir, "storage")
	ref := servertest.Distribution(t, nil).Addr + "/app:1"
	s := l.convert("--attach", "file://"+dir, "--keep-data", "dir:"+tree, ref)
	if s.Attached < 9<<20 || s.Sent < 9<<20 {
		t.Errorf("%d bytes went to the registry and %d to the directory", s.Sent, s.Attached)
	}
	l.start(l.configure("[[storage]]\nurl = 'file://%s'\n", dir)...)
	target := l.mount(ref, "a")
	if _, err := os.ReadFile(filepath.Join(target, "a")); err != nil {
		t.Error(err)
	}
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if _, err := os.ReadFile(filepath.Join(target, name)); err != nil {
			t.Error(err)
		}
	}
	if !strings.Contains(l.said(), "source is avoided for a while") {
		t.Error("nobody noticed that the directory is away")
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	l.readAll(tree, target)
}

// TestStorageThatIsNotAllowedIsNotRead mounts an artifact whose data is only where the node may not read.
func TestStorageThatIsNotAllowedIsNotRead(t *testing.T) {
	l := newAttachedLab(t)
	tree, dir := l.bigFiles("a"), filepath.Join(l.dir, "storage")
	ref := "oci:" + l.dir + "/layout:1"
	l.convert("--attach", "file://"+dir, "dir:"+tree, ref)
	l.start()
	target := l.mount(ref, "a")
	if _, err := os.ReadFile(filepath.Join(target, "a")); !errors.Is(err, unix.EIO) {
		t.Errorf("error is %v, want an I/O error", err)
	}
	if !strings.Contains(l.said(), "not allowed by the configuration") {
		t.Error("nobody says why")
	}
	l.stop(unix.SIGTERM)
	l.start(l.configure("[[storage]]\nurl = 'file://%s'\n", dir)...)
	if _, err := os.ReadFile(filepath.Join(target, "a")); err != nil {
		t.Errorf("after it was allowed: %v", err)
	}
	if err := os.RemoveAll(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
