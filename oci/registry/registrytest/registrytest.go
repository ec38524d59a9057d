// Package registrytest has what tests need of package registry.
package registrytest

import (
	"testing"

	"github.com/pagein/pagein/oci/registry"
)

// Client returns a client that has no credentials, whoever runs the test. It is closed when the test ends.
func Client(t testing.TB) *registry.Client {
	t.Helper()
	client, err := registry.NewClient(registry.Options{Anonymous: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}
