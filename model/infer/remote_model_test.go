package infer

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"reflect"
	"testing"

	"inceptor/model/internal/modeltest"
	"inceptor/model/remote"
	"inceptor/savedmodel"
)

// foldersOf lists folders of versions.
func foldersOf(versions ...int64) func() ([]Folder, error) {
	var list []Folder
	for _, v := range versions {
		list = append(list, Folder{v, fmt.Sprint(v)})
	}
	return func() ([]Folder, error) { return list, nil }
}

// Labels and preprocessing are those of the version that the server has, or of the wanted one,
// or of the highest.
func TestDirOf(t *testing.T) {
	for _, test := range []struct {
		here      []int64
		has, want int64
		from      string
	}{
		{[]int64{1, 2, 10}, 2, 1, "2"},
		{[]int64{1, 2, 10}, 7, 1, "1"},
		{[]int64{1, 2, 10}, 7, 8, "10"},
		{[]int64{1, 2, 10}, 7, remote.NoVersion, "10"},
		{[]int64{0, 1}, 7, 0, "0"},
		{[]int64{0, 1}, remote.NoVersion, remote.NoVersion, "1"},
		{nil, 1, 1, ""},
	} {
		d := &RemoteModel{folders: foldersOf(test.here...), log: slog.New(slog.DiscardHandler)}
		from := ""
		if dir := d.dirOf([]int64{test.has, test.want}); dir != "" {
			from = filepath.Base(dir)
		}
		if from != test.from {
			t.Errorf("the server has %d, wanted is %d: told by %q, want %q", test.has, test.want, from, test.from)
		}
	}
	d := &RemoteModel{folders: foldersOf(), log: slog.New(slog.DiscardHandler)}
	spec, labels, err := d.spec(1, 1)
	if err != nil || !reflect.DeepEqual(spec, defaultSpec()) || labels != nil {
		t.Errorf("without a directory: %+v, %q, %v", spec, labels, err)
	}
}

// Images are sent encoded if the server or the version accepts that, and otherwise as pixels.
func TestHowImagesAreSent(t *testing.T) {
	modeltest.OpenLibrary(t)
	info := func(dtype savedmodel.DataType, shape ...int64) map[string]savedmodel.TensorInfo {
		return map[string]savedmodel.TensorInfo{"images": {DType: dtype, Shape: shape}}
	}
	scores := info(savedmodel.Float32, -1, 1)
	pixels := savedmodel.Signature{Inputs: info(savedmodel.Float32, -1, 2, 2, 3), Outputs: scores}
	encoded := savedmodel.Signature{Inputs: info(savedmodel.String, -1), Outputs: scores}
	for name, test := range map[string]struct {
		signatures map[string]savedmodel.Signature
		pixels     bool
	}{
		"both signatures":       {map[string]savedmodel.Signature{"serving_default": pixels, "serving_bytes": encoded}, false},
		"its own takes strings": {map[string]savedmodel.Signature{"serving_default": encoded}, false},
		"pixels alone":          {map[string]savedmodel.Signature{"serving_default": pixels}, true},
	} {
		d := &RemoteModel{options: Options{Model: "tiny", Batch: Batch{Max: 2}, MaxPixels: 1e6, Session: savedmodel.Options{OwnThreads: true}}, folders: foldersOf(), lanes: 1, log: slog.New(slog.DiscardHandler)}
		b, err := d.newBinding(remote.Metadata{Version: 1, Signatures: test.signatures}, remote.NoVersion, false)
		if err != nil {
			t.Fatal(err)
		}
		if (b.decoder != nil) != test.pixels || (b.decode != nil) != test.pixels {
			t.Errorf("%s: decoded %v, by TensorFlow %v, want %v", name, b.decode != nil, b.decoder != nil, test.pixels)
		}
		b.Release()
		<-b.freed
	}
}
