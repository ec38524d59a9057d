package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Marks is how many files the kernel asks the daemon about before anybody reads them: its fanotify marks, as the kernel itself lists them.
func (n *Node) Marks() (int, error) {
	infos, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", n.daemon.cmd.Process.Pid))
	if err != nil || len(infos) == 0 {
		return 0, fmt.Errorf("look for pageind's marks: no descriptors: %w", errors.Join(err, fs.ErrNotExist))
	}
	marks := 0
	for _, path := range infos {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) { // closed meanwhile
			continue
		}
		if err != nil {
			return 0, err
		}
		marks += strings.Count(string(text), "\nfanotify ino:")
	}
	return marks, nil
}
