package control

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestMonitoringIsAnsweredBesideTheAPI(t *testing.T) {
	d := Diagnostics{
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "pagein_images 1\n") }),
		Ready:   func(context.Context) error { return nil },
	}
	never := d
	never.Ready = func(context.Context) error { return errors.New("no transport") }
	profiled := d
	profiled.Profile = true
	for _, c := range []struct {
		d      Diagnostics
		path   string
		status int
		words  string
	}{
		{d, "/metrics", 200, "pagein_images 1"},
		{d, "/healthz", 200, ""},
		{d, "/readyz", 200, ""},
		{never, "/readyz", 503, "not ready: no transport"},
		{never, "/healthz", 200, ""},
		{d, "/debug/pprof/", 404, ""},
		{profiled, "/debug/pprof/", 200, "goroutine"},
		{profiled, "/debug/pprof/heap?debug=1", 200, "heap profile"},
		{d, "/v1/status", 200, `"root":"/r"`},
		{d, "/v1/none", 404, ""},
	} {
		h := c.d.With(Handler(&fake{status: Status{Root: "/r"}}))
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, c.path, nil))
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.words) {
			t.Errorf("%s: %d %.200q, want %d %q", c.path, w.Code, w.Body.String(), c.status, c.words)
		}
	}
	w := httptest.NewRecorder()
	d.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/status", nil))
	if w.Code != http.StatusNotFound {
		t.Errorf("the API is to be had where only monitoring should be: %d", w.Code)
	}
}
