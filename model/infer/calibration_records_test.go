package infer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"inceptor/model/internal/modeltest"
	"inceptor/savedmodel"
	"inceptor/testenv"
)

// tfRecordFile returns a TFRecord file.
func tfRecordFile(records ...[]byte) []byte {
	var file bytes.Buffer
	sum := func(b []byte) []byte { // masked CRC-32C
		c := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
		return binary.LittleEndian.AppendUint32(nil, (c>>15|c<<17)+0xa282ead8)
	}
	for _, r := range records {
		length := binary.LittleEndian.AppendUint64(nil, uint64(len(r)))
		for _, part := range [][]byte{length, sum(length), r, sum(r)} {
			file.Write(part)
		}
	}
	return file.Bytes()
}

// The version's golden images, its warm-up request for the signature, and what lies in its folder
// are used; what cannot be used is skipped and told in one line.
func TestAddOwn(t *testing.T) {
	dir := filepath.Join(modeltest.CopyVersion(t, testenv.Model(t)), "1")
	photo := readPhoto(t, "chelsea.png")
	write := func(name string, content []byte) {
		t.Helper()
		modeltest.Write(t, filepath.Join(dir, name), content)
	}
	v, err := loadWith(t, optionsIn(savedmodel.PrecisionFloat32), dir)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	v.log = slog.New(slog.NewTextHandler(&log, nil))
	c, err := v.NewCalibrator(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	add := func(most, want, skipped int) {
		t.Helper()
		log.Reset()
		before := c.Calibration().Records
		added, err := c.AddOwn(t.Context(), most)
		if err != nil || added != want || c.Calibration().Records != before+want {
			t.Errorf("%d were added (%v), want %d: %s", added, err, want, log.String())
		}
		lines := strings.Count(log.String(), "\n")
		if lines != min(skipped, 1) || skipped > 0 && !strings.Contains(log.String(), "records="+string(rune('0'+skipped))) {
			t.Errorf("%d are skipped, want %d: %s", lines, skipped, log.String())
		}
	}
	add(100, 1, 0) // the warm-up request with pixels

	write(GoldenFile, []byte("[{image: a.png, label: Neutral}, {image: gone.png, label: Neutral}, {image: ../../../secret, label: Neutral}]\n"))
	write("assets.extra/golden/a.png", photo)
	add(100, 2, 2)

	write(CalibrationFolder+"/b/photo", photo)
	write(CalibrationFolder+"/.hidden", []byte("x"))
	write(CalibrationFolder+"/README.txt", []byte("photos"))
	write(CalibrationFolder+"/c.tfrecord", tfRecordFile(photo, exampleOf("image/encoded", photo), exampleOf("image/format", photo)))
	cut := tfRecordFile(photo, photo)
	write(CalibrationFolder+"/d.tfrecord", cut[:len(cut)-1])
	add(100, 6, 5)
	add(3, 3, 3)
	add(1, 1, 0)

	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if added, err := c.AddOwn(canceled, 100); added != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %d, %v", added, err)
	}
}

func TestImageOf(t *testing.T) {
	good := exampleOf("image/encoded", []byte("picture"))
	for name, test := range map[string]struct {
		example []byte
		want    string
	}{
		"an image":        {good, "picture"},
		"after a field":   {append([]byte{0x10, 1}, good...), "picture"}, // number 2, a varint
		"another feature": {exampleOf("image/format", []byte("jpeg")), ""},
		"cut off":         {good[:len(good)-1], ""},
		"no message":      {[]byte("\xff\xd8\xff\xe0"), ""},
		"empty":           {nil, ""},
	} {
		if got := imageOf(test.example); string(got) != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
