package main

import (
	"os"
	"testing"

	"github.com/pagein/pagein/internal/manpagetest"
	"github.com/pagein/pagein/internal/require"
)

func TestTheManPageIsWhatHelpSays(t *testing.T) {
	if os.Getenv(require.GuestEnv) != "" {
		t.Skip("there are no sources in guests")
	}
	for _, name := range []string{"PAGEIN_ADDRESS", "PAGEIN_CONFIG"} {
		t.Setenv(name, "x") // else help would not speak of those that are set to nothing
	}
	manpagetest.Check(t, newApp(), manpagetest.Page{File: "../../docs/man/pageind.8", Section: 8, Also: map[string]int{"pagein": 1, "pagein-install": 8}})
}
