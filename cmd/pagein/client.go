package main

import (
	"encoding/json"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/oci"
)

// daemon returns a client of the daemon that the global flags name.
func daemon(c *cli.Context) (*control.Client, error) {
	client, err := control.NewClient(c.String("address"))
	if err != nil {
		return nil, misuse(c, "%v", err)
	}
	return client, nil
}

// source describes the image named by ref to the daemon, which has another working directory.
func source(c *cli.Context, ref string) (control.Source, error) {
	parsed, err := oci.ParseRef(ref)
	if err != nil {
		return control.Source{}, misuse(c, "%v", err)
	}
	if parsed.Kind != oci.Layout && parsed.Kind != oci.Registry {
		return control.Source{}, misuse(c, "%s is no artifact: convert it first (pagein convert)", ref)
	}
	absolute, err := parsed.Absolute()
	if err != nil {
		return control.Source{}, err
	}
	return control.Source{Ref: absolute.String(), PlainHTTP: c.Bool("plain-http"), Insecure: c.Bool("insecure")}, nil
}

// transports are the words for how the kernel's misses reach the daemon.
var transports = []string{"auto", "fanotify", "cachefiles", "file"}

func transportFlag() cli.Flag {
	return &cli.StringFlag{Name: "transport", Usage: "serve the image through `TRANSPORT` (" + strings.Join(transports, ", ") + ") instead of the daemon's default"}
}

func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: "print the answer as JSON"}
}

func printJSON(c *cli.Context, answer any) error { return writeJSON(c.App.Writer, answer) }

func writeJSON(w io.Writer, answer any) error {
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	out.SetEscapeHTML(false)
	return out.Encode(answer)
}
