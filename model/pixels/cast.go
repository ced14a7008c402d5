package pixels

import (
	"encoding/binary"
	"math"

	"inceptor/savedmodel"
)

// castable reports whether Cast can write a type.
func castable(d savedmodel.DataType) bool {
	switch d {
	case savedmodel.Float16, savedmodel.BFloat16, savedmodel.Float32, savedmodel.Float64,
		savedmodel.Int8, savedmodel.Int16, savedmodel.Int32, savedmodel.Int64,
		savedmodel.UInt8, savedmodel.UInt16, savedmodel.UInt32, savedmodel.UInt64:
		return true
	}
	return false
}

// Range returns the least and the largest float32 that an integer type can hold; false: the
// type is not one of integers.
func Range(d savedmodel.DataType) (low, high float32, ok bool) {
	switch d {
	case savedmodel.UInt8:
		return 0, math.MaxUint8, true
	case savedmodel.Int8:
		return math.MinInt8, math.MaxInt8, true
	case savedmodel.UInt16:
		return 0, math.MaxUint16, true
	case savedmodel.Int16:
		return math.MinInt16, math.MaxInt16, true
	case savedmodel.UInt32:
		return 0, 1<<32 - 1<<8, true
	case savedmodel.Int32:
		return -1 << 31, 1<<31 - 1<<7, true
	case savedmodel.UInt64:
		return 0, 1<<64 - 1<<40, true
	case savedmodel.Int64:
		return -1 << 63, 1<<63 - 1<<39, true
	}
	return 0, 0, false
}

// Cast writes a number as tf.cast converts it. Integers lose their fraction; floats are rounded
// to the nearest, and to even between two. A number outside the range of an integer type is
// undefined, as with tf.cast.
func Cast(to []byte, d savedmodel.DataType, v float32) {
	switch d {
	case savedmodel.Float32:
		binary.LittleEndian.PutUint32(to, math.Float32bits(v))
	case savedmodel.Float16:
		binary.LittleEndian.PutUint16(to, float16(v))
	case savedmodel.BFloat16:
		binary.LittleEndian.PutUint16(to, bfloat16(v))
	case savedmodel.Float64:
		binary.LittleEndian.PutUint64(to, math.Float64bits(float64(v)))
	case savedmodel.Int8, savedmodel.UInt8:
		to[0] = byte(int32(v))
	case savedmodel.Int16, savedmodel.UInt16:
		binary.LittleEndian.PutUint16(to, uint16(int32(v)))
	case savedmodel.Int32, savedmodel.UInt32:
		binary.LittleEndian.PutUint32(to, uint32(int64(v)))
	case savedmodel.Int64:
		binary.LittleEndian.PutUint64(to, uint64(int64(v)))
	case savedmodel.UInt64:
		binary.LittleEndian.PutUint64(to, uint64(v))
	}
}

// float16 returns a number's bits in IEEE 754 half precision.
func float16(v float32) uint16 {
	const (
		mantissa = 10
		dropped  = 23 - mantissa
		bias     = 127 - 15
		infinity = 0x7c00
	)
	bits := math.Float32bits(v)
	sign, bits := uint16(bits>>16&0x8000), bits&0x7fffffff
	exponent := int(bits>>23) - bias
	switch {
	case bits > 0x7f800000:
		return sign | infinity | 1<<(mantissa-1) // not a number
	case exponent >= 31:
		return sign | infinity
	case exponent > 0:
		// A carry moves into the exponent, and at last gives infinity.
		return sign | uint16(roundOff(bits, dropped)-bias<<mantissa)
	case exponent < -mantissa:
		return sign
	}
	return sign | uint16(roundOff(bits&(1<<23-1)|1<<23, dropped+1-exponent)) // subnormal
}

// bfloat16 returns a number's bits in bfloat16.
func bfloat16(v float32) uint16 {
	bits := math.Float32bits(v)
	if bits&0x7fffffff > 0x7f800000 {
		return uint16(bits>>16) | 1<<6 // not a number
	}
	return uint16(roundOff(bits, 16))
}

// roundOff drops the lowest n bits and rounds to the nearest, to even between two.
func roundOff(bits uint32, n int) uint32 {
	return (bits + 1<<(n-1) - 1 + bits>>n&1) >> n
}
