package backend

import (
	"errors"
	"io/fs"

	"github.com/pagein/pagein/oci/registry"
)

// errBadRange says that a range is not within its object.
var errBadRange = errors.New("range outside of the object")

// IsPermanent reports whether an error will not go away by itself, so that trying again at once is useless: the object does not exist, access is
// denied, the server cannot serve ranges. A later attempt may still succeed, when somebody has mended the cause.
func IsPermanent(err error) bool {
	return registry.IsPermanent(err) || errors.Is(err, errBadRange) || errors.Is(err, errOtherSize) ||
		errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrInvalid)
}
