package model

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"inceptor/internal/host"
	"inceptor/savedmodel"
)

// A precisionFolder keeps each precisionRecord over restarts, in one file for each version's digest
// and kind of processor. It lies beside the state file. What is lost there is found out again. Safe
// for concurrent use, also by other processes: the last one to write wins.
type precisionFolder struct {
	path    string // set once
	private bool   // set before use: nothing is written
}

const (
	precisionSuffix = ".precision" // of the folder, after the name of the state file
	maxRecordBytes  = 4 << 20      // a larger file is an error
	maxRecords      = 32           // files in the folder; the oldest go
)

func newPrecisionFolder(c Config) *precisionFolder {
	return &precisionFolder{path: strings.TrimSuffix(c.statePath(), ".json") + precisionSuffix}
}

// processor identifies what a measurement and a comparison hold for. The library must be open.
func processor() string {
	parts := append([]string{runtime.GOARCH, fmt.Sprint(runtime.NumCPU(), " processors")}, host.ProcessorFeatures()...)
	if limit := os.Getenv("ONEDNN_MAX_CPU_ISA"); limit != "" {
		parts = append(parts, "limited to "+limit)
	}
	return strings.Join(append(parts, "TensorFlow "+savedmodel.LibraryVersion()), " ")
}

func (f *precisionFolder) file(digest, processor string) string {
	sum := sha256.Sum256([]byte(digest + "\n" + processor))
	return filepath.Join(f.path, fmt.Sprintf("%x.yaml", sum[:16]))
}

// read returns what is known of the files with this digest on this processor. It is an empty record
// if nothing is, or with an error.
func (f *precisionFolder) read(digest string) (precisionRecord, error) {
	empty := precisionRecord{Digest: digest, Processor: processor()}
	path := f.file(digest, empty.Processor)
	b, err := readAtMost(path, maxRecordBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return empty, nil
	}
	var r precisionRecord
	if err == nil {
		d := yaml.NewDecoder(bytes.NewReader(b))
		d.KnownFields(true)
		err = d.Decode(&r)
	}
	if err == nil && r.Calibration != nil {
		_, err = r.Calibration.Encode() // checks it
	}
	switch {
	case err != nil:
		return empty, fmt.Errorf("%s: %w; remove it to find its content out again", path, err)
	case r.Digest != digest || r.Processor != empty.Processor:
		return empty, fmt.Errorf("%s is of other files or of another processor; remove it", path)
	}
	return r, nil
}

func readAtMost(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		return nil, fmt.Errorf("it is larger than %d bytes", most)
	}
	return b, err
}

// write keeps a record, all of it or nothing, and removes the oldest ones beyond maxRecords.
func (f *precisionFolder) write(r precisionRecord) error {
	if f.private {
		return nil
	}
	b, err := yaml.Marshal(r)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(f.path, 0o755); err != nil { //nolint:gosec // other processes read it
		return err
	}
	if err := replaceFile(f.file(r.Digest, r.Processor), b); err != nil {
		return err
	}
	return f.removeOldest()
}

func (f *precisionFolder) removeOldest() error {
	paths, err := filepath.Glob(filepath.Join(f.path, "*.yaml"))
	if err != nil || len(paths) <= maxRecords {
		return err
	}
	changed := map[string]int64{}
	for _, path := range paths {
		if st, err := os.Stat(path); err == nil { // otherwise another process has removed it
			changed[path] = st.ModTime().UnixNano()
		}
	}
	slices.SortFunc(paths, func(a, b string) int { return cmp.Compare(changed[b], changed[a]) })
	var errs []error
	for _, path := range paths[maxRecords:] {
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
