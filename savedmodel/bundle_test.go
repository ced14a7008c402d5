package savedmodel

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/s2"
	"google.golang.org/protobuf/proto"

	"inceptor/savedmodel/tfpb"
)

type tableEntry struct{ key, value string }

// blockOf encodes entries as a block, in which keys share their beginnings.
func blockOf(entries []tableEntry) []byte {
	var b []byte
	last := ""
	for _, e := range entries {
		shared := 0
		for shared < min(len(last), len(e.key)) && last[shared] == e.key[shared] {
			shared++
		}
		b = binary.AppendUvarint(b, uint64(shared))
		b = binary.AppendUvarint(b, uint64(len(e.key)-shared))
		b = binary.AppendUvarint(b, uint64(len(e.value)))
		b = append(b, e.key[shared:]...)
		b = append(b, e.value...)
		last = e.key
	}
	b = binary.LittleEndian.AppendUint32(b, 0) // one restart point, at 0
	return binary.LittleEndian.AppendUint32(b, 1)
}

// A tableBuilder writes a table of the given blocks, valid or not.
type tableBuilder struct {
	out     []byte
	handles []tableEntry
}

func (b *tableBuilder) block(contents []byte, compression byte) string {
	handle := binary.AppendUvarint(nil, uint64(len(b.out)))
	handle = binary.AppendUvarint(handle, uint64(len(contents)))
	sealed := append(append([]byte{}, contents...), compression)
	b.out = append(b.out, sealed...)
	b.out = binary.LittleEndian.AppendUint32(b.out, maskCRC(crc32.Checksum(sealed, castagnoli)))
	return string(handle)
}

func (b *tableBuilder) data(contents []byte, compression byte) *tableBuilder {
	b.handles = append(b.handles, tableEntry{string(rune('a' + len(b.handles))), b.block(contents, compression)})
	return b
}

func (b *tableBuilder) finish() []byte {
	meta := b.block(blockOf(nil), tableUncompressed)
	index := b.block(blockOf(b.handles), tableUncompressed)
	footer := append([]byte(meta), index...)
	footer = append(footer, make([]byte, 40-len(footer))...)
	return append(b.out, binary.LittleEndian.AppendUint64(footer, tableMagic)...)
}

func tableOf(entries ...tableEntry) []byte {
	return new(tableBuilder).data(blockOf(entries), tableUncompressed).finish()
}

