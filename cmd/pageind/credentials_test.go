package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/servertest"
)

// shortLived is a registry whose tokens expire soon: a second, or two as tokens know no fractions, after the minute that registries allow for.
const shortLived = -58 * time.Second

// expired is long enough for such a token to be no good.
const expired = 3500 * time.Millisecond

// writeDockerConfig replaces Docker's configuration, which the test has set aside in the lab's directory.
func (l *lab) writeDockerConfig(format string, args ...any) {
	l.Helper()
	path := filepath.Join(l.dir, "docker", "config.json")
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path+".new", fmt.Appendf(nil, format, args...), 0o600), os.Rename(path+".new", path)); err != nil {
		l.Fatal(err)
	}
}

// refused reads a file and wants an error, and the status to say why.
func (l *lab) refused(path, why string) {
	l.Helper()
	if _, err := os.ReadFile(path); !errors.Is(err, unix.EIO) {
		l.Errorf("%s: got %v, want %v", path, err, unix.EIO)
	}
	if said := l.status().Images[0].Problem; !strings.Contains(said, why) {
		l.Errorf("the problem does not say %q: %q", why, said)
	}
}

// TestCredentialsMayExpireAndChangeWhileMounted lets a mount's token expire, then changes the password, then logs in anew.
func TestCredentialsMayExpireAndChangeWhileMounted(t *testing.T) {
	beside(t)
	l := newAttachedLab(t)
	tokens := servertest.NewTokenServer(t, "first")
	registry := servertest.Distribution(t, tokens).Addr
	l.env = []string{"DOCKER_CONFIG=" + filepath.Join(l.dir, "docker")}
	l.writeDockerConfig(`{"auths":{%q:{"auth":"bWU6Zmlyc3Q="}}}`, registry) // me:first
	tree := l.bigFiles(strings.Split("abcdefghijkl", "")...)                // more than is guessed or read ahead
	l.pagein("convert", "dir:"+tree, registry+"/app:1")
	tokens.Set("first", shortLived)
	l.start("--read-deadline", "1s")
	target := l.mount(registry+"/app:1", "a")
	asked := tokens.Asked()
	time.Sleep(expired)
	if _, err := os.ReadFile(filepath.Join(target, "a")); err != nil {
		t.Errorf("after the token expired: %v", err)
	}
	if tokens.Asked() == asked {
		t.Error("no new token was asked for: the old one had not expired")
	}
	tokens.Set("second", shortLived)
	time.Sleep(expired)
	l.refused(filepath.Join(target, "l"), "401")
	l.writeDockerConfig(`{"auths":{%q:{"auth":"bWU6c2Vjb25k"}}}`, registry) // me:second
	l.readAll(tree, target)
	if said := l.status().Images[0].Problem; said != "" {
		t.Errorf("after a new login there is still a problem: %s", said)
	}
}

// TestACredentialHelperThatHangsCostsErrors has one stop answering while an image is mounted.
func TestACredentialHelperThatHangsCostsErrors(t *testing.T) {
	beside(t)
	l := newAttachedLab(t)
	tokens := servertest.NewTokenServer(t, "secret")
	registry := servertest.Distribution(t, tokens).Addr
	hang := filepath.Join(l.dir, "hang")
	script := fmt.Sprintf("#!/bin/sh\nread host\ntest ! -e %s || exec sleep 100\necho '{\"Username\":\"me\",\"Secret\":\"secret\"}'\n", hang)
	programs := t.TempDir()
	if err := os.WriteFile(filepath.Join(programs, "docker-credential-moody"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	l.env = []string{"PATH=" + programs + ":" + os.Getenv("PATH"), "DOCKER_CONFIG=" + filepath.Join(l.dir, "docker")}
	l.writeDockerConfig(`{"credHelpers":{%q:"moody"}}`, registry)
	tree := l.bigFiles("a")
	l.pagein("convert", "dir:"+tree, registry+"/app:1")
	tokens.Set("secret", shortLived)
	l.start("--read-deadline", "1s")
	target := l.mount(registry+"/app:1", "a")
	if err := os.WriteFile(hang, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	time.Sleep(expired)
	l.refused(filepath.Join(target, "a"), "no answer yet")
	if err := os.Remove(hang); err != nil {
		t.Fatal(err)
	}
	l.readAll(tree, target)
}
