package node

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestADeviceThatCannotBeHadIsNotAskedForAllTheTime looks for cache files as often as the evictor does, while another program has the device.
func TestADeviceThatCannotBeHadIsNotAskedForAllTheTime(t *testing.T) {
	dir := t.TempDir()
	shard := filepath.Join(dir, "cache", "Ierofs,pagein", "@00")
	if err := os.MkdirAll(shard, 0o700); err != nil {
		t.Fatal(err)
	}
	probes := 0
	tr := &transports{kinds: []kind{{name: cachefilesTransport, probe: func() error {
		probes++
		return errors.New("in use")
	}}}}
	for _, want := range []int{0, 1} { // with an empty cache, and one that has a file
		for range 3 {
			if tr.cache(dir) != nil {
				t.Error("there is a transport")
			}
		}
		if probes != want {
			t.Errorf("the device is asked for %d times, want %d", probes, want)
		}
		if err := os.WriteFile(filepath.Join(shard, "Dfile"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
