package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/pagein/pagein/internal/servertest"
	"github.com/pagein/pagein/internal/tartest"
)

// The registry's passwords, before and after they are changed.
const (
	firstPassword  = secret + "-first"
	secondPassword = secret + "-second"
)

// guardedLab is a lab with an image in a registry that wants a password.
type guardedLab struct {
	*criLab
	passwords *servertest.Passwords
	image     string // at the guarded registry
	files     [][]byte
	all       []imageLayer
}

func newGuardedLab(t *testing.T, o servertest.ContainerdOptions) *guardedLab {
	t.Helper()
	l := &guardedLab{criLab: newCRILab(prepareRuntimeLab(t), o), passwords: servertest.NewPasswords(t, firstPassword)}
	members := []tartest.Member{tartest.Directory("files", 0o755)}
	rnd := rand.NewChaCha8([32]byte{9})
	for i := range 12 { // more than is guessed or read ahead
		b := make([]byte, 3<<20)
		_, _ = rnd.Read(b)
		l.files, members = append(l.files, b), append(members, tartest.File(fmt.Sprintf("files/%d", i), string(b)))
	}
	l.all = []imageLayer{l.layers[0], l.layer(members...)}
	l.pagein("convert", "--quiet", l.push("app", l.all...))
	l.gate = newGate(t, servertest.Guarded(t, l.distribution, l.passwords).Addr)
	l.image = l.gate.addr + "/app:1"
	return l
}

// login is a pull secret.
func login(password string) *cri.AuthConfig {
	return &cri.AuthConfig{Username: "me", Password: password}
}

// reads has a container read the i-th file.
func (l *guardedLab) reads(container string, i int) {
	l.Helper()
	path := fmt.Sprintf("/files/%d", i)
	if got := l.exec(container, "sha256sum", path); got != digestOf(l.files[i], path) {
		l.Errorf("it reads %q: %s", got, l.status().Images[0].Problem)
	}
}

// readsLater has a container begin to read the i-th file, and returns how to wait for that.
func (l *guardedLab) readsLater(container string, i int) (read func()) {
	l.Helper()
	path := fmt.Sprintf("/files/%d", i)
	ended := make(chan error, 1)
	go func() {
		done, err := l.pods.ExecSync(l.Context(), &cri.ExecSyncRequest{ContainerId: container, Cmd: []string{"/bin/busybox", "sha256sum", path}, Timeout: 60})
		if got := string(done.GetStdout()); err == nil && got != digestOf(l.files[i], path) {
			err = fmt.Errorf("it reads %q, and says %q", got, done.GetStderr())
		}
		ended <- err
	}()
	return func() {
		l.Helper()
		if err := <-ended; err != nil {
			l.Error(err)
		}
	}
}

// startLazily runs a container of the image, of which nothing was fetched as a layer.
func (l *guardedLab) startLazily() (container string) {
	l.Helper()
	if n := l.gate.of(l.all...); n > 0 || len(l.mounted()) != 1 {
		l.Fatalf("%d bytes of layers were fetched: %s", n, l.said())
	}
	pod, config := l.pod("web")
	container, _ = l.container(pod, config, l.image, "/bin/busybox", "sleep", "3600")
	return container
}

// keepsSecrets looks for passwords in what the daemon says and writes.
func (l *guardedLab) keepsSecrets() {
	l.Helper()
	if strings.Contains(l.said()+l.pagein("status", "--json"), secret) {
		l.Error("a password was said")
	}
	for _, below := range []string{filepath.Join(l.root, "state"), l.dir + "/run"} {
		l.checkFiles(below)
	}
}

// TestPullSecretsOfKubernetesReachWhoFetches pulls through the daemon with a secret that the registry later replaces, while a container waits for it. The daemon is killed in between.
func TestPullSecretsOfKubernetesReachWhoFetches(t *testing.T) {
	beside(t)
	withEachContainerd(t, func(t *testing.T, o servertest.ContainerdOptions) {
		l := newGuardedLab(t, o)
		if err := l.tryPull(l.forwarded, l.image, login("wrong")); err == nil {
			t.Fatal("a wrong secret is good enough")
		}
		l.pullImage(l.forwarded, l.image, login(firstPassword))
		container := l.startLazily()
		l.reads(container, 0)
		l.stop(unix.SIGKILL)
		l.serve(l.config...)
		l.reads(container, 5)
		l.passwords.Set(secondPassword)
		read := l.readsLater(container, len(l.files)-1)
		l.waitFor("a reader to be refused", func() bool { return strings.Contains(l.status().Images[0].Problem, "401") })
		l.pullImage(l.forwarded, l.image, login(secondPassword))
		read()
		for i := range l.files {
			l.reads(container, i)
		}
		l.keepsSecrets()
	})
}

// plugin has the daemon use a plugin of kubelet, which prints what is in a file, and returns how to change the password there.
func (l *guardedLab) plugin() (change func(password string)) {
	l.Helper()
	bin := l.TempDir()
	password := filepath.Join(bin, "password")
	change = func(to string) {
		l.Helper()
		if err := os.WriteFile(password, []byte(to), 0o600); err != nil {
			l.Fatal(err)
		}
	}
	for name, content := range map[string]string{
		"provider": fmt.Sprintf("#!/bin/sh\ncat > /dev/null\nprintf '%s' \"$(cat %s)\"\n", `{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1",`+
			`"cacheKeyType":"Registry","cacheDuration":"24h","auth":{"`+l.gate.addr+`":{"username":"me","password":"%s"}}}`, password),
		"config.json": fmt.Sprintf(`{"apiVersion":"kubelet.config.k8s.io/v1","kind":"CredentialProviderConfig","providers":[{"name":"provider","matchImages":[%q],`+
			`"defaultCacheDuration":"1h","apiVersion":"credentialprovider.kubelet.k8s.io/v1"}]}`, l.gate.addr),
	} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(content), 0o700); err != nil {
			l.Fatal(err)
		}
	}
	l.stop(unix.SIGTERM)
	l.serve(l.configure("[credentials]\nkubelet-config = %q\nkubelet-bin-dir = %q\n", filepath.Join(bin, "config.json"), bin)...)
	return change
}

// TestCredentialPluginsOfKubeletServeRunningContainers has one whose password changes while a container runs, and nobody pulls again.
func TestCredentialPluginsOfKubeletServeRunningContainers(t *testing.T) {
	beside(t)
	withEachContainerd(t, func(t *testing.T, o servertest.ContainerdOptions) {
		l := newGuardedLab(t, o)
		change := l.plugin()
		change(firstPassword)
		l.pullImage(l.images, l.image, login(firstPassword))
		container := l.startLazily()
		l.reads(container, 0)
		l.passwords.Set(secondPassword)
		change(secondPassword)
		for i := range l.files {
			l.reads(container, i)
		}
		l.keepsSecrets()
	})
}
