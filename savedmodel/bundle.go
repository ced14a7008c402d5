package savedmodel

import (
	"fmt"
	"math"

	"google.golang.org/protobuf/proto"

	"inceptor/savedmodel/tfpb"
)

// A SavedModel's variables are a tensor bundle (tensorflow/core/util/tensor_bundle). The table
// variables.index maps the empty key to a header and each tensor's key to a BundleEntryProto. The
// shards, variables.data-00000-of-00001 and so on, hold the bytes that the entries point to.
const (
	variablesPrefix = "variables/variables"
	indexFile       = variablesPrefix + ".index"

	// bundleVersion is the newest format that this reader, like TensorFlow's, supports.
	bundleVersion = 1

	maxIndexBytes    = 64 << 20 // some 500,000 variables
	maxBundleTensors = 1 << 20
	maxBundleEntry   = 1 << 20 // bytes; large only for variables in very many parts
	maxRank          = 254     // TensorShape::MaxDimensions
)

type bundleIndex struct {
	shards    int32
	bigEndian bool          // byte order of the shards' values
	entries   []bundleEntry // by ascending key
}

// A bundleEntry is the part of a BundleEntryProto that is needed. An index may have very many.
type bundleEntry struct {
	key    string
	dtype  DataType
	shape  Shape
	shard  int32
	offset int64
	size   int64 // bytes
	crc32c uint32
	sliced bool // the bytes are in other entries; shard, offset and size mean nothing
}

// isSlice says whether the entry holds a part of a partitioned variable. The whole variable has an
// entry of its own, without bytes. EncodeTensorNameSlice in
// tensorflow/core/util/saved_tensor_slice_util.cc makes the parts' keys. They begin with a zero
// byte, which no name does.
func (e bundleEntry) isSlice() bool { return e.key[0] == 0 }

// parseBundleIndex parses the contents of a variables.index. Its errors wrap ErrMalformed.
func parseBundleIndex(b []byte) (*bundleIndex, error) {
	var (
		idx    bundleIndex
		header bool
		entry  tfpb.BundleEntryProto
	)
	err := walkTable(b, func(key, value []byte) error {
		if len(key) == 0 {
			header = true
			return idx.readHeader(value)
		}
		if !header {
			return fmt.Errorf("%w: no header before key %q", ErrMalformed, key)
		}
		if len(idx.entries) == maxBundleTensors {
			return fmt.Errorf("%w: more than %d tensors", ErrMalformed, maxBundleTensors)
		}
		e, err := idx.readEntry(string(key), value, &entry)
		if err != nil {
			return fmt.Errorf("%w: entry %q: %w", ErrMalformed, key, err)
		}
		idx.entries = append(idx.entries, e)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if !header {
		return nil, fmt.Errorf("%w: no header", ErrMalformed)
	}
	return &idx, nil
}

func (idx *bundleIndex) readHeader(value []byte) error {
	var h tfpb.BundleHeaderProto
	if err := proto.Unmarshal(value, &h); err != nil {
		return fmt.Errorf("%w: header: %w", ErrMalformed, err)
	}
	if v := h.GetVersion().GetMinConsumer(); v > bundleVersion {
		return fmt.Errorf("%w: header: needs a reader of version %d, this one knows %d", ErrMalformed, v, bundleVersion)
	}
	if h.GetNumShards() < 0 {
		return fmt.Errorf("%w: header: %d shards", ErrMalformed, h.GetNumShards())
	}
	idx.shards = h.GetNumShards()
	idx.bigEndian = h.GetEndianness() == tfpb.BundleHeaderProto_BIG
	return nil
}

// readEntry parses an entry and refuses what TensorFlow would refuse. It uses p as scratch memory.
func (idx *bundleIndex) readEntry(key string, value []byte, p *tfpb.BundleEntryProto) (bundleEntry, error) {
	if len(value) > maxBundleEntry {
		return bundleEntry{}, fmt.Errorf("%d bytes long, the limit is %d", len(value), maxBundleEntry)
	}
	if err := proto.Unmarshal(value, p); err != nil {
		return bundleEntry{}, err
	}
	e := bundleEntry{
		key:    key,
		dtype:  DataType(p.GetDtype()),
		shape:  shapeOf(p.GetShape()),
		shard:  p.GetShardId(),
		offset: p.GetOffset(),
		size:   p.GetSize(),
		crc32c: p.GetCrc32C(),
		sliced: len(p.GetSlices()) > 0,
	}
	if len(e.shape) > maxRank {
		return bundleEntry{}, fmt.Errorf("%d dimensions, the limit is %d", len(e.shape), maxRank)
	}
	if !e.sliced {
		if e.shard < 0 || e.shard >= idx.shards {
			return bundleEntry{}, fmt.Errorf("in shard %d of %d", e.shard, idx.shards)
		}
		if e.offset < 0 || e.size < 0 || e.offset > math.MaxInt64-e.size {
			return bundleEntry{}, fmt.Errorf("%d bytes at byte %d", e.size, e.offset)
		}
	}
	if width := int64(e.dtype.Size()); width > 0 {
		n, ok := e.shape.Elements()
		if !ok || n > math.MaxInt64/width || !e.sliced && n*width != e.size {
			return bundleEntry{}, fmt.Errorf("%d bytes for %v %v", e.size, e.dtype, e.shape)
		}
	}
	return e, nil
}

// bytes returns the size of the whole tensor's value.
func (e bundleEntry) bytes() int64 {
	if !e.sliced {
		return e.size
	}
	n, _ := e.shape.Elements()
	return n * int64(e.dtype.Size())
}

// shardSizes returns the size that each shard must have. It leaves out shards that no entry names.
func (idx *bundleIndex) shardSizes() map[int32]int64 {
	sizes := make(map[int32]int64)
	for _, e := range idx.entries {
		if !e.sliced {
			sizes[e.shard] = max(sizes[e.shard], e.offset+e.size)
		}
	}
	return sizes
}

// shardFile returns the path of a shard in the version's directory.
func (idx *bundleIndex) shardFile(id int32) string {
	return fmt.Sprintf("%s.data-%05d-of-%05d", variablesPrefix, id, idx.shards)
}
