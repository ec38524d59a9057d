package vmtests

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// packages is what a test kernel is made from.
type packages struct {
	release string   // uname -r
	version string   // of the binary packages
	image   string   // name=version, as apt wants it
	headers []string // the flavour's headers, the common ones, kbuild
	source  string
}

// all lists every package as name=version, sorted.
func (p packages) all() []string {
	l := append([]string{p.image, p.source}, p.headers...)
	slices.Sort(l)
	return l
}

// resolve asks apt for the newest kernel of a series. Package versions move all the time, so none is written down anywhere.
func resolve(ctx context.Context, series string) (packages, error) {
	if err := check("apt-cache", "apt-get", "dpkg-deb", "dpkg"); err != nil {
		return packages{}, err
	}
	p, err := newest(ctx, series)
	if isMissing(err) && os.Geteuid() == 0 {
		// A fresh machine or container has no package lists yet.
		if err := updateLists(ctx); err != nil {
			return packages{}, err
		}
		p, err = newest(ctx, series)
	}
	return p, err
}

func updateLists(ctx context.Context) error {
	return run(ctx, "", "apt-get", "-q", "-o", "DPkg::Lock::Timeout=300", "update")
}

func newest(ctx context.Context, series string) (packages, error) {
	// The plain flavour only: no cloud, no rt, no unsigned.
	pattern := `^linux-image-` + regexp.QuoteMeta(series) + `\.[0-9]+(-[0-9]+|\+deb[0-9]+)-amd64$`
	out, err := output(ctx, "", "apt-cache", "search", "--names-only", pattern)
	if err != nil {
		return packages{}, err
	}
	var names []string
	for line := range strings.Lines(out) {
		name, _, _ := strings.Cut(line, " ")
		names = append(names, name)
	}
	if len(names) == 0 {
		return packages{}, noKernel(series, "/etc/os-release")
	}
	infos, err := show(ctx, names...)
	if err != nil {
		return packages{}, err
	}
	var best packages
	for _, info := range infos {
		newer, err := isNewer(ctx, info["Version"], best.version)
		if err != nil {
			return packages{}, err
		}
		if newer {
			best = packages{
				release: strings.TrimPrefix(info["Package"], "linux-image-"),
				version: info["Version"],
				image:   info["Package"] + "=" + info["Version"],
				source:  "linux-source-" + series + "=" + info["Version"],
			}
		}
	}
	return best.withHeaders(ctx)
}

// noKernel says why apt knows no kernel of a series: other distributions, and other releases of Debian, do not have it. osRelease is a file as
// in os-release(5); without it nothing is known of the system.
func noKernel(series, osRelease string) error {
	system := map[string]string{}
	if b, err := os.ReadFile(osRelease); err == nil {
		for line := range strings.Lines(string(b)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			system[key] = strings.Trim(value, `"'`)
		}
	}
	what := "Debian's packages of Linux " + series + " for amd64: "
	switch {
	case system["ID"] == "debian" && system["VERSION_ID"] == "12":
		return &MissingError{What: what + "apt knows none; its sources must have bookworm and bookworm-security, and its lists be new (apt-get update)"}
	case system["PRETTY_NAME"] != "":
		return &MissingError{What: what + system["PRETTY_NAME"] + " does not have them; run this on Debian 12, a container of it will do"}
	}
	return &MissingError{What: what + "apt knows none; run this on Debian 12, a container of it will do"}
}

// withHeaders adds the packages that the kernel's modules are built with: the flavour's headers and what these depend on.
func (p packages) withHeaders(ctx context.Context) (packages, error) {
	flavour := "linux-headers-" + p.release
	infos, err := show(ctx, flavour)
	if err != nil {
		return packages{}, err
	}
	p.headers = []string{flavour + "=" + p.version}
	for dep := range strings.SplitSeq(infos[0]["Depends"], ",") {
		name, _, _ := strings.Cut(strings.TrimSpace(dep), " ")
		if strings.HasPrefix(name, "linux-headers-") || strings.HasPrefix(name, "linux-kbuild-") {
			p.headers = append(p.headers, name+"="+p.version)
		}
	}
	return p, nil
}

// show returns the fields of the newest version of each package.
func show(ctx context.Context, names ...string) ([]map[string]string, error) {
	out, err := output(ctx, "", "apt-cache", append([]string{"show", "--no-all-versions"}, names...)...)
	if err != nil {
		return nil, err
	}
	var all []map[string]string
	for record := range strings.SplitSeq(strings.TrimSpace(out), "\n\n") {
		fields := make(map[string]string)
		for line := range strings.Lines(record) {
			if key, value, ok := strings.Cut(line, ": "); ok && !strings.HasPrefix(line, " ") {
				fields[key] = strings.TrimSpace(value)
			}
		}
		if fields["Package"] == "" || fields["Version"] == "" {
			return nil, fmt.Errorf("apt-cache show %s: a record has no name or version", strings.Join(names, " "))
		}
		all = append(all, fields)
	}
	return all, nil
}

func isNewer(ctx context.Context, version, than string) (bool, error) {
	if than == "" {
		return true, nil
	}
	cmd, err := command(ctx, "", "dpkg", "--compare-versions", version, "gt", than)
	if err != nil {
		return false, err
	}
	err = cmd.Run()
	if err != nil && cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == 1 {
		return false, nil
	}
	return err == nil, err
}

// download fetches packages into dir. apt verifies them against the archive's signature, and takes up a download that broke off.
func download(ctx context.Context, dir string, names []string) error {
	args := []string{"-q", "download"}
	if os.Geteuid() == 0 {
		args = append(args, "-o", "APT::Sandbox::User=root") // the user _apt could not write into a private directory
	}
	err := run(ctx, dir, "apt-get", append(args, names...)...)
	if err == nil || os.Geteuid() != 0 || ctx.Err() != nil {
		return err
	}
	// Lists older than the archive name packages that are gone from it.
	if err := updateLists(ctx); err != nil {
		return err
	}
	return run(ctx, dir, "apt-get", append(args, names...)...)
}
