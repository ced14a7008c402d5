package infer

import (
	"fmt"
	"io"
	"os"
)

// The most bytes of each file that a version has beside its SavedModel.
const (
	maxSettingsBytes = 1 << 20   // inceptor.yaml and golden.yaml
	maxLabelsBytes   = 64 << 20  // labels, or any file that inceptor.yaml names as such
	maxGoldenBytes   = 256 << 20 // a golden record
)

// readVersionFile is os.ReadFile for a regular file of at most that many bytes. Other kinds of
// files, such as pipes, could block a load for ever.
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
