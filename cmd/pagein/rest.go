package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/pagein/pagein/snapshotter/setup"
)

// printRest is for who wants to be rid of all.
func printRest(w io.Writer, pageind setup.Pageind, own *setup.Change) error {
	dirs := pageind.Store
	if !strings.HasPrefix(pageind.Root, pageind.Store+"/") {
		dirs += " " + pageind.Root
	}
	text := fmt.Sprintf("What stays: pageind, which still serves \"pagein mount\", what it has fetched, in %s, its sockets and the keeper's log, in %s", dirs, pageind.Run)
	rid := "rm -r " + dirs + " " + pageind.Run
	dir := filepath.Dir(own.Path)
	if left, err := os.ReadDir(dir); own.New != nil { // it is there when ours is out of it
		text += fmt.Sprintf("; other settings, such as [trust], in %s", own.Path)
		rid += " " + own.Path
	} else if err == nil && len(left) == 0 && dir == filepath.Dir(defaultConfig) { // another one is not pagein's
		text += fmt.Sprintf("; the empty directory %s", dir)
		rid += "; rmdir " + dir
	}
	text += fmt.Sprintf(".\nTo be rid of that, too, once \"pagein status\" shows no images: %s; %s\n", howToEnd(systemdRuns()), rid)
	_, err := io.WriteString(w, text)
	return err
}

// howToEnd says how pageind and its keeper are ended for good, and the programs removed. systemd does not stop the keeper, and starts another if it ends, for as long as it has the unit.
func howToEnd(systemd bool) string {
	const programs = "; make uninstall (where \"make install\" was done)"
	if systemd {
		return "systemctl disable --now pageind.service pagein-check.timer" + programs + "; systemctl daemon-reload; systemctl stop pagein-keeper.service"
	}
	return endByHand + ", whose keeper ends by itself when nothing is mounted (with --stay, at SIGTERM)" + programs
}
