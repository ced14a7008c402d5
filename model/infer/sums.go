package infer

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// SumsFile may lie in a version's directory. sha256sum writes it, with a line for each file: digest
// in hexadecimal, space, space or asterisk, path.
const SumsFile = "SHA256SUMS"

// MaxFiles bounds the files in a version's folder.
const MaxFiles = 100_000

// checkSums compares the files of a version with its SHA256SUMS. A version without one passes. It
// ends when ctx does.
func checkSums(ctx context.Context, dir string) error {
	f, err := os.Open(filepath.Join(dir, SumsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f) // a line of 64 KiB at most
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if line == "" {
			continue
		}
		sum, name, ok := strings.Cut(line, " ")
		want, err := hex.DecodeString(sum)
		if !ok || err != nil || len(want) != sha256.Size || name == "" || n > MaxFiles {
			return fmt.Errorf("%s: line %d is not a digest and a file: write the file with sha256sum", SumsFile, n)
		}
		name = filepath.Clean(filepath.FromSlash(name[1:]))
		if !filepath.IsLocal(name) {
			return fmt.Errorf("%s: line %d: %q is not in the version's directory", SumsFile, n, name)
		}
		got, err := sumOf(ctx, filepath.Join(dir, name))
		if err != nil {
			return fmt.Errorf("%s: line %d: %w", SumsFile, n, err)
		}
		if string(got) != string(want) {
			return fmt.Errorf("%s: %s has the digest %x, want %x: copy the file again", SumsFile, name, got, want)
		}
	}
	return lines.Err()
}

func sumOf(ctx context.Context, path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	for err == nil {
		if err = ctx.Err(); err == nil {
			_, err = io.CopyN(h, f, 1<<20)
		}
	}
	if !errors.Is(err, io.EOF) {
		return nil, err
	}
	return h.Sum(nil), nil
}
