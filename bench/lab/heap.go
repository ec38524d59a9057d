package lab

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
)

// Heap is how many bytes the daemon has allocated and still uses. The daemon must have been started with --pprof.
func (n *Node) Heap(ctx context.Context) (int64, error) {
	// Asking for a profile after a collection makes one.
	if _, err := n.get(ctx, "/debug/pprof/heap?gc=1"); err != nil {
		return 0, err
	}
	metrics, err := n.get(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	for s := bufio.NewScanner(strings.NewReader(metrics)); s.Scan(); {
		if value, ok := strings.CutPrefix(s.Text(), "go_memstats_heap_alloc_bytes "); ok {
			bytes, err := strconv.ParseFloat(value, 64)
			return int64(bytes), err
		}
	}
	return 0, fmt.Errorf("pageind's metrics do not tell its heap")
}

// get asks the daemon's socket for a page.
func (n *Node) get(ctx context.Context, path string) (string, error) {
	t := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", strings.TrimPrefix(n.address, "unix://"))
	}}
	defer t.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://pageind"+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := (&http.Client{Transport: t}).Do(req)
	if err != nil {
		return "", fmt.Errorf("ask pageind for %s: %w", path, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("ask pageind for %s: %s", path, resp.Status)
	}
	return string(body), err
}
