package infer

import (
	"errors"
	"fmt"
	"time"
)

// ErrHangs is the error of a version with a run that does not end.
var ErrHangs = errors.New("hangs")

// A Folder is a folder that may hold a version. See model.Config.Folders.
type Folder struct {
	Version int64
	Dir     string
}

// Info identifies a version.
type Info struct {
	Model   string
	Version int64  // remote.NoVersion: the model server does not report it
	Digest  string // of the version's directory, "sha256:…"; empty on a model server
}

func (i Info) String() string {
	s := fmt.Sprintf("%s, version %d", i.Model, i.Version)
	if i.Version < 0 {
		s = i.Model + ", a version that the model server does not report"
	}
	if i.Digest != "" {
		s += ", " + i.Digest
	}
	return s
}

// Durations say where the time of one load went.
type Durations struct {
	Load     time.Duration // by TensorFlow
	WarmUp   time.Duration
	PerImage time.Duration // in the first run of the largest batch
	Gates    time.Duration // all gates, with the above
	Pause    time.Duration // in which records waited; 0 unless another version was unloaded first
}

// A Run is one run of a version on a batch.
type Run struct {
	Size   int  // records in the batch
	Most   int  // that it may have
	Failed int  // records with an error
	Halved bool // the batch failed because of a record, and its halves run next
	Took   time.Duration
	Err    error
	Shared bool // another run was active meanwhile
}
