package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/pagein/pagein/node/control"
)

// mountHelperName is the hidden command behind mount.pagein.
const mountHelperName = "mount-helper"

func mountCommand() *cli.Command {
	return &cli.Command{
		Name:      "mount",
		Usage:     "mount an artifact lazily on a directory",
		ArgsUsage: "REF DIR",
		Description: "REF is oci:DIR[:TAG] or a registry reference, of an artifact that pagein convert has made, or an image in a registry that one is attached to. Only its\n" +
			"metadata is fetched now; the data follows as it is read.",
		Flags: append(policyFlags(), transportFlag(), jsonFlag()),
		Action: func(c *cli.Context) error {
			if c.NArg() != 2 {
				return misuse(c, "want REF and DIR; got %q", c.Args().Slice())
			}
			transport, policy, err := wishes(c)
			if err != nil {
				return err
			}
			resp, err := mount(c, c.Args().Get(0), c.Args().Get(1), transport, policy)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(c, resp)
			}
			_, err = fmt.Fprintf(c.App.Writer, "mounted %s on %s (%s)\n", c.Args().Get(0), resp.Target, resp.Transport)
			return err
		},
	}
}

// mount has the daemon mount the image ref on the directory dir.
func mount(c *cli.Context, ref, dir, transport string, p control.Policy) (control.MountResponse, error) {
	src, err := source(c, ref)
	if err != nil {
		return control.MountResponse{}, err
	}
	target, err := filepath.Abs(dir)
	if err != nil {
		return control.MountResponse{}, fmt.Errorf("mount %s on %s: %w", ref, dir, err)
	}
	client, err := daemon(c)
	if err != nil {
		return control.MountResponse{}, err
	}
	defer client.Close()
	return client.Mount(c.Context, control.MountRequest{Source: src, Target: target, Transport: transport, Policy: p})
}

// policyFlags say how an image is to be read.
func policyFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "deadline", Usage: "let readers wait for bytes that cannot be had for a `TIME` such as 30s (wait: for ever) before they get EIO, instead of the daemon's default"},
		&cli.StringFlag{Name: "prefetch", Usage: "fetch `WHAT` of the image before it is read: none or all, instead of the daemon's default"},
	}
}

// wishes returns what the flags say about the transport and the policy.
func wishes(c *cli.Context) (transport string, p control.Policy, err error) {
	transport = c.String("transport")
	if transport != "" && !slices.Contains(transports, transport) {
		return "", p, misuse(c, "there is no transport %q: choose one of %s", transport, strings.Join(transports, ", "))
	}
	p = control.Policy{Deadline: c.String("deadline"), Prefetch: c.String("prefetch")}
	if err := p.Validate(); err != nil {
		return "", p, misuse(c, "%v", err)
	}
	return transport, p, nil
}

func umountCommand() *cli.Command {
	return &cli.Command{
		Name:      "umount",
		Aliases:   []string{"unmount"},
		Usage:     "take an artifact off a directory",
		ArgsUsage: "DIR",
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return misuse(c, "want DIR; got %q", c.Args().Slice())
			}
			target, err := filepath.Abs(c.Args().First())
			if err != nil {
				return fmt.Errorf("umount %s: %w", c.Args().First(), err)
			}
			client, err := daemon(c)
			if err != nil {
				return err
			}
			defer client.Close()
			return client.Unmount(c.Context, target)
		},
	}
}

func prepareCommand() *cli.Command {
	return &cli.Command{
		Name:        "prepare",
		Usage:       "fetch an artifact's metadata and print the command that mounts it",
		ArgsUsage:   "REF",
		Description: "The command is for this machine's kernel; replace DIR in it by the directory to mount on.",
		Flags:       append(policyFlags(), transportFlag(), jsonFlag()),
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return misuse(c, "want REF; got %q", c.Args().Slice())
			}
			transport, policy, err := wishes(c)
			if err != nil {
				return err
			}
			src, err := source(c, c.Args().First())
			if err != nil {
				return err
			}
			client, err := daemon(c)
			if err != nil {
				return err
			}
			defer client.Close()
			resp, err := client.Prepare(c.Context, control.PrepareRequest{Source: src, Transport: transport, Policy: policy})
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(c, resp)
			}
			_, err = fmt.Fprintln(c.App.Writer, resp.Command)
			return err
		},
	}
}

// mountHelperCommand is what mount(8) runs for "mount -t pagein REF DIR": mount.pagein REF DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE].
func mountHelperCommand() *cli.Command {
	return &cli.Command{
		Name:            mountHelperName,
		Hidden:          true,
		SkipFlagParsing: true, // options follow the operands
		Action: func(c *cli.Context) error {
			h, err := parseMountHelper(c.Args().Slice())
			if err != nil {
				return cli.Exit(fmt.Sprintf("mount.pagein: %v; usage: mount.pagein REF DIR [-o OPTIONS]", err), exitUsage)
			}
			for name, value := range h.global {
				if err := c.Set(name, value); err != nil {
					return fmt.Errorf("mount.pagein: option %s=%s: %w", name, value, err)
				}
			}
			if h.fake {
				return nil
			}
			_, err = mount(c, h.ref, h.dir, h.transport, h.policy)
			return err
		},
	}
}

// mountHelper is the parsed command line of mount.pagein.
type mountHelper struct {
	ref, dir, transport string
	policy              control.Policy
	global              map[string]string // values for the global flags
	fake                bool              // -f: do all but mount
}

func parseMountHelper(args []string) (mountHelper, error) {
	h := mountHelper{global: map[string]string{}}
	var operands, options []string
	sloppy := false
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if len(arg) < 2 || arg[0] != '-' {
			operands = append(operands, arg)
			continue
		}
		for j, letter := range arg[1:] {
			var value string
			if takesValue := strings.ContainsRune("oNt", letter); takesValue {
				if value = arg[j+2:]; value == "" {
					if i++; i >= len(args) {
						return h, fmt.Errorf("option -%c lacks its value", letter)
					}
					value = args[i]
				}
			}
			switch letter {
			case 'o':
				options = append(options, strings.Split(value, ",")...)
			case 's':
				sloppy = true
			case 'f':
				h.fake = true
			case 'n', 'v', 't': // no mtab, verbose, the type that led here
			case 'N':
				return h, fmt.Errorf("pageind mounts in its own mount namespace, not in %s", value)
			default:
				return h, fmt.Errorf("unknown option -%c", letter)
			}
			if value != "" {
				break
			}
		}
	}
	if len(operands) != 2 {
		return h, fmt.Errorf("want REF and DIR; got %q", operands)
	}
	h.ref, h.dir = operands[0], operands[1]
	for _, option := range options {
		if err := h.option(option); err != nil && !sloppy {
			return h, err
		}
	}
	return h, nil
}

// option takes one of the words after -o.
func (h *mountHelper) option(option string) error {
	key, value, _ := strings.Cut(option, "=")
	switch key {
	case "transport":
		h.transport = value
	case "deadline":
		h.policy.Deadline = value
	case "prefetch":
		h.policy.Prefetch = value
	case "address":
		h.global[key] = value
	case "plain-http", "insecure":
		h.global[key] = "true"
	case "", "defaults", "ro", "rw", "auto", "noauto", "nofail", "_netdev", "suid", "dev", "exec":
		// What mount(8) passes along or what holds anyway; rw is its default and no wish.
	default:
		if !strings.HasPrefix(key, "x-") && !strings.HasPrefix(key, "X-") {
			return fmt.Errorf("option %q is not known: transport=, deadline=, prefetch=, address=, plain-http and insecure are", option)
		}
	}
	return nil
}
