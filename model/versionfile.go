package model

import (
	"fmt"
	"io"
	"os"
)

// The most bytes of the files that a version brings beside its SavedModel.
const (
	maxSettingsBytes = 1 << 20   // inceptor.yaml and golden.yaml
	maxLabelsBytes   = 64 << 20  // labels, or what else inceptor.yaml names so
	maxGoldenBytes   = 256 << 20 // a golden record
)

// readVersionFile is os.ReadFile for a regular file of at most so many bytes.
// Any other kind, such as a pipe, could keep a load from ending.
func readVersionFile(path string, most int64) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1)) // it may have grown
	if err == nil && int64(len(b)) > most {
		return nil, fmt.Errorf("%s has more than %d bytes, the limit", path, most)
	}
	return b, err
}
