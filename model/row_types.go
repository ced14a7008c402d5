package model

import (
	"math"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"inceptor/savedmodel"
)

// rowTypes are the dtypes that putElement knows, and strings.
var rowTypes = slices.Concat(pixelTypes, []savedmodel.DataType{savedmodel.Bool, savedmodel.String})

// putElement writes a JSON number or boolean as an element of a dtype; false:
// it is not one, or out of its range.
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
		x, err := strconv.ParseFloat(string(v), 64)
		bits, ok := narrowKinds[dtype].narrow(x)
		order.PutUint16(to, bits)
		return err == nil && ok
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

// putInteger writes the lowest bytes of x, as many as there are.
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

// A narrowKind is a kind of floating-point number of 16 bits.
type narrowKind struct {
	fraction int // bits
	bias     int // of the exponent
	infinity uint16
}

var narrowKinds = map[savedmodel.DataType]narrowKind{
	savedmodel.Float16:  {10, 15, 0x7c00},
	savedmodel.BFloat16: {7, 127, 0x7f80},
}

// narrow is the nearest number to x, of two as near the even one; false: x is too large.
func (k narrowKind) narrow(x float64) (bits uint16, ok bool) {
	sign := uint16(0)
	if math.Signbit(x) {
		sign = 1 << 15
	}
	if x == 0 {
		return sign, true
	}
	_, exponent := math.Frexp(x) // |x| is 1.… × 2^(exponent-1)
	exponent = max(exponent-1, 1-k.bias)
	n := math.RoundToEven(math.Ldexp(math.Abs(x), k.fraction-exponent)) // with the leading 1, if it has one
	if exponent > k.bias {
		return sign | k.infinity, false
	}
	bits = uint16((exponent+k.bias-1)<<k.fraction + int(n))
	return sign | bits, bits < k.infinity
}
