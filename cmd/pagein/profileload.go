package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/dustin/go-humanize"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/urfave/cli/v2"

	"github.com/pagein/pagein/mkfs/hot"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/profile"
)

func profileFlag() cli.Flag {
	return &cli.StringFlag{Name: "profile", Usage: "what is touched, and when: `FILE`, REF, or auto for what is attached to the image"}
}

// readProfile reads a profile from a file, "-" for standard input.
func readProfile(path string) (*profile.Profile, error) {
	if path == "-" {
		return profile.Read(os.Stdin)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	p, err := profile.Read(f)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return p, nil
}

// profile reads the profile that an argument names.
func (l *looker) profile(_ context.Context, name string, _ artifact.Place, _ *ocispec.Descriptor) (*profile.Profile, error) {
	return readProfile(name)
}

// printCoverage says what of a profile was found.
func printCoverage(w io.Writer, c hot.Coverage) error {
	size := func(n int64) string { return humanize.IBytes(uint64(n)) }
	_, err := fmt.Fprintf(w, "profile         %.1f %% found: %s of %s files, %s of %s\n", 100*c.Use(), humanize.Comma(int64(c.Found)), humanize.Comma(int64(c.Files)), size(c.Same+c.Changed+c.Moved+c.Small), size(c.Bytes))
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
		if _, err := fmt.Fprintf(w, "                %s %s\n", size(line.bytes), line.what); err != nil {
			return err
		}
	}
	return nil
}
