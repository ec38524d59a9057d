package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestVerdictFollowsTheTarget(t *testing.T) {
	var out strings.Builder
	err := write(&out, []result{
		atMost("quick", 0.5, 1, "", "a / b"), atMost("slow", 1.5, 1, "", "a / b"),
		atLeast("much", 0.95, 0.95, "", "a / b"), atLeast("little", 0.9, 0.95, "MiB", "a / b"),
		{Name: "reported", Value: 7, Unit: "µs", Detail: "as it is"}, {Name: "peer", Skipped: "containerd"},
	}, false)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	want := []string{"quick 0.5 ≤ 1 met a / b", "slow 1.5 ≤ 1 MISSED a / b", "much 0.95 ≥ 0.95 met a / b", "little 0.9 MiB ≥ 0.95 MiB MISSED a / b", "reported 7 µs as it is", "peer skipped needs containerd"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("table\n%v\nwant\n%v", got, want)
	}
}

func TestGroupSaysWhatItLacks(t *testing.T) {
	if got := (group{needs: []string{"sh", "no-such-program", "nor-this"}}).missing(); got != "no-such-program, nor-this" {
		t.Errorf("missing: %q", got)
	}
}

func TestMedianIgnoresOutliers(t *testing.T) {
	if got := median([]float64{3, 1000, 1, 2, 4}); got != 3 {
		t.Errorf("median %v, want 3", got)
	}
}

func TestReadAllReadsEveryRegularFileOnce(t *testing.T) {
	dir := t.TempDir()
	var want int64
	for i := range 50 {
		path := filepath.Join(dir, fmt.Sprint(i%7), fmt.Sprint(i))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, make([]byte, i*1000), 0o644)); err != nil {
			t.Fatal(err)
		}
		want += int64(i * 1000)
	}
	if err := os.Symlink("0/0", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, readers := range []int{1, 4} {
		if got, err := readAll(t.Context(), dir, readers); err != nil || got != want {
			t.Errorf("%d readers read %d bytes, error %v; want %d", readers, got, err, want)
		}
	}
}

func TestReadAllReportsWhatCannotBeRead(t *testing.T) {
	if _, err := readAll(t.Context(), filepath.Join(t.TempDir(), "absent"), 2); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("readAll of nothing: %v, want %v", err, os.ErrNotExist)
	}
}

func TestSmallFilesAreTheSameEachTime(t *testing.T) {
	var trees [2]string
	for i := range trees {
		dir := t.TempDir()
		if err := makeSmallFiles(t.Context(), dir, 250); err != nil {
			t.Fatal(err)
		}
		var sum strings.Builder
		paths, err := filepath.Glob(filepath.Join(dir, "*", "*", "*"))
		if err != nil || len(paths) != 250 {
			t.Fatalf("%d files, error %v; want 250", len(paths), err)
		}
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&sum, "%s %x\n", strings.TrimPrefix(path, dir), data)
		}
		trees[i] = sum.String()
	}
	if trees[0] != trees[1] {
		t.Error("two trees differ")
	}
}

func TestEveryTenthFileIsChanged(t *testing.T) {
	dir := t.TempDir()
	if err := makeSmallFiles(t.Context(), dir, 200); err != nil {
		t.Fatal(err)
	}
	read := func() map[string]string {
		content := map[string]string{}
		paths, err := filepath.Glob(filepath.Join(dir, "*", "*", "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			content[path] = string(data)
		}
		return content
	}
	before := read()
	changed, total, err := changeEveryTenth(dir)
	if err != nil || changed < total/12 || changed > total/8 {
		t.Errorf("%d of %d bytes, error %v; want a tenth", changed, total, err)
	}
	different := 0
	for path, now := range read() {
		if now != before[path] {
			different++
		}
	}
	if different != 20 {
		t.Errorf("%d of 200 files differ, want 20", different)
	}
}
