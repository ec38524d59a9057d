package mkfs

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Order is a policy for the order in which the data of a layer lies in its blob.
type Order uint8

const (
	// OrderDir puts the files of a directory together, by name, and then what is below each of its directories.
	OrderDir Order = iota
	// OrderSource keeps the order in which the source has the files.
	OrderSource
)

// ParseOrder returns the order that is called dir or tar.
func ParseOrder(name string) (Order, error) {
	switch name {
	case "dir":
		return OrderDir, nil
	case "tar":
		return OrderSource, nil
	}
	return 0, fmt.Errorf("order %q is unknown: choose dir or tar", name)
}

// String returns the name that ParseOrder takes.
func (o Order) String() string {
	if o == OrderSource {
		return "tar"
	}
	return "dir"
}

// arrange returns the numbers of files in the order that the policy wants.
func (o Order) arrange(files []packFile) []int32 {
	order := make([]int32, len(files))
	for i := range order {
		order[i] = int32(i)
	}
	if o == OrderDir {
		slices.SortFunc(order, func(a, b int32) int {
			return cmp.Or(comparePaths(files[a].name, files[b].name), cmp.Compare(a, b))
		})
	}
	return order
}

// comparePaths orders clean paths by directory: what is in a directory comes before what is further below it.
func comparePaths(a, b string) int {
	for {
		x, restA, deeperA := strings.Cut(a, "/")
		y, restB, deeperB := strings.Cut(b, "/")
		switch {
		case deeperA != deeperB:
			if deeperA {
				return 1
			}
			return -1
		case x != y || !deeperA:
			return strings.Compare(x, y)
		}
		a, b = restA, restB
	}
}

// cleanName returns a name of a source in the one form that names the same file everywhere: without "." and needless slashes.
func cleanName(name string) string {
	name = strings.TrimLeft(name, "/")
	for strings.HasPrefix(name, "./") {
		name = strings.TrimLeft(name[2:], "/")
	}
	if !strings.Contains(name, "//") && !strings.Contains(name, "/./") && !strings.HasSuffix(name, "/") {
		return name
	}
	parts, err := splitPath(name)
	if err != nil {
		return name // it was refused before
	}
	return strings.Join(parts, "/")
}
