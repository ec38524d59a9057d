package control

import (
	"context"
	"net/http"
	"net/http/pprof"
)

// Diagnostics is what monitoring asks a daemon for.
type Diagnostics struct {
	Metrics http.Handler                // in Prometheus' format
	Ready   func(context.Context) error // nil while images can be mounted
	Profile bool                        // answer requests for Go profiles, which show the program's memory
}

// Handler answers GET /metrics, /healthz (the daemon runs), /readyz (images can be mounted) and, if profiles are wanted, /debug/pprof/. None of it changes anything, and
// none names an image or a registry.
func (d Diagnostics) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", d.Metrics)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { reply(w, struct{}{}, nil) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		err := d.Ready(r.Context())
		if err != nil {
			err = Errorf(Unavailable, "not ready: %w", err)
		}
		reply(w, struct{}{}, err)
	})
	if d.Profile {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// With answers what the API knows with api, and all else with d.
func (d Diagnostics) With(api http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", d.Handler())
	mux.Handle("/v1/", api)
	return mux
}
