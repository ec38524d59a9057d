package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/pagein/pagein/internal/tomledit"
	"github.com/pagein/pagein/snapshotter/setup"
)

const installDescription = `Shows the lines that containerd's configuration lacks to use pageind as a snapshotter, and pageind's to serve it. With --apply they are written: into a file pagein.toml beside what
containerd imports, or marked into its configuration, in which all else stays byte for byte as it is. containerd has read the result before anything is written: if it would understand
anything else differently, or would not accept it, nothing is. "pagein uninstall containerd" takes the lines out again.

With --cri, containers of Kubernetes use the snapshotter, too, and pageind serves the image service to kubelet. --check pulls a small image of its own through containerd, and reads a file of it.`

// theContainerd is what can be installed for.
const theContainerd = "containerd"

func installCommand() *cli.Command {
	return &cli.Command{
		Name:         "install",
		Usage:        "show or write what containerd's configuration lacks",
		ArgsUsage:    theContainerd,
		Description:  installDescription,
		BashComplete: completeInstall,
		Flags: append(setupFlags(),
			&cli.BoolFlag{Name: "cri", Usage: "make it the snapshotter of Kubernetes' containers"},
			&cli.BoolFlag{Name: "apply", Usage: "write it"},
			&cli.BoolFlag{Name: "restart", Usage: "have systemd restart pageind and containerd; containers go on"},
			&cli.BoolFlag{Name: "check", Usage: "pull a small image and read of it"},
			&cli.StringFlag{Name: "check-image", Usage: "pull `REF`, which has an artifact, instead"},
		),
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 || c.Args().First() != theContainerd {
				return misuse(c, "want %q; got %q", theContainerd, c.Args().Slice())
			}
			check := wantsCheck(c)
			if check && c.Bool("apply") && !c.Bool("restart") {
				return misuse(c, "what is written can be checked once both were restarted: give --restart, too, or restart them and check without --apply")
			}
			containerd, _, err := findContainerd(c)
			if onlyChecks(c) && knowsWhereToAsk(c, err) && knowsUs(c) == nil {
				return checkPull(c)
			}
			if err != nil {
				return err
			}
			changed, err := install(c, containerd)
			if err != nil {
				return err
			}
			if c.Bool("restart") && (changed || !c.Bool("apply")) {
				err := restart(c)
				if err != nil && check {
					return fmt.Errorf("%w; nothing was checked: then do \"pagein install containerd --check\"", err)
				}
				if err != nil {
					return err
				}
			}
			if check {
				return checkPull(c)
			}
			return nil
		},
	}
}

// completeInstall is for a shell: options after a dash, else what can be installed for.
func completeInstall(c *cli.Context) {
	cli.DefaultCompleteWithFlags(c.Command)(c)
	words := c.Args().Slice()
	if n := len(words); (n == 0 || !strings.HasPrefix(words[n-1], "-")) && !slices.Contains(words, theContainerd) {
		fmt.Fprintln(c.App.Writer, theContainerd)
	}
}

// install plans the changes, and shows or applies them. It reports whether there were any.
func install(c *cli.Context, containerd setup.Containerd) (changed bool, err error) {
	if filepath.Dir(containerd.Config) != filepath.Dir(defaultContainerdConfig) { // there containerd would read a new one
		if err := checkNamed(c, containerd.Config); err != nil {
			return false, err
		}
	}
	service := ""
	if c.Bool("cri") {
		service = c.String(containerdFlag)
	}
	pageind, own, err := setup.PlanPageind(c.Path("config"), service)
	if err != nil {
		return false, err
	}
	needs := setup.Needs{Name: c.String("snapshotter"), Address: pageind.Address, Root: pageind.Root, CRI: c.Bool("cri")}
	theirs, err := containerd.Plan(c.Context, needs)
	if err != nil {
		return false, fmt.Errorf("prepare containerd's configuration: %w", err)
	}
	if changed, err = change(c, append([]*setup.Change{own}, theirs...)...); err == nil && c.Bool("cri") {
		_, err = fmt.Fprintf(c.App.Writer, "For pull secrets, and to measure images, start kubelet with --image-service-endpoint=unix://%s\n", pageind.Address)
	}
	return changed, err
}

// change shows or applies changes of files: all, or none.
func change(c *cli.Context, changes ...*setup.Change) (changed bool, err error) {
	for i, file := range changes {
		if file.None() || !c.Bool("apply") {
			continue
		}
		if err := file.Apply(); err != nil {
			return false, errors.Join(fmt.Errorf("change %s: %w", file.Path, err), revert(changes[:i]))
		}
	}
	for _, file := range changes {
		changed = changed || !file.None()
		if err := show(c, file); err != nil {
			return changed, err
		}
	}
	if changed && !c.Bool("apply") {
		_, err = fmt.Fprintln(c.App.Writer, "Nothing is written: --apply does it.")
	} else if changed && !c.Bool("restart") {
		_, err = fmt.Fprintln(c.App.Writer, "It counts once both were restarted: "+howToRestart(systemdRuns()))
	}
	return changed, err
}

// revert takes back what was applied.
func revert(changes []*setup.Change) (err error) {
	for _, file := range changes {
		if !file.None() {
			err = errors.Join(err, file.Revert())
		}
	}
	return err
}

// show prints the marked lines of a file: those that go, and those that come.
func show(c *cli.Context, file *setup.Change) error {
	if file.None() {
		_, err := fmt.Fprintf(c.App.Writer, "%s: nothing to do\n", file.Path)
		return err
	}
	text := listing(file.Path+", without these lines", tomledit.Marked(file.Old)) + listing(file.Path+", with these lines", tomledit.Marked(file.New))
	if setup.LeavesKubelet(file) {
		text += "Have kubelet ask containerd again before pageind is restarted: nobody listens any more where its --image-service-endpoint leads.\n"
	}
	_, err := io.WriteString(c.App.Writer, text)
	return err
}

// listing is lines below a heading, if there are any.
func listing(heading string, lines []tomledit.Line) string {
	if len(lines) == 0 {
		return ""
	}
	text := heading + ":\n"
	for _, l := range lines {
		text += fmt.Sprintf("%5d  %s\n", l.Number, l.Text)
	}
	return text
}
