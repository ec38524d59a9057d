package kmount

import (
	"testing"

	"github.com/pagein/pagein/internal/require"
)

// TestOnlyKernelsWithoutTheFlawReadDirectly has releases as uname -r says them.
func TestOnlyKernelsWithoutTheFlawReadDirectly(t *testing.T) {
	for release, want := range map[string]bool{
		"6.12.71":                false,
		"6.12.72":                true,
		"6.12.117+deb12-amd64":   true,
		"6.12.0-124.8.1.el10_1":  false,
		"6.14.0-37-generic":      false,
		"6.17.13":                false,
		"6.18.0":                 false,
		"6.18.10-arch1-1":        false,
		"6.18.11":                true,
		"6.18.44-cloud":          true,
		"6.19.1":                 false, // it had the fix for a while, and is supported no more
		"7.0.0-rc1":              true,
		"7.2.3-200.fc44.x86_64":  true,
		"10.0":                   true,
		"6.1.192":                false,
		"5.15.0-generic":         false,
		"":                       false,
		"unknown":                false,
		"6.18.":                  false,
		"99999999999999999999.1": false,
	} {
		if got := soundRelease(release); got != want {
			t.Errorf("%q: %v, want %v", release, got, want)
		}
	}
}

// TestMountsAreToldToReadDirectly tells a mount, before and after it is attached, and looks whether all else has stayed.
func TestMountsAreToldToReadDirectly(t *testing.T) {
	require.Feature(t, DirectIsSound(), "EROFS that can be asked to read past the page cache (Linux 6.12.72, 6.18.11, 7.0)")
	for name, attached := range map[string]bool{"attached": true, "detached": false} {
		t.Run(name, func(t *testing.T) {
			image, target := mountable(t)
			d, err := Open(t.Context(), EROFS{Source: image})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if !attached {
				if err := d.ReadDirectly(); err != nil {
					t.Fatal(err)
				}
			}
			if err := d.Attach(target); err != nil {
				t.Fatal(err)
			}
			m, ok, err := Lookup(target)
			if err != nil || !ok || m.ReadsDirectly() == attached {
				t.Fatalf("%+v, %v, %v", m, ok, err)
			}
			if attached {
				if err := ReadDirectly(m); err != nil {
					t.Fatal(err)
				}
			}
			told, _, err := Lookup(target)
			if err != nil || !told.ReadsDirectly() {
				t.Errorf("%+v, %v", told, err)
			}
			if attached && told.SuperOptions != m.SuperOptions+","+direct {
				t.Errorf("options were %s and are %s", m.SuperOptions, told.SuperOptions)
			}
			m.Device = "0:0"
			if err := ReadDirectly(m); err == nil {
				t.Error("another superblock than the one that is meant was told")
			}
		})
	}
}
