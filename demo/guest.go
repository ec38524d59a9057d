package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pagein/pagein/bench/lab"
	"github.com/pagein/pagein/vmtests"
)

const (
	guestSeries  = "6.12" // Debian's newest kernel that there is a guest of
	guestTimeout = 20 * time.Minute
	// publishedFile lies in a directory of published images and describes them.
	publishedFile = "published.json"
)

// published is what a stage hands to another: the registry's files lie beside it.
type published struct {
	Image   imageReport   `json:"image"`
	Convert convertReport `json:"convert"`
}

// obstacle says why this machine cannot mount lazily, or "" if it can.
func obstacle(ctx context.Context) (reason string, err error) {
	if os.Geteuid() != 0 {
		return "mounting needs root", nil
	}
	dir, err := os.MkdirTemp("", "pagein-demo-")
	if err != nil {
		return "", fmt.Errorf("make a temporary directory: %w", err)
	}
	defer os.RemoveAll(dir)
	node, err := lab.StartNode(ctx, dir)
	if err != nil {
		return "", err
	}
	status, err := node.Status(ctx)
	if err = errors.Join(err, node.Stop()); err != nil {
		return "", err
	}
	var reasons []string
	for _, t := range status.Transports {
		if t.Name == "file" {
			continue // nothing is lazy about it
		}
		if t.Available {
			return "", nil
		}
		reasons = append(reasons, t.Name+": "+t.Reason)
	}
	return "this kernel offers no lazy transport (" + strings.Join(reasons, "; ") + ")", nil
}

// inGuest prepares the images here and measures in a virtual machine.
func inGuest(ctx context.Context, o options) (result report, err error) {
	s, err := newStage(ctx, o)
	if err != nil {
		return report{}, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	var p published
	if p.Image, err = s.publish(ctx); err != nil {
		return report{}, err
	}
	if p.Convert, err = s.convert(ctx); err != nil {
		return report{}, err
	}
	disk, err := s.guestDisk(p)
	if err != nil {
		return report{}, fmt.Errorf("make the guest's disk: %w", err)
	}
	note := func(line string) { s.progress("%s", line) }
	kernel, err := vmtests.Prepare(ctx, guestSeries, note)
	if err != nil {
		return report{}, err
	}
	s.progress("measuring on Linux %s in a virtual machine: all of it is slower there, compare the ratios only", kernel.Release)
	script := fmt.Sprintf("demo -published /disk/stage -json -runs %d -rate %g -rtt %v >/disk/result.json", o.runs, o.rate, o.rtt)
	var log, answer bytes.Buffer
	r, err := kernel.Run(ctx, vmtests.Job{
		Commands: []vmtests.Command{
			{
				Args: []string{"/bin/sh", "-c", script}, Dir: "/disk", Output: io.MultiWriter(&log, os.Stderr),
				Env: []string{"PATH=/disk/bin:/bin:/sbin:/usr/bin:/usr/sbin", "TMPDIR=/disk/tmp"},
			},
			{Args: []string{"/bin/cat", "/disk/result.json"}, Output: &answer},
		},
		DiskDir: disk, DiskMiB: 4096, MemMiB: 2048, Timeout: guestTimeout, Log: note,
	})
	if err != nil {
		return report{}, fmt.Errorf("run the demo in a guest: %w", err)
	}
	if r.Exit[0].Code != 0 {
		return report{}, fmt.Errorf("the demo failed in the guest: status %d %s\n%s", r.Exit[0].Code, r.Exit[0].Problem, strings.TrimSpace(log.String()))
	}
	if err := json.Unmarshal(answer.Bytes(), &result); err != nil {
		return report{}, fmt.Errorf("read the guest's result: %w", err)
	}
	result.Guest = r.Accelerator
	return result, nil
}

// guestDisk lays out the directory that becomes /disk in the guest: the programs and the registry's files. The registry must be idle; it ends.
func (s *stage) guestDisk(p published) (string, error) {
	if err := s.service.Stop(); err != nil {
		return "", err
	}
	disk := filepath.Join(s.dir, "disk")
	stage, bin := filepath.Join(disk, "stage"), filepath.Join(disk, "bin")
	description, err := json.Marshal(p)
	if err != nil {
		return "", err
	}
	if err := errors.Join(
		os.MkdirAll(stage, 0o755), os.MkdirAll(bin, 0o755), os.MkdirAll(filepath.Join(disk, "tmp"), 0o777),
		os.Rename(filepath.Join(s.dir, lab.RegistryFiles), filepath.Join(stage, lab.RegistryFiles)),
		os.WriteFile(filepath.Join(stage, publishedFile), description, 0o644),
	); err != nil {
		return "", err
	}
	programs := []string{s.programs.registry, s.programs.crane}
	for _, name := range []string{"pagein", "pageind", "pagein-keeper", "demo"} {
		path, err := lab.Ours(name)
		if err != nil {
			return "", err
		}
		programs = append(programs, path)
	}
	for _, path := range programs {
		data, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(bin, filepath.Base(path)), data, 0o755); err != nil {
			return "", err
		}
	}
	return disk, nil
}

// readPublished reads what another stage has left in a directory.
func readPublished(dir string) (p published, err error) {
	data, err := os.ReadFile(filepath.Join(dir, publishedFile))
	if err != nil {
		return p, err
	}
	if err := json.Unmarshal(data, &p); err != nil {
		return p, fmt.Errorf("read %s of %s: %w", publishedFile, dir, err)
	}
	return p, nil
}
