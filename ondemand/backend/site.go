package backend

import "net/url"

// Site says what kind of thing an object is read from, one of a few words, and which host answers for it; "" is this machine. Of several places it is the
// preferred one that counts. It serves metrics and limits, which need labels that do not grow with the number of objects.
func Site(o Object) (kind, host string) {
	switch o := o.(type) {
	case *registryObject:
		return "registry", o.repo.Reference.Host()
	case *s3Object:
		return "s3", o.signer.endpoint.Host
	case *httpObject:
		return "http", hostIn(o.name)
	case *posixObject:
		return "file", ""
	case *layoutObject:
		return "layout", ""
	case *firstObject:
		p, _ := o.preferred()
		return Site(p.Object)
	case *Places:
		return Site(&o.firstObject)
	}
	return "other", ""
}

// hostIn returns the host of a URL.
func hostIn(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Host
}
