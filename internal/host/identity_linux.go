package host

import (
	"os"
	"syscall"
	"time"
)

// Identity returns a file's inode, and when it was last changed in any way. Unlike the modification
// time, which rsync and cp -p set, that time cannot be set.
func Identity(info os.FileInfo) (inode uint64, at time.Time) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, info.ModTime()
	}
	return st.Ino, time.Unix(st.Ctim.Unix())
}
