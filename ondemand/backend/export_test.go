package backend

import (
	"context"
	"errors"
)

// LocateS3 is the URL at which an S3 object is asked for.
func LocateS3(o Object) (string, error) {
	s3, ok := o.(*s3Object)
	if !ok {
		return "", errors.New("not in S3")
	}
	u, err := s3.locate(context.Background())
	if err != nil {
		return "", err
	}
	return u.String(), nil
}
