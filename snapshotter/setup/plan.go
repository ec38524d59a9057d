package setup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/pagein/pagein/internal/tomledit"
)

// dropIn is the name of a file of our own.
const dropIn = "pagein.toml"

// The plugins that are configured, and the schema that brought their names.
const (
	transferPlugin = "io.containerd.transfer.v1.local"
	criPlugin      = "io.containerd.grpc.v1.cri"   // schema 2: its table "containerd"
	imagesPlugin   = "io.containerd.cri.v1.images" // schema 3
)

// defaultDownloads is how many layers containerd fetches at once for Kubernetes, if nothing else is configured.
const defaultDownloads = 3

// Plan works out the changes that give containerd what it needs: a file of its own where containerd's configuration imports a directory of such, if that works with this containerd and what
// else is configured, or marked lines in the configuration itself. Containerd has read what is returned. What was planned and applied before is replaced, wherever that was.
func (c Containerd) Plan(ctx context.Context, n Needs) ([]*Change, error) {
	p := &plan{Containerd: c, Needs: n}
	if err := p.look(ctx); err != nil {
		return nil, err
	}
	change, err := p.place(ctx)
	if err != nil {
		return nil, err
	}
	before, err := c.Installed()
	if err != nil {
		return nil, err
	}
	elsewhere := slices.DeleteFunc(before, func(other *Change) bool { return other.Path == change.Path })
	return append(elsewhere, change), nil
}

// place finds the file that can be changed.
func (p *plan) place(ctx context.Context) (*Change, error) {
	var refused []error
	for _, path := range p.dropIns(p.text) {
		change, err := p.beside(ctx, path)
		if err == nil {
			return change, nil
		}
		refused = append(refused, fmt.Errorf("put it into %s: %w", path, err))
	}
	change, err := p.inPlace(ctx)
	if err != nil {
		return nil, errors.Join(append(refused, err)...)
	}
	return change, nil
}

// plan is what is known of a containerd that is to be changed.
type plan struct {
	Containerd
	Needs

	text    []byte // of the configuration, without anything of ours
	isThere bool
	schema  int // of the configuration, or of a new one
	release release
	before  table
}

func (p *plan) look(ctx context.Context) (err error) {
	if p.release, err = p.Containerd.release(ctx); err != nil {
		return err
	}
	undone, err := Undo(p.Config)
	if err != nil {
		return err
	}
	p.text, p.isThere = undone.New, undone.New != nil
	if p.before, err = p.dumpBefore(ctx); err != nil {
		return err
	}
	var file struct {
		Version int `toml:"version"`
	}
	if err := toml.Unmarshal(p.text, &file); err != nil {
		return fmt.Errorf("read %s: %w", p.Config, err)
	}
	switch p.schema = file.Version; {
	case !p.isThere:
		p.schema = p.native()
	case p.schema == 0:
		p.schema = 1
	}
	if p.CRI && p.schema == 1 {
		return fmt.Errorf("%s has no version, or version 1: have containerd migrate it to a newer one first, with \"containerd config migrate\" (containerd 2), or write \"version = 2\" and the full names of plugins", p.Config)
	}
	if p.CRI && at(p.before, p.criPath(p.native())...) == nil {
		return fmt.Errorf("%s has no plugin for Kubernetes", p.Program)
	}
	return nil
}

// dumpBefore is what containerd makes of its configuration without anything of ours.
func (p *plan) dumpBefore(ctx context.Context) (table, error) {
	if !p.isThere {
		return p.defaults(ctx)
	}
	text, err := p.trial(tomledit.Edit{})
	if err != nil {
		return nil, err
	}
	return p.dumpOf(ctx, text)
}

// trial is the configuration with an edit, and without files of our own among what it imports.
func (p *plan) trial(e tomledit.Edit) ([]byte, error) {
	if slices.ContainsFunc(p.dropIns(p.text), isThere) {
		imports, err := p.importing()
		if err != nil {
			return nil, err
		}
		e.Settings = append(slices.Clip(e.Settings), imports)
	}
	text, err := tomledit.Apply(p.text, e)
	if err != nil {
		return nil, fmt.Errorf("change %s: %w", p.Config, err)
	}
	return text, nil
}

func isThere(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// native is the newest schema that containerd knows.
func (p *plan) native() int {
	version, _ := p.before["version"].(int64)
	return int(version)
}

// inPlace changes the configuration itself.
func (p *plan) inPlace(ctx context.Context) (*Change, error) {
	own := table{}
	if err := toml.Unmarshal(p.text, &own); err != nil {
		return nil, err
	}
	e := tomledit.Edit{Settings: p.criSettings(own), Block: p.proxy()}
	has := at(own, "plugins", transferPlugin, "unpack_config") != nil
	e.Block += p.transfer(!has)
	if !p.isThere {
		e.Header = p.header()
	}
	change, err := edited(p.Config, e)
	if err != nil {
		return nil, err
	}
	text, err := p.trial(e)
	if err != nil {
		return nil, err
	}
	after, err := p.dumpOf(ctx, text)
	if err != nil {
		return nil, err
	}
	if err := p.check(after); err != nil {
		return nil, fmt.Errorf("change %s: %w", p.Config, err)
	}
	return change, nil
}

// beside makes a file of our own. Containerd reads it in a test through a copy of the configuration that imports it where it is tried.
func (p *plan) beside(ctx context.Context, path string) (*Change, error) {
	change, err := edited(path, tomledit.Edit{Header: p.header(), Settings: p.criSettings(nil), Block: p.proxy() + p.transfer(true)})
	if err != nil {
		return nil, err
	}
	trial, remove, err := tryOut(filepath.Dir(p.Config), change.New)
	if err != nil {
		return nil, err
	}
	defer remove()
	imports, err := p.importing(trial)
	if err != nil {
		return nil, err
	}
	text, err := tomledit.Apply(p.text, tomledit.Edit{Settings: []tomledit.Setting{imports}})
	if err != nil {
		return nil, fmt.Errorf("change %s: %w", p.Config, err)
	}
	after, err := p.dumpOf(ctx, text)
	if err != nil {
		return nil, err
	}
	return change, p.check(after)
}

// header is what a file of our own begins with.
func (p *plan) header() string { return fmt.Sprintf("version = %d\n", p.schema) }

// importing is the setting of what the configuration imports but for files of our own, and of more.
func (p *plan) importing(more ...string) (tomledit.Setting, error) {
	files, err := p.imports(p.text)
	if err != nil {
		return tomledit.Setting{}, err
	}
	ours, quoted := p.dropIns(p.text), []string{}
	for _, f := range append(files, more...) {
		if !slices.Contains(ours, f) {
			quoted = append(quoted, strconv.Quote(f))
		}
	}
	return tomledit.Setting{Key: "imports", Value: "[" + strings.Join(quoted, ", ") + "]"}, nil
}

// at returns what is at a path, or nil.
func at(from table, path ...string) any {
	var here any = from
	for _, name := range path {
		t, ok := here.(table)
		if !ok {
			return nil
		}
		here = t[name]
	}
	return here
}

// sorted are the names in two tables, each once.
func sorted(a, b table) (names []string) {
	for name := range a {
		names = append(names, name)
	}
	for name := range b {
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
