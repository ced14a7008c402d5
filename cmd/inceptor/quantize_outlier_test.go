package main

import (
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"inceptor/model/infer"
	"inceptor/testenv"
)

// quantize refuses a model that int8 breaks, and leaves its version as it was.
func TestQuantizeRefusesOutlier(t *testing.T) {
	t.Parallel()
	version := filepath.Join(testenv.Tiny(t, "--kind", "convolutions", "--outlier"), "1")
	folder := t.TempDir()
	for level := 5; level < 256; level += 10 {
		m := image.NewGray(image.Rect(0, 0, 48, 48))
		draw.Draw(m, m.Bounds(), image.NewUniform(color.Gray{uint8(level)}), image.Point{}, draw.Src)
		f, err := os.Create(filepath.Join(folder, fmt.Sprintf("%d.png", level)))
		if err == nil {
			err = errors.Join(png.Encode(f, m), f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	status, out, errs := execute(t, "quantize", version, "--images", folder, "--tensorflow.library", testenv.TensorFlow(t))
	if status != exitFailed || !strings.Contains(errs, "nothing was written") || strings.Contains(out, "wrote") {
		t.Errorf("exit status %d\n%s\n%s", status, out, errs)
	}
	if _, err := os.Stat(filepath.Join(version, infer.CalibrationFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file with the ranges: %v", err)
	}
}
