package savedmodel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func tfRecord(data string) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(data)))
	b = binary.LittleEndian.AppendUint32(b, maskedChecksum(b))
	b = append(b, data...)
	return binary.LittleEndian.AppendUint32(b, maskedChecksum([]byte(data)))
}

func readRecords(r io.Reader, max int) ([]string, error) {
	records := NewTFRecordReader(r, max)
	var got []string
	for {
		b, err := records.Next()
		if err != nil {
			return got, err
		}
		got = append(got, string(b))
	}
}

func TestTFRecordReader(t *testing.T) {
	good := append(append(tfRecord("one"), tfRecord("")...), tfRecord("three")...)
	broken := errors.New("disk on fire")
	huge := binary.LittleEndian.AppendUint64(nil, 1<<62)
	huge = binary.LittleEndian.AppendUint32(huge, maskedChecksum(huge))
	flip := func(at int) []byte {
		b := bytes.Clone(good)
		b[at] ^= 1
		return b
	}
	tests := []struct {
		name string
		in   io.Reader
		max  int
		want []string
		err  string
	}{
		{"empty", strings.NewReader(""), 5, nil, "EOF"},
		{"records", bytes.NewReader(good), 5, []string{"one", "", "three"}, "EOF"},
		{"byte by byte", iotest.OneByteReader(bytes.NewReader(good)), 5, []string{"one", "", "three"}, "EOF"},
		{"too large", bytes.NewReader(good), 4, []string{"one", ""}, "malformed at byte 35: record 2: it has 5 bytes, the limit is 4"},
		{"ends in a header", bytes.NewReader(good[:20]), 5, []string{"one"}, "malformed at byte 19: record 1: the file ends after 1 of the 12 bytes of its header"},
		{"ends in data", bytes.NewReader(good[:len(good)-1]), 5, []string{"one", ""}, "malformed at byte 35: record 2: the file ends after 8 of its 9 bytes"},
		{"length flipped", bytes.NewReader(flip(0)), 5, nil, "malformed at byte 0: record 0: the length's checksum is"},
		{"data flipped", bytes.NewReader(flip(12)), 5, nil, "malformed at byte 0: record 0: the data's checksum is"},
		{"a length of 2^62", bytes.NewReader(huge), 1 << 62, nil, "malformed at byte 0: record 0: the file ends after 0 of its"},
		{"reading fails", io.MultiReader(bytes.NewReader(good[:25]), iotest.ErrReader(broken)), 5, []string{"one"}, "record 1 at byte 19: disk on fire"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := readRecords(test.in, test.max)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("records (-want +got):\n%s", diff)
			}
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("error %v, want %s", err, test.err)
			}
			if want := strings.HasPrefix(test.err, "malformed"); errors.Is(err, ErrMalformed) != want {
				t.Errorf("error %v: malformed is %t", err, !want)
			}
		})
	}
}

func FuzzTFRecord(f *testing.F) {
	b, err := os.ReadFile("testdata/tiny/" + WarmupFile)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(tfRecord("x"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		const limit = 1 << 20
		got, err := readRecords(bytes.NewReader(b), limit)
		if !errors.Is(err, io.EOF) && !errors.Is(err, ErrMalformed) {
			t.Fatalf("%v is neither the end nor ErrMalformed", err)
		}
		var again []byte
		for _, r := range got {
			again = append(again, tfRecord(r)...)
		}
		if !bytes.HasPrefix(b, again) {
			t.Fatal("the records are not what the file holds")
		}
		if errors.Is(err, io.EOF) && len(again) != len(b) {
			t.Fatalf("%d of %d bytes read", len(again), len(b))
		}
		w := &Warmup{Signatures: make(map[string]int)}
		if err := w.read(bytes.NewReader(b)); err != nil && !errors.Is(err, ErrMalformed) {
			t.Fatal(err)
		}
	})
}
