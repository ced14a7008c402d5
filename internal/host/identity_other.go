//go:build !linux

package host

import (
	"os"
	"time"
)

// Identity returns no inode, and the modification time: other systems have the rest elsewhere.
func Identity(info os.FileInfo) (inode uint64, at time.Time) { return 0, info.ModTime() }
