package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// programName is a started keeper's argv[0].
const programName = "pagein-keeper"

// What a starting keeper writes to its ready descriptor; anything else is an error's text.
const (
	readyWord = "ready"
	takenWord = "taken"
)

// spawn starts opt.Binary as a keeper in a session of its own, so that no terminal's or process group's signal meant for the daemon reaches
// it, and returns when it is ready or has failed.
func spawn(ctx context.Context, opt Options) error {
	logFile := os.DevNull
	if opt.Log != "" {
		logFile = opt.Log
	}
	out, err := os.OpenFile(logFile, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("start keeper %s: %w", opt.Binary, err)
	}
	defer out.Close()
	ready, readyW, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start keeper %s: %w", opt.Binary, err)
	}
	defer ready.Close()
	cmd := exec.Command(opt.Binary, "--socket", opt.Socket, "--ready-fd", "3")
	cmd.Args[0] = programName
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Dir = "/" // it must not pin a mount by standing in it
	cmd.Stdout, cmd.Stderr = out, out
	cmd.ExtraFiles = []*os.File{readyW}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	readyW.Close()
	if err != nil {
		return fmt.Errorf("start keeper %s: %w", opt.Binary, err)
	}
	// The keeper outlives this process as a rule; should it end first, it is reaped.
	go func() { _ = cmd.Wait() }()

	word := make(chan string, 1)
	go func() {
		text, _ := io.ReadAll(io.LimitReader(ready, 4096)) // ends with the keeper's closing the descriptor, or with ready's
		word <- strings.TrimSpace(string(text))
	}()
	select {
	case <-ctx.Done():
		return fmt.Errorf("start keeper %s: %w", opt.Binary, ctx.Err())
	case said := <-word:
		switch said {
		case readyWord:
			return nil
		case takenWord:
			return ErrTaken
		case "":
			return fmt.Errorf("start keeper %s: it ended without a word", opt.Binary)
		default:
			return fmt.Errorf("start keeper %s: %w", opt.Binary, errors.New(said))
		}
	}
}
