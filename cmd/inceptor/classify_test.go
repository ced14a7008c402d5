package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"inceptor/internal/settings"
	"inceptor/model/infer"
	"inceptor/service"
	"inceptor/service/input"
	"inceptor/testenv/corpus"
)

// A headerModel answers images whose header can be read.
type headerModel struct{ service.Classifier }

func (headerModel) Classify(_ context.Context, _, image []byte) (infer.Prediction, error) {
	h, err := infer.ParseHeader(image)
	return infer.Prediction{Image: h}, err
}

func reasonIn(t *testing.T, err error) string {
	t.Helper()
	var in *input.Error
	var image *infer.InputError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &in):
		return string(in.Reason)
	case errors.As(err, &image):
		return image.Reason
	}
	t.Errorf("%T: %v", err, err)
	return ""
}

// The classify command gives the reason for a file that the service gives for
// a record with the same bytes, and for one that names the file.
func TestClassifyGivesTheServicesReasons(t *testing.T) {
	files, err := newFileReader(input.Bare)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	config, dir := settings.Default[input.Config](), t.TempDir()
	config.Files.Root = dir
	records, err := input.New(config)
	if err != nil {
		t.Fatal(err)
	}
	defer records.Close()
	service := func(value []byte) string {
		image, err := records.Read(t.Context(), value)
		if err != nil {
			return reasonIn(t, err)
		}
		defer image.Release()
		_, err = headerModel{}.Classify(t.Context(), nil, image.Bytes)
		return reasonIn(t, err)
	}

	values := map[string][]byte{"empty": {}, "BMP with a header of 5 GB": append([]byte("BM\x00\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00\x00\x00\x00\x50"), make([]byte, 40)...)}
	for name, b := range corpus.Good() {
		values[name] = b
	}
	for _, c := range corpus.Bad(1) {
		if len(c.Value) < 16<<20 { // above, the service's input.max-bytes decides
			values[c.Name] = c.Value
		}
	}
	for name, value := range values {
		if err := os.WriteFile(filepath.Join(dir, "file"), value, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := classifyFile(t.Context(), headerModel{}, files, filepath.Join(dir, "file"))
		got := reasonIn(t, err)
		if byName := service([]byte("file")); got != byName {
			t.Errorf("%s: classify says %q, the service says %q of a record that names the file", name, got, byName)
		}
		// A value without an image's signature may be a path, a URL or an envelope.
		if format, _ := infer.FormatOf(value); format != "" || len(value) == 0 {
			if whole := service(value); got != whole {
				t.Errorf("%s: classify says %q, the service says %q of a record that holds the file", name, got, whole)
			}
		}
	}
}