func message(m proto.Message) string {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func shapeProto(dims ...int64) *tfpb.TensorShapeProto {
	p := &tfpb.TensorShapeProto{}
	for _, d := range dims {
		p.Dim = append(p.Dim, &tfpb.TensorShapeProto_Dim{Size: d})
	}
	return p
}

func header(shards int32) tableEntry {
	return tableEntry{"", message(&tfpb.BundleHeaderProto{NumShards: shards, Version: &tfpb.VersionDef{Producer: 1}})}
}

func TestParseBundleIndex(t *testing.T) {
	entries := []tableEntry{
		header(2),
		{"layer/bias", message(&tfpb.BundleEntryProto{Dtype: tfpb.DataType_DT_FLOAT, Shape: shapeProto(3), Size: 12})},
		{"layer/kernel", message(&tfpb.BundleEntryProto{Dtype: tfpb.DataType_DT_HALF, Shape: shapeProto(2, 2), ShardId: 1, Offset: 4, Size: 8, Crc32C: 7})},
	}
	want := &bundleIndex{shards: 2, entries: []bundleEntry{
		{key: "layer/bias", dtype: Float32, shape: Shape{3}, size: 12},
		{key: "layer/kernel", dtype: Float16, shape: Shape{2, 2}, shard: 1, offset: 4, size: 8, crc32c: 7},
	}}
	tests := map[string][]byte{
		"one block":  tableOf(entries...),
		"two blocks": new(tableBuilder).data(blockOf(entries[:2]), 0).data(blockOf(entries[2:]), 0).finish(),
		"snappy":     new(tableBuilder).data(s2.EncodeSnappy(nil, blockOf(entries)), tableSnappy).finish(),
	}
	for name, table := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := parseBundleIndex(table)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(bundleIndex{}, bundleEntry{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(map[int32]int64{0: 12, 1: 12}, got.shardSizes()); diff != "" {
				t.Errorf("shards (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseBundleIndexMalformed(t *testing.T) {
	entry := func(e *tfpb.BundleEntryProto) []byte {
		return tableOf(header(1), tableEntry{"v", message(e)})
	}
	whole := entry(&tfpb.BundleEntryProto{Dtype: tfpb.DataType_DT_FLOAT, Shape: shapeProto(), Size: 4})
	damaged := func(at int) []byte {
		b := append([]byte{}, whole...)
		b[(at+len(b))%len(b)] ^= 0x10
		return b
	}
	tests := []struct {
		name, want string
		table      []byte
	}{
		{"empty", "at byte 0: the file ends", nil},
		{"a lone footer", "no block handle", append(append(make([]byte, 0, 48), strings.Repeat("\xff", 40)...), whole[len(whole)-8:]...)},
		{"short", "no magic number", whole[:len(whole)-1]},
		{"zeros", "no magic number", make([]byte, 4096)},
		{"damaged block", "checksum", damaged(3)},
		{"damaged trailer", "checksum", damaged(len(blockOf(nil)) + 20)},
		{"damaged magic", "no magic number", damaged(-1)},
		{"handle past the end", "a handle names", func() []byte {
			b := &tableBuilder{handles: []tableEntry{{"k", "\x80\x80\x80\x80\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"}}}
			return b.finish()
		}()},
		{"a block twice", "begins before the previous one ends", func() []byte {
			b := new(tableBuilder).data(blockOf([]tableEntry{header(1)}), 0)
			b.handles = append(b.handles, b.handles[0])
			return b.finish()
		}()},
		{"unknown compression", "unknown compression 9", new(tableBuilder).data(blockOf(nil), 9).finish()},
		{"bomb", "4 bytes claim to hold 52428800", new(tableBuilder).data([]byte{0x80, 0x80, 0x80, 0x19}, tableSnappy).finish()},
		{"damaged snappy", "compressed block", new(tableBuilder).data([]byte{9, 0xff, 0xff, 0xff, 0xff}, tableSnappy).finish()},
		{"restart points", "restart points", new(tableBuilder).data([]byte{0, 0, 0, 0, 200, 0, 0, 0}, 0).finish()},
		{"tiny block", "a block of 2 bytes", new(tableBuilder).data([]byte{0, 0}, 0).finish()},
		{"long value", "that shares 0", new(tableBuilder).data(append([]byte{0, 1, 100, 'k'}, blockOf(nil)...), 0).finish()},
		{"long key", "that shares 0", new(tableBuilder).data(append([]byte{0, 100, 1, 'k'}, blockOf(nil)...), 0).finish()},
		{"shared too much", "that shares 5", new(tableBuilder).data(append([]byte{5, 1, 0, 'k'}, blockOf(nil)...), 0).finish()},
		{"no header", "no header before", tableOf(tableEntry{"v", ""})},
		{"nothing", "no header", tableOf()},
		{"keys descend", `key "a" follows "b"`, tableOf(header(1),
			tableEntry{"b", message(&tfpb.BundleEntryProto{})}, tableEntry{"a", message(&tfpb.BundleEntryProto{})})},
		{"newer format", "needs a reader of version 2", tableOf(tableEntry{"", message(&tfpb.BundleHeaderProto{Version: &tfpb.VersionDef{MinConsumer: 2}})})},
		{"negative shards", "-1 shards", tableOf(header(-1))},
		{"no protobuf", `entry "v"`, tableOf(header(1), tableEntry{"v", "\xff"})},
		{"shard out of range", "in shard 1 of 1", entry(&tfpb.BundleEntryProto{ShardId: 1})},
		{"negative shard", "in shard -1 of 1", entry(&tfpb.BundleEntryProto{ShardId: -1})},
		{"negative offset", "at byte -1", entry(&tfpb.BundleEntryProto{Offset: -1})},
		{"negative size", "-1 bytes", entry(&tfpb.BundleEntryProto{Size: -1})},
		{"end overflows", "2 bytes at byte 9223372036854775806", entry(&tfpb.BundleEntryProto{Offset: math.MaxInt64 - 1, Size: 2})},
		{"size and shape", "4 bytes for float32 [2]", entry(&tfpb.BundleEntryProto{Dtype: tfpb.DataType_DT_FLOAT, Shape: shapeProto(2), Size: 4})},
		{"unknown dimension", "for float32 [N]", entry(&tfpb.BundleEntryProto{Dtype: tfpb.DataType_DT_FLOAT, Shape: shapeProto(-1), Size: 4})},
		{"slices overflow", "for float64", entry(&tfpb.BundleEntryProto{Dtype: tfpb.DataType_DT_DOUBLE, Shape: shapeProto(math.MaxInt64), Slices: []*tfpb.TensorSliceProto{{}}})},
		{"rank", "255 dimensions", entry(&tfpb.BundleEntryProto{Shape: shapeProto(make([]int64, 255)...)})},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := parseBundleIndex(test.table)
			if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want a malformed file: %s", err, test.want)
			}
		})
	}
}

// An index that is cut off anywhere is malformed.
func TestParseBundleIndexTruncated(t *testing.T) {
	b, err := os.ReadFile("testdata/tiny/variables/variables.index")
	if err != nil {
		t.Fatal(err)
	}
	for n := range b {
		if _, err := parseBundleIndex(b[:n]); !errors.Is(err, ErrMalformed) {
			t.Errorf("the first %d of %d bytes: %v", n, len(b), err)
		}
	}
}

func FuzzBundleIndex(f *testing.F) {
	for _, file := range []string{"testdata/tiny/variables/variables.index", "testdata/sharded/variables/variables.index"} {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, false, byte(0))
	}
	block := blockOf([]tableEntry{header(1), {"v", message(&tfpb.BundleEntryProto{Shape: shapeProto(2), Slices: []*tfpb.TensorSliceProto{{}}})}})
	f.Add(block, true, byte(tableUncompressed))
	f.Add(s2.EncodeSnappy(nil, block), true, byte(tableSnappy))
	f.Fuzz(func(t *testing.T, b []byte, wrap bool, compression byte) {
		if wrap { // past the checksums
			b = new(tableBuilder).data(b, compression).finish()
		}
		idx, err := parseBundleIndex(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("%v is not ErrMalformed", err)
			}
			return
		}
		for id, size := range idx.shardSizes() {
			if id < 0 || id >= idx.shards || size < 0 {
				t.Fatalf("shard %d of %d has %d bytes", id, idx.shards, size)
			}
		}
		for _, e := range idx.entries {
			if e.isSlice(); e.bytes() < 0 {
				t.Fatalf("%q has %d bytes", e.key, e.bytes())
			}
		}
	})
}
