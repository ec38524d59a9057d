package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/pagein/pagein/internal/atomicfile"
	"github.com/pagein/pagein/mkfs/hot"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/image"
	"github.com/pagein/pagein/oci/profiles"
	"github.com/pagein/pagein/profile"
)

// profileNames says in the help of the commands that take profiles how they are named.
const profileNames = `A PROFILE is a file, "-" for standard input, or a reference (oci:DIR:TAG or HOST/REPOSITORY[:TAG]) to one that was pushed, or to an image in a registry: then it is all that are attached to it, merged.`

// autoProfile stands for the profiles that are attached to an image.
const autoProfile = "auto"

func profileFlag() cli.Flag {
	return &cli.StringFlag{Name: "profile", Usage: "take what is touched, and when, from `PROFILE`: a file, a reference, or auto for what is attached to the image"}
}

// profile reads the profile that an argument names.
func (l *looker) profile(ctx context.Context, name string) (*profile.Profile, error) {
	if name == "-" {
		return profile.Read(os.Stdin)
	}
	f, err := os.Open(name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) && (strings.HasPrefix(name, "oci:") || !strings.HasPrefix(name, "/") && !strings.HasPrefix(name, ".") && strings.Contains(name, "/")) {
			return l.storedProfile(ctx, name)
		}
		return nil, err
	}
	defer f.Close() // only read
	p, err := profile.Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return p, nil
}

// storedProfile reads a profile that was pushed.
func (l *looker) storedProfile(ctx context.Context, name string) (*profile.Profile, error) {
	ref, err := l.parse(name)
	if err != nil {
		return nil, err
	}
	place, err := artifact.Open(l.client, ref)
	if err != nil {
		return nil, err
	}
	desc, err := place.Resolve(ctx, ref)
	if err == nil {
		desc, err = image.Choose(ctx, place.Target(), desc, l.platform)
	}
	var p *profile.Profile
	if err == nil {
		p, err = profiles.Load(ctx, place, desc, l.note)
	}
	if err != nil {
		return nil, fmt.Errorf("read profile %s: %w", ref, err)
	}
	return p, nil
}

// writeProfile writes a profile to a file, which appears when it is complete, or for "" and "-" to standard output.
func writeProfile(c *cli.Context, p *profile.Profile, path string) error {
	if path == "" || path == "-" {
		return p.Write(c.App.Writer)
	}
	f, err := atomicfile.Create(path, 0o644)
	if err != nil {
		return err
	}
	defer f.Discard()
	if err := p.Write(f); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return f.Commit()
}

// printCoverage says what of a profile was found.
func printCoverage(w io.Writer, c hot.Coverage) error {
	_, err := fmt.Fprintf(w, "profile         %.1f %% found: %s of %s files, %s of %s\n",
		100*c.Use(), humanize.Comma(int64(c.Found)), humanize.Comma(int64(c.Files)), iBytes(c.Same+c.Changed+c.Moved+c.Small), iBytes(c.Bytes))
	if err != nil {
		return err
	}
	for _, line := range []struct {
		what  string
		bytes int64
	}{
		{"same data at the same path", c.Same}, {"other data at the same path", c.Changed}, {"found by digest elsewhere", c.Moved}, {"in the metadata image, or holes", c.Small},
		{"behind the ends of files", c.Beyond}, {"not found", c.Missing}, {"found, and too much", c.Left},
	} {
		if line.bytes == 0 {
			continue
		}
		if _, err := fmt.Fprintf(w, "                %s %s\n", iBytes(line.bytes), line.what); err != nil {
			return err
		}
	}
	return nil
}

// iBytes words a number of bytes.
func iBytes(n int64) string { return humanize.IBytes(uint64(n)) }
