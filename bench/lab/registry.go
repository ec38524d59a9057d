package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// RegistryFiles is the name of the directory that a registry keeps its files in, below the one it was started with.
const RegistryFiles = "registry"

// registryConfig is distribution's configuration: quiet, on loopback, files in one directory. Relative URLs keep clients that come through
// the link on the link.
const registryConfig = `version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %q}}
http: {addr: %q, relativeurls: true}
`

// StartRegistry starts distribution's registry on a free port of loopback and returns its address.
func StartRegistry(ctx context.Context, program, dir string) (*Service, string, error) {
	const tries = 3 // another program may take the free port before the registry does
	var last error
	for range tries {
		addr, err := freeAddress()
		if err != nil {
			return nil, "", err
		}
		config := filepath.Join(dir, "registry.yml")
		if err := os.WriteFile(config, fmt.Appendf(nil, registryConfig, filepath.Join(dir, RegistryFiles), addr), 0o600); err != nil {
			return nil, "", fmt.Errorf("configure the registry: %w", err)
		}
		service, err := StartService(Command(ctx, program, "serve", config))
		if err != nil {
			return nil, "", err
		}
		last = service.Await(ctx, 20*time.Second, func(ctx context.Context) error { return ping(ctx, "http://"+addr+"/v2/") })
		if last == nil {
			return service, addr, nil
		}
		last = errors.Join(last, service.Stop())
		if ctx.Err() != nil {
			break
		}
	}
	return nil, "", last
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return listener.Addr().String(), listener.Close()
}

func ping(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	return nil
}
