package main

import (
	"context"
	"errors"
	"os"

	goerofs "github.com/erofs/go-erofs"
)

// goErofs writes dir as an EROFS image with go-erofs' defaults.
func goErofs(_ context.Context, image, dir string) (err error) {
	file, err := os.Create(image)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	w := goerofs.Create(file)
	if err := w.CopyFrom(os.DirFS(dir)); err != nil {
		return errors.Join(err, w.Close())
	}
	return w.Close()
}
