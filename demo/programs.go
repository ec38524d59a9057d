package main

import (
	"fmt"
	"os/exec"

	"github.com/pagein/pagein/bench/lab"
)

// programs are the executables that the demo runs.
type programs struct {
	pagein               string // ours
	registry, crane, tar string // not ours
}

// findPrograms takes ours from the directory of this executable and the others from PATH.
func findPrograms() (p programs, err error) {
	if p.pagein, err = lab.Ours("pagein"); err != nil {
		return programs{}, err
	}
	for name, path := range map[string]*string{"registry": &p.registry, "crane": &p.crane, "tar": &p.tar} {
		if *path, err = exec.LookPath(name); err != nil {
			return programs{}, fmt.Errorf("find program %s: %w; run hack/deps.sh demo", name, err)
		}
	}
	return p, nil
}
