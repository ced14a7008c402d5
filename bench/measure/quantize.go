package measure

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// CalibrationPhotos is the folder of the photos that int8 is calibrated on. None of them is in
// Photos.
const CalibrationPhotos = ".tools/calibration"

// Quantize copies version 1 of a model to a base directory in dir, with the ranges for int8 that
// "inceptor quantize" measures, and returns the base directory.
func Quantize(ctx context.Context, binary, modelDir, dir string) (base string, err error) {
	Progress("measuring ranges for int8")
	base = filepath.Join(dir, "int8")
	if err := os.Mkdir(base, 0o700); err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, binary, "quantize", filepath.Join(modelDir, "1"), "--images", CalibrationPhotos,
		"--to", filepath.Join(base, "1")).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("inceptor quantize: %w: did `testenv/setup.sh bench` run?\n%s", err, out)
	}
	return base, nil
}
