package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/kmount"
	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/node/storecheck"
	"github.com/pagein/pagein/ondemand/store"
)

// defaultRoot is where pageind keeps its store.
const defaultRoot = "/var/lib/pagein"

// checkStoreCommand verifies a node's store: through its daemon if that runs, else by itself.
func checkStoreCommand(c *cli.Context) error {
	for _, flag := range []string{"against", "ignore", "platform"} {
		if c.IsSet(flag) {
			return misuse(c, "--%s is not for --store", flag)
		}
	}
	if c.NArg() > 1 {
		return misuse(c, "want one directory at most; got %q", c.Args().Slice())
	}
	resp, err := checkStore(c, c.Args().First(), control.CheckRequest{Repair: c.Bool("repair")})
	if err != nil {
		return err
	}
	if c.Bool("json") {
		err = printJSON(c, resp)
	} else {
		printStoreCheck(c, resp)
	}
	if err == nil && !resp.OK {
		err = fmt.Errorf("check store %s: %s", resp.Root, count(resp.Problems, "problem"))
	}
	return err
}

// checkStore finds out who has the store, which is that of the daemon if root is empty.
func checkStore(c *cli.Context, root string, req control.CheckRequest) (control.CheckResponse, error) {
	client, err := daemon(c)
	if err != nil {
		return control.CheckResponse{}, err
	}
	defer client.Close()
	status, err := client.Status(c.Context)
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ECONNREFUSED) { // else there is no daemon
		return control.CheckResponse{}, err
	}
	if err == nil && (root == "" || sameDir(root, status.Root)) {
		return client.CheckStore(c.Context, req)
	}
	if root == "" {
		root = defaultRoot
	}
	return checkAtRest(c.Context, root, req)
}

func sameDir(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// checkAtRest checks a store that no daemon has.
func checkAtRest(ctx context.Context, root string, req control.CheckRequest) (resp control.CheckResponse, err error) {
	if _, err := os.Stat(filepath.Join(root, "version")); errors.Is(err, fs.ErrNotExist) {
		return resp, fmt.Errorf("check store %s: it is none", root)
	}
	s, err := store.Open(root)
	if errors.Is(err, store.ErrOwned) {
		return resp, fmt.Errorf("check store %s: a pageind has it that does not answer here: say where with --address", root)
	}
	if err != nil {
		return resp, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	mounts, err := kmount.List()
	if err != nil {
		return resp, fmt.Errorf("check store %s: %w", root, err)
	}
	for _, m := range mounts {
		// Reads of what is marked would wait for a daemon, as its readers do. The source is a metadata image, by the path that its daemon knows.
		if m.Type == "erofs" && sameDir(filepath.Dir(filepath.Dir(m.Source)), root) {
			return resp, fmt.Errorf("check store %s: an image of it is mounted at %s: start pageind, which then does the check", root, m.Target)
		}
	}
	return storecheck.Run(ctx, s, req, nil)
}

// printStoreCheck says what is wrong, or what is not.
func printStoreCheck(c *cli.Context, r control.CheckResponse) {
	out := c.App.Writer
	for _, p := range r.ProblemList {
		state := "bad"
		if p.Repaired {
			state = "repaired"
		}
		fmt.Fprintf(out, "%s: %s %s: %s\n", state, p.Part, p.Where, p.What)
		if len(p.Images) > 0 {
			fmt.Fprintf(out, "  used by %s\n", strings.Join(p.Images, ", "))
		}
		if p.Note != "" {
			fmt.Fprintf(out, "  %s\n", p.Note)
		}
	}
	if c.Bool("quiet") {
		return
	}
	fmt.Fprintf(out, "%s: %s, %s, %s with %s of %s present\n", r.Root, count(int64(r.Metas), "meta"), count(int64(r.Maps), "map"), count(int64(r.Blobs), "blob"),
		count(int64(r.Frames), "frame"), size(r.FrameBytes))
	if r.UnknownBlobs > 0 {
		fmt.Fprintf(out, "%s not verified: the map is not there, and is fetched at the next mount\n", count(int64(r.UnknownBlobs), "blob"))
	}
	switch {
	case r.Problems == 0:
		fmt.Fprintln(out, "nothing is wrong")
	case r.OK:
		fmt.Fprintf(out, "%s repaired\n", count(r.Problems, "problem"))
	case !c.Bool("repair"):
		fmt.Fprintln(out, "--repair removes what is bad; it is fetched again")
	}
}
