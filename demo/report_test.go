package main

import (
	"strings"
	"testing"
)

func TestMedianIsTakenOfEveryField(t *testing.T) {
	got := median([]timing{
		{Provided: 1, Ready: 30, Output: 200, ReadyBytes: 7, OutputBytes: 9},
		{Provided: 2, Ready: 10, Output: 300, ReadyBytes: 8, OutputBytes: 7},
		{Provided: 3, Ready: 20, Output: 100, ReadyBytes: 9, OutputBytes: 8},
	})
	if want := (timing{Provided: 2, Ready: 20, Output: 200, ReadyBytes: 8, OutputBytes: 8}); got != want {
		t.Errorf("median %+v, want %+v", got, want)
	}
}

func TestTableShowsBothWaysAndTheirRatio(t *testing.T) {
	var out strings.Builder
	err := report{
		Transport: "fanotify", Kernel: "6.18", Runs: 1, Image: imageReport{Layers: 2, CompressedBytes: 67e6}, Link: linkReport{RateMbit: 200, RTTms: 10},
		Lazy:     timing{Ready: 0.5, Output: 6, ReadyBytes: 8e6, OutputBytes: 30e6},
		FullPull: timing{Ready: 2, Output: 8, ReadyBytes: 67e6, OutputBytes: 67e6},
	}.print(&out)
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{
		"pagein pull and unpack ratio", "Transport: fanotify, kernel 6.18", "bytes in image 67.0 MB 67.0 MB 1.00", "fetched until ready 8.0 MB 67.0 MB 0.12",
		"time to ready: go version 0.50 s 2.00 s 0.25", "compiled program's output 6.00 s 8.00 s 0.75", "200 Mbit/s each way, 10 ms round trip",
	} {
		if !strings.Contains(fields, want) {
			t.Errorf("the table lacks %q:\n%s", want, out.String())
		}
	}
}
