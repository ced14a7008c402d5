package model

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

// sumsFile may lie in a version's directory: what sha256sum writes, a line for
// each file, "hex digest, space, space or asterisk, path".
const sumsFile = "SHA256SUMS"

// checkSums compares the files that the version's SHA256SUMS lists with what it
// says. A version without it passes. It ends when ctx does.
func checkSums(ctx context.Context, dir string) error {
	f, err := os.Open(filepath.Join(dir, sumsFile))
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
		if !ok || err != nil || len(want) != sha256.Size || name == "" || n > maxFiles {
			return fmt.Errorf("%s: line %d is not a digest and a file", sumsFile, n)
		}
		name = filepath.Clean(filepath.FromSlash(name[1:]))
		if !filepath.IsLocal(name) {
			return fmt.Errorf("%s: line %d: %q is not below it", sumsFile, n, name)
		}
		got, err := sumOf(ctx, filepath.Join(dir, name))
		if err != nil {
			return fmt.Errorf("%s: line %d: %w", sumsFile, n, err)
		}
		if string(got) != string(want) {
			return fmt.Errorf("%s: %s has the digest %x, not %x", sumsFile, name, got, want)
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
