package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
)

// maxDockerConfig bounds Docker's configuration, in bytes.
const maxDockerConfig = 4 << 20

// dockerConfig finds credentials where Docker keeps them: in $DOCKER_CONFIG/config.json or ~/.docker/config.json, and in the helpers that are named there. The file is
// read when somebody asks for credentials and it has changed, so what "docker login" writes while images are mounted counts, and a file that is broken
// harms only those who need it. It is never written.
type dockerConfig struct {
	path string

	mu      sync.Mutex
	read    fileState
	auths   credentials.Store
	helpers helperNames
}

// fileState tells versions of a file apart.
type fileState struct {
	size, mtime int64
	inode       uint64
}

// helperNames is the part of Docker's configuration that names helpers: the program for name is docker-credential-name.
type helperNames struct {
	Store string            `json:"credsStore"`
	Hosts map[string]string `json:"credHelpers"`
}

func newDockerConfig() (*dockerConfig, error) {
	dir := os.Getenv("DOCKER_CONFIG")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil { // as in a service without $HOME: there are no credentials
			return &dockerConfig{}, nil
		}
		dir = filepath.Join(home, ".docker")
	}
	path, err := filepath.Abs(filepath.Join(dir, "config.json"))
	return &dockerConfig{path: path}, err
}

// String implements Logins.
func (d *dockerConfig) String() string { return "Docker's configuration" }

// Refused implements Logins. Whoever logs in anew changes the file.
func (d *dockerConfig) Refused(Place, Credential) bool { return false }

// Credential implements Logins. Docker's credentials are for hosts, whatever is asked of them.
func (d *dockerConfig) Credential(ctx context.Context, at Place) (Credential, error) {
	server := credentials.ServerAddressFromHostname(at.Host)
	if server == "" || d.path == "" {
		return auth.EmptyCredential, nil
	}
	auths, helper, err := d.load(server)
	if err != nil {
		return auth.EmptyCredential, fmt.Errorf("read registry credentials from Docker's configuration %s: %w", d.path, err)
	}
	if helper != "" {
		return askHelper(ctx, helper, server, helperPatience)
	}
	if auths == nil {
		return auth.EmptyCredential, nil
	}
	cred, err := auths.Get(ctx, server)
	if err != nil {
		return auth.EmptyCredential, fmt.Errorf("read credentials for %s from Docker's configuration %s: %w", server, d.path, err)
	}
	return cred, nil
}

// load returns what the file says now. Without a file there is nothing.
func (d *dockerConfig) load(server string) (auths credentials.Store, helper string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now, err := stateOf(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		d.read, d.auths = fileState{}, nil
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	if d.auths == nil || d.read != now {
		if err := d.reload(now); err != nil {
			return nil, "", err
		}
	}
	if helper = d.helpers.Hosts[server]; helper == "" {
		helper = d.helpers.Store
	}
	return d.auths, helper, nil
}

func (d *dockerConfig) reload(now fileState) error {
	if now.size > maxDockerConfig {
		return fmt.Errorf("it has %d bytes, at most %d are allowed", now.size, maxDockerConfig)
	}
	b, err := os.ReadFile(d.path)
	if err != nil {
		return err
	}
	var helpers helperNames
	if err := json.Unmarshal(b, &helpers); err != nil {
		return err
	}
	auths, err := credentials.NewFileStore(d.path)
	if err != nil {
		return err
	}
	d.read, d.auths, d.helpers = now, auths, helpers
	return nil
}

func stateOf(path string) (fileState, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return fileState{}, err
	}
	s := fileState{size: fi.Size(), mtime: fi.ModTime().UnixNano()}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		s.inode = st.Ino
	}
	return s, nil
}
