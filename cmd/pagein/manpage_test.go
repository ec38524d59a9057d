package main

import (
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/pagein/pagein/internal/manpagetest"
)

func TestTheManPageIsWhatHelpSays(t *testing.T) {
	const dir = "../../docs/man"
	for _, name := range []string{"PAGEIN_ADDRESS", "PAGEIN_CONFIG"} {
		t.Setenv(name, "x") // else help would not speak of those that are set to nothing
	}
	pages, err := filepath.Glob(dir + "/*.[18]")
	if err != nil {
		t.Fatal(err)
	}
	page := manpagetest.Page{File: dir + "/pagein.1", Section: 1, Also: make(map[string]int), Own: make(map[string]string)}
	for _, p := range pages {
		name := strings.TrimSuffix(filepath.Base(p), filepath.Ext(p))
		if name == "pagein" {
			continue
		}
		if page.Also[name], err = strconv.Atoi(filepath.Ext(p)[1:]); err != nil {
			t.Fatal(err)
		}
		if command, ok := strings.CutPrefix(name, "pagein-"); ok {
			page.Own[command] = name
		}
	}
	manpagetest.Check(t, newApp(io.Discard, io.Discard), page)
}
