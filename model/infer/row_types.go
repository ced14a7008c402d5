package infer

import (
	"math"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"inceptor/model/pixels"
	"inceptor/savedmodel"
)

// rowTypes are the types that rows can have: those of putElement, and strings.
var rowTypes = slices.Concat(pixelTypes, []savedmodel.DataType{savedmodel.Bool, savedmodel.String})

// putElement writes a JSON number or boolean as an element of a type; false: it is not of the type,
// or out of its range.
func putElement(to []byte, dtype savedmodel.DataType, v jsontext.Value) bool {
	switch dtype {
	case savedmodel.Float32:
		x, err := strconv.ParseFloat(string(v), 32)
		order.PutUint32(to, math.Float32bits(float32(x)))
		return err == nil
	case savedmodel.Float64:
		x, err := strconv.ParseFloat(string(v), 64)
		order.PutUint64(to, math.Float64bits(x))
		return err == nil
	case savedmodel.Float16, savedmodel.BFloat16:
		x, err := strconv.ParseFloat(string(v), 32)
		pixels.Cast(to, dtype, float32(x))
		return err == nil && order.Uint16(to)&^signBit < infinity[dtype]
	case savedmodel.Int8, savedmodel.Int16, savedmodel.Int32, savedmodel.Int64:
		x, err := strconv.ParseInt(string(v), 10, 8*dtype.Size())
		putInteger(to, uint64(x))
		return err == nil
	case savedmodel.UInt8, savedmodel.UInt16, savedmodel.UInt32, savedmodel.UInt64:
		x, err := strconv.ParseUint(string(v), 10, 8*dtype.Size())
		putInteger(to, x)
		return err == nil
	case savedmodel.Bool:
		to[0] = 0
		if v[0] == 't' {
			to[0] = 1
		}
		return true
	}
	return false
}

// putInteger fills a slice with the lowest bytes of x.
func putInteger(to []byte, x uint64) {
	switch len(to) {
	case 1:
		to[0] = byte(x)
	case 2:
		order.PutUint16(to, uint16(x))
	case 4:
		order.PutUint32(to, uint32(x))
	case 8:
		order.PutUint64(to, x)
	}
}

// infinity has the bits of +Inf in the floats of 16 bits. Numbers that are too large become it.
var infinity = map[savedmodel.DataType]uint16{savedmodel.Float16: 0x7c00, savedmodel.BFloat16: 0x7f80}

const signBit = 1 << 15 // of a float of 16 bits
