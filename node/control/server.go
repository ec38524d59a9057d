package control

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"time"
)

const (
	maxRequest  = 64 << 10         // bytes of a request's body
	maxResponse = 64 << 20         // bytes of a response that a client reads
	goodbye     = 10 * time.Second // for requests under way when the server is told to stop
)

// Handler answers requests with svc.
func Handler(svc Service) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/mounts", func(w http.ResponseWriter, r *http.Request) {
		var req MountRequest
		err := decode(w, r, &req)
		if err == nil {
			err = checkMount(req)
		}
		if err != nil {
			fail(w, err)
			return
		}
		resp, err := svc.Mount(r.Context(), req)
		reply(w, resp, err)
	})
	mux.HandleFunc("DELETE /v1/mounts", func(w http.ResponseWriter, r *http.Request) {
		target := r.URL.Query().Get("target")
		if err := checkTarget(target); err != nil {
			fail(w, err)
			return
		}
		reply(w, struct{}{}, svc.Unmount(r.Context(), target))
	})
	mux.HandleFunc("POST /v1/prepare", func(w http.ResponseWriter, r *http.Request) {
		var req PrepareRequest
		err := decode(w, r, &req)
		if err == nil {
			err = checkRef(req.Ref)
		}
		if err != nil {
			fail(w, err)
			return
		}
		resp, err := svc.Prepare(r.Context(), req)
		reply(w, resp, err)
	})
	mux.HandleFunc("POST /v1/gc", func(w http.ResponseWriter, r *http.Request) {
		var req GCRequest
		if err := decode(w, r, &req); err != nil {
			fail(w, err)
			return
		}
		resp, err := svc.GC(r.Context(), req)
		reply(w, resp, err)
	})
	mux.HandleFunc("POST /v1/check", func(w http.ResponseWriter, r *http.Request) {
		var req CheckRequest
		if err := decode(w, r, &req); err != nil {
			fail(w, err)
			return
		}
		resp, err := svc.CheckStore(r.Context(), req)
		reply(w, resp, err)
	})
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) {
		resp, err := svc.Status(r.Context())
		reply(w, resp, err)
	})
	mux.HandleFunc("GET /v1/timeline", func(w http.ResponseWriter, r *http.Request) {
		image, last := r.URL.Query().Get("image"), time.Duration(0)
		err := checkImage(image)
		if text := r.URL.Query().Get("last"); err == nil && text != "" {
			if last, err = time.ParseDuration(text); err != nil {
				err = Errorf(Invalid, "last: %w", err)
			}
		}
		if err != nil {
			fail(w, err)
			return
		}
		resp, err := svc.Timeline(r.Context(), image, last)
		reply(w, resp, err)
	})
	mux.HandleFunc("GET /v1/recordings", func(w http.ResponseWriter, r *http.Request) {
		image := r.URL.Query().Get("image")
		if err := checkImage(image); err != nil {
			fail(w, err)
			return
		}
		resp, err := svc.Recordings(r.Context(), image)
		reply(w, resp, err)
	})
	mux.HandleFunc("GET /v1/healthz", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, struct{}{}, nil)
	})
	return mux
}

// Serve answers requests at l with h until ctx ends, then lets those under way finish for a moment and returns nil. It closes l. At a unix socket only root and the user that
// this process runs as are answered.
func Serve(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	l = Trusted(l, log)
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second, // of a request; answering it may take as long as its client waits
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve requests at %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
	defer cancel()
	if err := server.Shutdown(last); err != nil {
		err = server.Close() // hangs up, which ends the requests' contexts
		if err != nil {
			log.Warn("close connections", "address", l.Addr(), "err", err)
		}
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve requests at %s: %w", l.Addr(), err)
	}
	return nil
}

func checkMount(req MountRequest) error {
	return errors.Join(checkRef(req.Ref), checkTarget(req.Target))
}

func checkRef(ref string) error {
	if ref == "" {
		return Errorf(Invalid, "the request names no image (ref)")
	}
	return nil
}

// checkImage refuses what is no ID of an image: names of files are made of it.
func checkImage(id string) error {
	if sum, err := hex.DecodeString(id); err != nil || len(sum) != sha256.Size {
		return Errorf(Invalid, "image %q is not the SHA-256 of a metadata image in 64 hex digits", id)
	}
	return nil
}

func checkTarget(target string) error {
	if !filepath.IsAbs(target) {
		return Errorf(Invalid, "target %q is not an absolute path", target)
	}
	return nil
}

func decode(w http.ResponseWriter, r *http.Request, into any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("something follows the JSON object")
		}
	}
	if err != nil {
		return Errorf(Invalid, "read request %s %s: %w", r.Method, r.URL.Path, err)
	}
	return nil
}

func reply(w http.ResponseWriter, body any, err error) {
	if err != nil {
		fail(w, err)
		return
	}
	write(w, http.StatusOK, body)
}

func fail(w http.ResponseWriter, err error) {
	class := ClassOf(err)
	write(w, class.httpStatus(), wireError{Class: class, Message: err.Error()})
}

func write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client may have hung up
}
