package imageservice

import (
	"context"
	"slices"

	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Disk tells what is on the disk of the images.
type Disk interface {
	// Used returns the directory of the snapshots, as containerd names it, and what all images and containers there take: bytes and inodes.
	Used(ctx context.Context) (dir string, bytes, inodes uint64, err error)
}

// complete puts into containerd's answer to ImageFsInfo what images take now. containerd asks for that when it first sees an image, and lazily pulled ones grow. What cannot be
// found out, or read, stays as it is.
func (p *Proxy) complete(ctx context.Context, f *frame) *frame {
	var answer cri.ImageFsInfoResponse
	if err := proto.Unmarshal(f.bytes, &answer); err != nil {
		return f
	}
	dir, bytes, inodes, err := p.Disk.Used(ctx)
	if err != nil {
		p.Log.Warn("kubelet is told what containerd knows of the disk's use", "reason", err)
		return f
	}
	for _, fs := range slices.Concat(answer.ImageFilesystems, answer.ContainerFilesystems) {
		if fs.GetFsId().GetMountpoint() == dir {
			fs.UsedBytes, fs.InodesUsed = &cri.UInt64Value{Value: bytes}, &cri.UInt64Value{Value: inodes}
		}
	}
	completed, err := proto.Marshal(&answer)
	if err != nil {
		return f
	}
	return &frame{completed}
}
