package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/pagein/pagein/internal/tomledit"
	"github.com/pagein/pagein/snapshotter/imagestore"
	"github.com/pagein/pagein/snapshotter/setup"
)

const uninstallDescription = `Shows what "pagein install containerd" has put into configurations, and the images and containers that need it. With --apply it is taken out: each file is what it was before.

While images are unpacked for pageind, containerd would not know where to take them from: --complete fetches the layers that are missing of them and unpacks all for another
snapshotter, --remove removes them. Containers that use it, running or not, are yours to remove first.`

// kubernetesNamespace of containerd has what kubelet and crictl asked for.
const kubernetesNamespace = "k8s.io"

func uninstallCommand() *cli.Command {
	return &cli.Command{
		Name:         "uninstall",
		Usage:        "show or take out what was put into containerd's configuration",
		ArgsUsage:    theContainerd,
		Description:  uninstallDescription,
		BashComplete: completeInstall,
		Flags: append(setupFlags(),
			&cli.BoolFlag{Name: "apply", Usage: "take it out"},
			&cli.BoolFlag{Name: "complete", Usage: "fetch and unpack images that need pageind for another snapshotter first"},
			&cli.StringFlag{Name: "to", Value: "overlayfs", Usage: "unpack images for the snapshotter `NAME`"},
			&cli.BoolFlag{Name: "remove", Usage: "remove images that need pageind first"},
			&cli.BoolFlag{Name: "restart", Usage: "have systemd restart pageind and containerd; containers go on"},
		),
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 || c.Args().First() != theContainerd {
				return misuse(c, "want %q; got %q", theContainerd, c.Args().Slice())
			}
			if c.Bool("complete") && c.Bool("remove") {
				return misuse(c, "give one of --complete and --remove")
			}
			return uninstall(c)
		},
	}
}

func uninstall(c *cli.Context) error {
	config, err := filepath.Abs(c.Path("config"))
	if err != nil {
		return err
	}
	containerd, seen, unseen := findContainerd(c)
	if err := checkNamed(c, containerd.Config); err != nil {
		return err
	}
	changes, err := containerd.Installed()
	if err != nil {
		return err
	}
	if unseen != nil && len(changes) == 0 { // what cannot be read may import a file of ours
		return unseen
	}
	own, err := setup.Undo(config)
	if err != nil {
		return err
	}
	if tomledit.Has(own.Old) {
		changes = append(changes, own)
	}
	if len(changes) > 0 || c.Bool("complete") || c.Bool("remove") { // images that need it, lines or no lines
		if unseen != nil { // lines of ours are in it all the same
			fmt.Fprintf(c.App.ErrWriter, "pagein uninstall: note: %v: what needs pageind is asked of the containerd at %s (--containerd names another one)\n", unseen, c.String(containerdFlag))
		} else if err := checkRead(c, containerd, seen); err != nil {
			return err
		}
		if err := letGo(c); err != nil {
			return err
		}
	}
	pageind, _, err := setup.PlanPageind(own.Path, "")
	if err != nil {
		return err
	}
	if len(changes) == 0 {
		_, err := fmt.Fprintf(c.App.Writer, "Nothing is put into %s, what it imports, and %s. If something was taken out, it counts once both were restarted: %s\n", containerd.Config, own.Path, howToRestart(systemdRuns()))
		return errors.Join(err, printRest(c.App.Writer, pageind, own))
	}
	changed, err := change(c, changes...)
	if err != nil || !changed || !c.Bool("apply") {
		return err
	}
	var restarted error
	if c.Bool("restart") {
		restarted = restart(c)
	}
	return errors.Join(printRest(c.App.Writer, pageind, own), restarted)
}

// letGo makes sure that nothing in containerd needs pageind any more, or says what does.
func letGo(c *cli.Context) (err error) {
	r, client, err := openRemote(c)
	if err != nil {
		return err
	}
	defer r.Close()
	defer client.Close()
	progress, rate := newProgressLine(c.App.ErrWriter, false), newMeter()
	defer progress.clear()
	store, err := openStore(c, imagestore.Options{
		Registry: client, Progress: func(done int64) { progress.show(func() string { return rate.text(done, 0) }) },
	})
	if err != nil {
		return fmt.Errorf("see what needs pageind: %w", err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if c.Bool("complete") {
		if err := store.CanHand(c.Context, c.String("to")); err != nil {
			return err
		}
	}
	uses, err := store.Uses(c.Context)
	if err != nil {
		return err
	}
	images, err := printUses(c.App.Writer, uses)
	if err != nil {
		return err
	}
	switch {
	case !c.Bool("apply"):
		return nil
	case len(uses.Containers) > 0:
		return fmt.Errorf("%s still use%s pageind: remove %s first%s", count(int64(len(uses.Containers)), "container"), singular(len(uses.Containers)), them(len(uses.Containers)), howToRemove(uses.Containers))
	case images > 0 && !c.Bool("complete") && !c.Bool("remove"):
		return fmt.Errorf("%s still need%s pageind: give --complete to unpack %s for %s, or --remove", count(int64(images), "image"), singular(images), them(images), c.String("to"))
	}
	if len(uses.Images) > 0 {
		if err := store.Reach(c.Context, uses.Images[0].Namespace); err != nil {
			return fmt.Errorf("%w (start pageind: nobody else removes its snapshots)", err)
		}
	}
	if err := release(c.Context, store, uses.Images, c.Bool("complete"), c.String("to")); err != nil {
		return err
	}
	return store.Empty(c.Context)
}

// howToRemove says how containers of Kubernetes are removed: with their pods, each of which has one container more than it names.
func howToRemove(containers []imagestore.Container) string {
	if !slices.ContainsFunc(containers, func(c imagestore.Container) bool { return c.Namespace == kubernetesNamespace }) {
		return ""
	}
	return " (those in " + kubernetesNamespace + " with their pods: crictl rmp --force ID, where kubelet runs once the node is drained)"
}

// singular ends a verb.
func singular(n int) string {
	if n == 1 {
		return "s"
	}
	return ""
}

// them stands for what was counted.
func them(n int) string {
	if n == 1 {
		return "it"
	}
	return "them"
}

// release hands images to another snapshotter, or removes them.
func release(ctx context.Context, store *imagestore.Store, images []imagestore.Image, complete bool, to string) error {
	for _, img := range images {
		var err error
		if complete {
			err = store.Hand(ctx, img, to)
		} else {
			err = store.Remove(ctx, img)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// printUses lists what needs pageind, and returns how many images that are, each of which may have several names.
func printUses(w io.Writer, uses imagestore.Uses) (images int, err error) {
	var b strings.Builder
	for n, i := range uses.Images {
		fmt.Fprintf(&b, "image %s in %s", i.Name, i.Namespace)
		if first := slices.IndexFunc(uses.Images, i.Same); first < n {
			fmt.Fprintf(&b, ": another name of %s\n", uses.Images[first].Name)
			continue
		}
		images++
		if i.Missing > 0 {
			fmt.Fprintf(&b, ": %s, %s, not fetched", count(int64(i.Missing), "layer"), humanize.IBytes(uint64(i.Bytes)))
		}
		b.WriteByte('\n')
	}
	for _, container := range uses.Containers {
		fmt.Fprintf(&b, "container %s in %s\n", container.ID, container.Namespace)
	}
	_, err = io.WriteString(w, b.String())
	return images, err
}
