package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
)

const lsDescription = `Lists files of REF, by default those in its root directory, sorted by name. Names that begin with a dot are always shown.
Names with bytes that a terminal should not get are quoted as in Go and C. Times are in UTC. PATH may lead through symbolic links, which are followed inside the image.

` + lookRefs

func lsCommand() *cli.Command {
	return &cli.Command{
		Name:        "ls",
		Usage:       "list files of an artifact",
		ArgsUsage:   "REF [PATH...]",
		Description: lsDescription,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "l", Usage: "show mode, links, owner, size or device number, time, and where links lead"},
			&cli.BoolFlag{Name: "a", Usage: "show . and .. too"},
			&cli.BoolFlag{Name: "d", Usage: "list directories themselves, not what is in them"},
			&cli.BoolFlag{Name: "n", Usage: "like -l, with owners as numbers instead of the names in the image's /etc/passwd and /etc/group"},
			&cli.BoolFlag{Name: "R", Usage: "list directories below directories"},
			platformFlag(),
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			if c.NArg() == 0 {
				return misuse(c, "want REF and paths in it")
			}
			return look(c, func(l *looker) error {
				p, err := l.open(c.Context, c.Args().First())
				if err != nil {
					return err
				}
				return newLister(c, p.tree).list(c.Args().Tail())
			})
		},
	}
}

// lister is one call of the command.
type lister struct {
	c     *cli.Context
	w     io.Writer
	tree  *erofs.FS
	names *owners // nil: numbers
	long  bool
	json  *jsonList // nil: lines
	said  bool      // something was printed
	bad   bool      // something could not be listed
}

func newLister(c *cli.Context, tree *erofs.FS) *lister {
	l := &lister{c: c, w: c.App.Writer, tree: tree, long: c.Bool("l") || c.Bool("n")}
	if c.Bool("json") {
		l.json = &jsonList{w: c.App.Writer}
	} else if l.long && !c.Bool("n") {
		l.names = newOwners(tree)
	}
	return l
}

// listed is a line to be.
type listed struct {
	name   string // as it is shown
	h      erofs.Handle
	st     erofs.Stat
	target string // symbolic links
	acl    bool
}

// fail says what cannot be listed, and goes on.
func (l *lister) fail(err error) {
	l.bad = true
	fmt.Fprintf(l.c.App.ErrWriter, "pagein ls: %v\n", err)
}

func (l *lister) list(paths []string) error {
	if len(paths) == 0 {
		paths = []string{"/"}
	}
	if err := errors.Join(l.all(paths), l.json.end()); err != nil {
		return err
	}
	if l.bad {
		return cli.Exit("ls: not everything could be listed", exitFailure)
	}
	return nil
}

// all lists first the files among paths, then what is in the directories.
func (l *lister) all(paths []string) error {
	var files []listed
	var dirs []string
	for _, path := range paths {
		follow := !l.long && !l.c.Bool("d") // as ls(1) does
		h, err := l.tree.Find(path, follow)
		if err != nil && follow {
			h, err = l.tree.Find(path, false) // a link that leads nowhere
		}
		if err != nil {
			l.fail(err)
			continue
		}
		if h.Stat().Mode&unix.S_IFMT == unix.S_IFDIR && !l.c.Bool("d") {
			dirs = append(dirs, path)
			continue
		}
		files = l.add(files, path, h)
	}
	if err := l.print(files); err != nil {
		return err
	}
	for _, path := range dirs {
		if err := l.dir(path, len(paths) > 1 || l.c.Bool("R")); err != nil {
			return err
		}
	}
	return nil
}

// dir lists a directory, with a title if there is more than one, and if it is asked for, those in it.
func (l *lister) dir(path string, titled bool) error {
	h, err := l.tree.Find(path, true)
	if err != nil {
		l.fail(err)
		return nil
	}
	visitor := erofs.Visitor{Enter: func(below string, _ int, _ erofs.Entry, h erofs.Handle, err error) error {
		if err != nil {
			l.fail(fmt.Errorf("%s: %w", quoteName(joinPath(path, below)), err))
			return nil
		}
		if h.Stat().Mode&unix.S_IFMT != unix.S_IFDIR {
			return nil
		}
		if err := l.one(joinPath(path, below), h, titled); err != nil || !l.c.Bool("R") {
			return cmp.Or(err, fs.SkipDir)
		}
		return nil
	}}
	if err := erofs.Visit(h, visitor); err != nil {
		return fmt.Errorf("list %s: %w", quoteName(path), err)
	}
	return nil
}

// one lists what is in one directory.
func (l *lister) one(path string, h erofs.Handle, titled bool) error {
	entries, err := h.Entries()
	if err != nil {
		l.fail(fmt.Errorf("%s: %w", quoteName(path), err))
		return nil
	}
	if titled && l.json == nil {
		if l.said {
			fmt.Fprintln(l.w)
		}
		fmt.Fprintf(l.w, "%s:\n", quoteName(path))
		l.said = true
	}
	var files []listed
	if l.c.Bool("a") {
		files = l.add(files, l.shown(path, "."), h)
		if up, err := l.tree.Find(path+"/..", true); err != nil {
			l.fail(err)
		} else {
			files = l.add(files, l.shown(path, ".."), up)
		}
	}
	for _, e := range entries {
		child, err := e.Handle()
		if err != nil {
			l.fail(fmt.Errorf("%s: %w", quoteName(joinPath(path, e.Name)), err))
			continue
		}
		files = l.add(files, l.shown(path, e.Name), child)
	}
	return l.print(files)
}

// shown is the name of an entry: in JSON, all of its path.
func (l *lister) shown(dir, name string) string {
	if l.json != nil {
		return joinPath(dir, name)
	}
	return name
}

func (l *lister) add(files []listed, name string, h erofs.Handle) []listed {
	f := listed{name: name, h: h, st: h.Stat()}
	if f.st.Mode&unix.S_IFMT == unix.S_IFLNK {
		target, err := h.Target()
		if err != nil {
			l.fail(fmt.Errorf("%s: %w", quoteName(name), err))
		}
		f.target = target
	}
	if l.long && l.json == nil {
		xattrs, err := h.Xattrs()
		if err != nil {
			l.fail(fmt.Errorf("%s: %w", quoteName(name), err))
		}
		f.acl = slices.ContainsFunc(xattrs, func(x erofs.Xattr) bool { return strings.HasPrefix(x.Name, "system.posix_acl_") })
	}
	return append(files, f)
}

// joinPath joins a path of the user and what is below it.
func joinPath(dir, below string) string {
	if below == "." && dir != "" {
		return dir
	}
	return strings.TrimSuffix(dir, "/") + "/" + below
}

func timestamp(st erofs.Stat) time.Time { return time.Unix(st.Mtime, int64(st.MtimeNsec)).UTC() }
