package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestWatchedReadersNoticeWrongBytes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	data := bytes.Repeat([]byte("right"), 8192)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := startWatched(path, data, 2)
	if err != nil {
		t.Fatal(err)
	}
	w.expect()
	all := func() bool { _, all := w.answered(); return all }
	if err := w.await(t.Context(), time.Minute, all); err != nil {
		t.Errorf("readers of right bytes: %v", err)
	}
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt(make([]byte, len(data)), 0); err != nil {
		t.Fatal(err)
	}
	if err := w.await(t.Context(), time.Minute, func() bool { return false }); err == nil || !strings.Contains(err.Error(), "wrong bytes") {
		t.Errorf("readers of zeros: %v, want wrong bytes", err)
	}
	if n, err := w.stop(); n == 0 || err == nil {
		t.Errorf("stop: %d reads, error %v", n, err)
	}
}

func TestPercentileIsOneOfTheValues(t *testing.T) {
	var values []float64
	for i := range 100 {
		values = append(values, float64(100-i))
	}
	for p, want := range map[int]float64{1: 1, 50: 50, 99: 99, 100: 100} {
		if got := percentile(values, p); got != want {
			t.Errorf("p%d of 1 to 100: %v, want %v", p, got, want)
		}
	}
	if got := percentile([]float64{7}, 99); got != 7 {
		t.Errorf("p99 of one value: %v", got)
	}
}
