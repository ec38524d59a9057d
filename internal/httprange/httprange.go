// Package httprange reads ranges of what HTTP servers have, and believes none of them: a range is exactly what was asked for or an error.
//
// It knows requests, answers, connections and addresses, and nothing of registries, credentials or blobs. It never retries. The one idea to hold in
// mind: whoever calls must learn at once, and in one sentence without secrets, which host did what, because a reader in the kernel waits for it.
package httprange

import (
	"fmt"
	"net/http"
)

// Set asks for bytes [off, off+n), as they are.
func Set(req *http.Request, off, n int64) {
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", off, off+n-1))
	req.Header.Set("Accept-Encoding", "identity")
}

// IsRedirect reports whether an answer says that what was asked for is elsewhere.
func IsRedirect(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}
