package main

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/registry"
	"github.com/pagein/pagein/snapshotter"
)

func TestDurationsAreLoggedWithTheirUnits(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		var out strings.Builder
		log, err := config{LogLevel: "info", LogFormat: format}.logger(&out)
		if err != nil {
			t.Fatal(err)
		}
		if log.Info("message", "after", 1500*time.Millisecond); !strings.Contains(out.String(), "1.5s") {
			t.Errorf("%s: %s", format, out.String())
		}
	}
}

func TestLogsHoldNoSecrets(t *testing.T) {
	const signed = "https://s3.example.com/bucket/key?X-Amz-Credential=AKIAEXAMPLE&X-Amz-Signature=5ecre7"
	for _, c := range []struct {
		value any
		keep  string
	}{
		{errors.New("read bytes 0 to 4095 of " + signed + ": connection reset"), "https://s3.example.com/bucket/key?… connection reset"},
		{&url.Error{Op: "Get", URL: signed, Err: errors.New("reset")}, `Get "https://s3.example.com/bucket/key?…": reset`},
		{"https://user:5ecre7@example.com/path", "https://example.com/path"},
		{"https://user:5ecre7@example.com/path?x=5ecre7", "https://example.com/path?…"},
		{"Authorization: Bearer 5ecre75ecre75ecre7", "Authorization: Bearer …"},
		{"s3://bucket/key?endpoint=x&token=5ecre7", "s3://bucket/key?…"},
		{"nothing to hide: http://example.com/a b", "nothing to hide: http://example.com/a b"},
	} {
		for _, format := range []string{"text", "json"} {
			var out strings.Builder
			log, err := config{LogLevel: "info", LogFormat: format}.logger(&out)
			if err != nil {
				t.Fatal(err)
			}
			log.Info("message", "value", c.value)
			got := strings.ReplaceAll(out.String(), `\"`, `"`)
			if strings.Contains(got, "5ecre7") || !strings.Contains(got, c.keep) {
				t.Errorf("%s: %v: got %q, want %q in it", format, c.value, got, c.keep)
			}
		}
		var out strings.Builder
		log, _ := config{LogLevel: "info", LogFormat: "text"}.logger(&out)
		if text, ok := c.value.(string); ok {
			if log.Info(text); strings.Contains(out.String(), "5ecre7") {
				t.Errorf("message: %q", out.String())
			}
		}
	}
}

// TestPageindIsToldOfRegistriesWithoutTLSByHostsToml has the reason not name an option of a command that containerd does not run.
func TestPageindIsToldOfRegistriesWithoutTLSByHostsToml(t *testing.T) {
	ref := oci.Ref{Kind: oci.Registry, Host: "r.example:5000", Repository: "app"}
	got := withCure(control.Errorf(control.Unavailable, "find %s: %w", ref, registry.ErrPlainHTTP), ref).Error()
	if !strings.Contains(got, `server = "http://r.example:5000" into hosts.toml in the directory r.example:5000`) || strings.Contains(got, "--plain-http") {
		t.Error(got)
	}
	if other := errors.New("something else"); withCure(other, ref) != other {
		t.Error("another reason becomes one of these")
	}
}

func TestReasonsOfUnpackedImagesHaveNoSecrets(t *testing.T) {
	got := toldOf([]snapshotter.Unpacked{{Image: "r.example/app:1", Reason: "GET https://user:hidden@r.example/v2?signature=hidden: refused"}})
	if len(got) != 1 || got[0].Image != "r.example/app:1" || strings.Contains(got[0].Reason, "hidden") || !strings.HasSuffix(got[0].Reason, "refused") {
		t.Errorf("told is %+v", got)
	}
}
