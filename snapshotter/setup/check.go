package setup

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
)

// check compares what containerd makes of the changed configuration with what it is to make of it: what is needed is there, and all else is as before.
func (p *plan) check(after table) error {
	proxy, _ := at(after, "proxy_plugins", p.Name).(table)
	exports, _ := proxy["exports"].(table)
	if proxy["type"] != "snapshot" || proxy["address"] != p.Address || exports["root"] != p.Root {
		return fmt.Errorf("containerd would not know the snapshotter %q: something else overrides [proxy_plugins.%s]", p.Name, p.Name)
	}
	if p.transfers() {
		if err := p.checkUnpacks(after); err != nil {
			return err
		}
	}
	cri := p.criPath(p.native())
	if p.CRI && at(after, append(cri, "snapshotter")...) != p.Name {
		return fmt.Errorf("containerd would still use the snapshotter %q for Kubernetes: a file that the configuration imports overrides it", at(after, append(cri, "snapshotter")...))
	}
	if silent, _ := at(after, append(cri, "disable_snapshot_annotations")...).(bool); p.CRI && silent && !p.transfersCRI() {
		return errors.New("containerd would still not say of which image a layer is, for Kubernetes: a file that the configuration imports overrides disable_snapshot_annotations")
	}
	was, is := p.others(p.before), p.others(after)
	if path := differ(was, is); path != nil {
		return fmt.Errorf("containerd would change its mind about %s: files that a configuration imports replace whole sections", strings.Join(path, "."))
	}
	return nil
}

// checkUnpacks makes sure that images can be unpacked for all snapshotters that they could be before, and for ours.
func (p *plan) checkUnpacks(after table) error {
	all, _ := at(after, "plugins", transferPlugin, "unpack_config").([]any)
	want := append(slices.Clip(p.unpacks()), p.ours())
	if is, want := set(all), set(want); !reflect.DeepEqual(is, want) {
		return fmt.Errorf("containerd would unpack images as %v instead of as %v", is, want)
	}
	return nil
}

// set is what is set in tables, that is, without what containerd prints of what is not.
func set(all []any) (tables []table) {
	for _, one := range all {
		t, _ := one.(table)
		t = maps.Clone(t)
		maps.DeleteFunc(t, func(_ string, value any) bool {
			v := reflect.ValueOf(value)
			return v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0
		})
		tables = append(tables, t)
	}
	return tables
}

// others is a configuration without what is changed.
func (p *plan) others(from table) table {
	rest := without(from, "imports")
	rest = without(rest, "proxy_plugins", p.Name)
	rest = without(rest, "plugins", transferPlugin, "unpack_config")
	if p.CRI {
		for _, key := range []string{"snapshotter", "disable_snapshot_annotations"} {
			rest = without(rest, append(p.criPath(p.native()), key)...)
		}
	}
	return rest
}

// without is a table without what is at a path, and without tables that are empty then.
func without(t table, path ...string) table {
	t = maps.Clone(t)
	if len(path) == 1 {
		delete(t, path[0])
		return t
	}
	below, ok := t[path[0]].(table)
	if !ok {
		return t
	}
	if below = without(below, path[1:]...); len(below) == 0 {
		delete(t, path[0])
	} else {
		t[path[0]] = below
	}
	return t
}

// differ is the path of the first thing that differs, nil if nothing does.
func differ(a, b table) []string {
	for _, name := range sorted(a, b) {
		x, y := a[name], b[name]
		if reflect.DeepEqual(x, y) {
			continue
		}
		below, isTable := x.(table)
		other, both := y.(table)
		if !isTable || !both {
			return []string{name}
		}
		return append([]string{name}, differ(below, other)...)
	}
	return nil
}

// tryOut writes a file that is to be imported in a trial.
func tryOut(dir string, text []byte) (path string, remove func(), err error) {
	f, err := os.CreateTemp(dir, ".pagein-import-*")
	if err != nil {
		return "", nil, err
	}
	remove = func() { _ = os.Remove(f.Name()) }
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err != nil {
		remove()
	}
	return f.Name(), remove, err
}
