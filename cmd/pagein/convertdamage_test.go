package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestConvertAgainMendsADamagedLayout flips a byte in the middle of each blob of a layout: a second conversion must not take them for what their names promise.
func TestConvertAgainMendsADamagedLayout(t *testing.T) {
	dir, layout := convertible(t), filepath.Join(t.TempDir(), "layout")
	ref := "oci:" + layout + ":v1"
	whole := convertJSON(t, "dir:"+dir, ref)
	blobs, err := filepath.Glob(filepath.Join(layout, "blobs", "sha256", "*"))
	if err != nil || len(blobs) < 5 { // manifest, config, metadata image, map, data
		t.Fatalf("blobs are %q, %v", blobs, err)
	}
	for _, path := range blobs {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 1
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// Under another tag, as the manifest that v1 names cannot be read any more.
	mended := convertJSON(t, "dir:"+dir, "oci:"+layout+":v2")
	if mended.Descriptor.Digest != whole.Descriptor.Digest || mended.Sent != whole.Sent {
		t.Errorf("%d bytes of %s were stored again, want %d of %s", mended.Sent, mended.Descriptor.Digest, whole.Sent, whole.Descriptor.Digest)
	}
	succeeds(t, "check", ref)
	if again := convertJSON(t, "dir:"+dir, ref); again.Sent != 0 {
		t.Errorf("%d bytes were stored although all were there", again.Sent)
	}
}
