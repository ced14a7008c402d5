package infer

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"inceptor/savedmodel"
)

// rowSignature binds a signature with these inputs to rows.
func rowSignature(t testing.TB, inputs map[string]savedmodel.TensorInfo) (signature, error) {
	t.Helper()
	spec := defaultSpec()
	return spec.bind(modelMetadata{signatures: map[string]savedmodel.Signature{spec.Signature: {
		Inputs:  inputs,
		Outputs: map[string]savedmodel.TensorInfo{"scores": {DType: savedmodel.Float32, Shape: savedmodel.Shape{-1}}},
	}}}, Rows)
}

func input(dtype savedmodel.DataType, shape ...int64) savedmodel.TensorInfo {
	return savedmodel.TensorInfo{DType: dtype, Shape: append(savedmodel.Shape{-1}, shape...)}
}

func readerOf(t testing.TB, inputs map[string]savedmodel.TensorInfo) *rowReader {
	t.Helper()
	sig, err := rowSignature(t, inputs)
	if err != nil {
		t.Fatal(err)
	}
	return newRowReader(sig.feeds)
}

func TestRow(t *testing.T) {
	one := map[string]savedmodel.TensorInfo{"x": input(savedmodel.Float32, 2, 2)}
	word := map[string]savedmodel.TensorInfo{"word": input(savedmodel.String)}
	many := map[string]savedmodel.TensorInfo{
		"f": input(savedmodel.Float64), "i": input(savedmodel.Int32, 2), "l": input(savedmodel.Int64),
		"u": input(savedmodel.UInt8), "b": input(savedmodel.Bool, 2), "s": input(savedmodel.String, 2),
	}
	const full = `{"s":["a\u00e9",{"b64":"AP8="}],"f":-1e300,"l":-9223372036854775808,"i":[2147483647,-1],"u":255,"b":[true,false]}`
	small := map[string]savedmodel.TensorInfo{
		"a": input(savedmodel.Float16, 3), "b": input(savedmodel.Float16, 3), "c": input(savedmodel.BFloat16, 2), "d": input(savedmodel.Int8),
		"e": input(savedmodel.Int16), "f": input(savedmodel.UInt16), "g": input(savedmodel.UInt32), "h": input(savedmodel.UInt64),
	}
	const smallest = `{"a":[1,-65519,6e-8],"b":[-2e-8,1.0006,1.0004],"c":[-1.005,3.39e38],"d":-128,"e":-32768,"f":65535,"g":4294967295,"h":18446744073709551615}`
	for _, c := range []struct {
		name    string
		inputs  map[string]savedmodel.TensorInfo
		value   string
		want    string // of show
		failure string // part of the error
	}{
		{name: "value alone", inputs: one, value: ` [[1, 2.5], [-3e-2,0]] `, want: `float32[1 2.5 -0.03 0]`},
		{name: "named", inputs: one, value: `{"x":[[1,2],[3,4]]}`, want: `float32[1 2 3 4]`},
		{name: "all types", inputs: many, value: full, want: `b[1 0] -1e+300 [2147483647 -1] -9223372036854775808 "aé" "\x00\xff" 255`},
		{name: "small types", inputs: small, value: smallest, want: `float16[1 -65504 5.9604645e-08] float16[-0 1.0009766 1] bfloat16[-1.0078125 3.3895314e+38] -128 -32768 65535 4294967295 18446744073709551615`},
		{name: "string", inputs: word, value: `"hello"`, want: `"hello"`},
		{name: "binary", inputs: word, value: `{"b64":"aGk="}`, want: `"hi"`},
		{name: "binary, named", inputs: word, value: `{"word":{"b64":"aGk="}}`, want: `"hi"`},

		{name: "nothing", inputs: one, value: ``, failure: "EOF"},
		{name: "not JSON", inputs: one, value: `[[1,2],[3 4]]`, failure: `after array element`},
		{name: "not finite", inputs: one, value: `[[1,2],[3,NaN]]`, failure: "invalid character 'N'"},
		{name: "too large for float32", inputs: one, value: `[[1,2],[3,1e39]]`, failure: `/1/1: 1e39 is not float32`},
		{name: "short list", inputs: one, value: `[[1,2],[3]]`, failure: `/1/0: a list of 1, want 2`},
		{name: "long list", inputs: one, value: `[[1,2],[3,4],[5,6]]`, failure: `/1: a list of more than 2`},
		{name: "flat", inputs: one, value: `[1,2,3,4]`, failure: `/0: 1, want a list of 2`},
		{name: "word for a number", inputs: one, value: `[[1,"2"],[3,4]]`, failure: `/0/1: "2", want float32`},
		{name: "null", inputs: one, value: `[[1,null],[3,4]]`, failure: `/0/1: null, want float32`},
		{name: "long value", inputs: one, value: `"` + strings.Repeat("a", 1000) + `"`, failure: "…, want a list of 2"},
		{name: "two rows", inputs: one, value: `[[1,2],[3,4]] [[1,2],[3,4]]`, failure: "more JSON after the row"},
		{name: "other input", inputs: one, value: `{"y":[[1,2],[3,4]]}`, failure: `no such input, only ["x"]`},
		{name: "input twice", inputs: one, value: `{"x":[[1,2],[3,4]],"x":[[1,2],[3,4]]}`, failure: `duplicate`},
		{name: "no input", inputs: one, value: `{}`, failure: `the input "x" is missing`},
		{name: "missing input", inputs: many, value: strings.Replace(full, `"u":255,`, "", 1), failure: `the input "u" is missing`},
		{name: "list for many", inputs: many, value: `[1]`, failure: `want an object with the inputs ["b" "f" "i" "l" "s" "u"]`},
		{name: "fraction", inputs: many, value: strings.Replace(full, `255`, "1.0", 1), failure: `/u: 1.0 is not uint8`},
		{name: "out of range", inputs: many, value: strings.Replace(full, `255`, "256", 1), failure: `/u: 256 is not uint8`},
		{name: "too large for float16", inputs: small, value: strings.Replace(smallest, "-65519", "65520", 1), failure: `/a/1: 65520 is not float16`},
		{name: "too large for bfloat16", inputs: small, value: strings.Replace(smallest, "3.39e38", "-3.4e38", 1), failure: `/c/1: -3.4e38 is not bfloat16`},
		{name: "out of int8", inputs: small, value: strings.Replace(smallest, "-128", "128", 1), failure: `/d: 128 is not int8`},
		{name: "below zero", inputs: small, value: strings.Replace(smallest, "18446744073709551615", "-1", 1), failure: `/h: -1 is not uint64`},
		{name: "number for a bool", inputs: many, value: strings.Replace(full, `true`, "1", 1), failure: `/b/0: 1, want bool`},
		{name: "number for a string", inputs: word, value: `7`, failure: `7, want string`},
		{name: "bad base64", inputs: word, value: `{"b64":"?"}`, failure: `/b64: base64`},
		{name: "no base64", inputs: word, value: `{"word":{"b64":1}}`, failure: `1, want base64`},
		{name: "more than base64", inputs: word, value: `{"word":{"b64":"","c":1}}`, failure: `more keys after "b64"`},
		{name: "object for a string", inputs: word, value: `{"word":{"a":1}}`, failure: `want a string or {"b64"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := readerOf(t, c.inputs)
			for range 2 { // the second time in the same memory
				it, err := p.item(t.Context(), []byte(c.value), Header{})
				if c.failure != "" {
					var guilty *InputError
					if !errors.As(err, &guilty) || guilty.Reason != ReasonBadRow || !strings.Contains(err.Error(), c.failure) || len(err.Error()) > 300 {
						t.Fatalf("got %v, want %s", err, c.failure)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if got := show(p.feeds, it.row); got != c.want {
					t.Errorf("got %s, want %s", got, c.want)
				}
				it.close()
			}
		})
	}
}

// show returns the values of a row as text, input by input.
func show(feeds []feed, r *row) string {
	var parts []string
	for _, f := range feeds {
		b := r.numbers[min(f.offset, len(r.numbers)):]
		var v any
		switch f.dtype {
		case savedmodel.Bool:
			parts = append(parts, fmt.Sprintf("b%d", b[:2]))
			continue
		case savedmodel.UInt8:
			v = b[0]
		case savedmodel.Int8:
			v = int8(b[0])
		case savedmodel.Int16:
			v = int16(order.Uint16(b))
		case savedmodel.UInt16:
			v = order.Uint16(b)
		case savedmodel.UInt32:
			v = order.Uint32(b)
		case savedmodel.UInt64:
			v = order.Uint64(b)
		case savedmodel.Float16, savedmodel.BFloat16:
			var all []float32
			for i := range f.count {
				all = append(all, widened(f.dtype, order.Uint16(b[2*i:])))
			}
			v = fmt.Sprintf("%v%v", f.dtype, all)
		case savedmodel.Int32:
			var all []int32
			for i := range f.count {
				all = append(all, int32(order.Uint32(b[4*i:])))
			}
			v = all
		case savedmodel.Int64:
			v = int64(order.Uint64(b))
		case savedmodel.Float64:
			v = math.Float64frombits(order.Uint64(b))
		case savedmodel.Float32:
			var all []float32
			for i := range f.count {
				all = append(all, math.Float32frombits(order.Uint32(b[4*i:])))
			}
			v = fmt.Sprintf("float32%v", all)
		default:
			for _, s := range r.strings[f.offset:][:f.count] {
				parts = append(parts, fmt.Sprintf("%q", s))
			}
			continue
		}
		parts = append(parts, fmt.Sprint(v))
	}
	return strings.Join(parts, " ")
}

// widened returns the value of a float of 16 bits.
func widened(dtype savedmodel.DataType, bits uint16) float32 {
	if dtype == savedmodel.BFloat16 {
		return math.Float32frombits(uint32(bits) << 16)
	}
	sign, exponent, fraction := 1-2*float64(bits>>15), int(bits>>10&31), float64(bits&1023)/1024
	if exponent == 0 {
		return float32(sign * math.Ldexp(fraction, -14))
	}
	return float32(sign * math.Ldexp(1+fraction, exponent-15))
}

// A number becomes the nearest float of 16 bits, and the even one of two. A number that would be
// infinite is refused.
func TestRowOf16Bits(t *testing.T) {
	put := func(dtype savedmodel.DataType, text string) (uint16, bool) {
		to := make([]byte, 2)
		ok := putElement(to, dtype, jsontext.Value(text))
		return order.Uint16(to), ok
	}
	for _, dtype := range []savedmodel.DataType{savedmodel.Float16, savedmodel.BFloat16} {
		infinity := infinity[dtype]
		for bits := range infinity {
			x := float64(widened(dtype, bits))
			next := float64(widened(dtype, bits+1))
			if bits+1 == infinity {
				next = 2*x - float64(widened(dtype, bits-1))
			}
			middle := float32((x + next) / 2)
			even := bits + bits&1
			for _, test := range []struct {
				x    float32
				want uint16
			}{{float32(x), bits}, {math.Nextafter32(middle, 0), bits}, {middle, even}, {math.Nextafter32(middle, math.MaxFloat32), bits + 1}} {
				text := strconv.FormatFloat(float64(test.x), 'g', -1, 32)
				got, ok := put(dtype, text)
				minus, _ := put(dtype, "-"+text)
				if got != test.want || minus != test.want|signBit || ok != (test.want < infinity) {
					t.Fatalf("%s as %v: got %#x, %#x, %v, want %#x", text, dtype, got, minus, ok, test.want)
				}
			}
		}
		if _, ok := put(dtype, "1e39"); ok {
			t.Errorf("%v has 1e39", dtype)
		}
	}
}

func TestBindRow(t *testing.T) {
	half := map[string]savedmodel.TensorInfo{"x": input(savedmodel.Float32, 1<<23), "y": input(savedmodel.String, 1<<23)}
	if _, err := rowSignature(t, half); err != nil {
		t.Errorf("two inputs of as much as a row may have: got %v", err)
	}
	half["z"] = input(savedmodel.Int64)
	if _, err := rowSignature(t, half); err == nil || !strings.Contains(err.Error(), "a row has over 16777216 elements") {
		t.Errorf("three inputs of more than a row may have: got %v", err)
	}
	for name, c := range map[string]struct {
		input savedmodel.TensorInfo
		want  string
	}{
		"unknown rank":  {savedmodel.TensorInfo{DType: savedmodel.Float32}, "rows need [N, …]: export it with a batch of None"},
		"scalar":        {savedmodel.TensorInfo{DType: savedmodel.Float32, Shape: savedmodel.Shape{}}, "rows need [N, …]: export it with a batch of None"},
		"any length":    {input(savedmodel.Float32, -1), "does not tell the size of a row"},
		"empty":         {input(savedmodel.Float32, 0), "does not tell the size of a row"},
		"huge":          {input(savedmodel.Float32, 1<<13, 1<<13), "over 16777216"},
		"type":          {input(savedmodel.Complex64), "complex64 [N]; rows can have float16, "},
		"fixed batch":   {savedmodel.TensorInfo{DType: savedmodel.Int64, Shape: savedmodel.Shape{1025}}, "takes batches of exactly 1025, which is over 1024: export it with a batch of None"},
		"alone is fine": {savedmodel.TensorInfo{DType: savedmodel.Int64, Shape: savedmodel.Shape{1, 3}}, ""},
	} {
		sig, err := rowSignature(t, map[string]savedmodel.TensorInfo{"x": c.input})
		if c.want == "" {
			if err != nil || sig.batch != 1 || sig.classes != 1 {
				t.Errorf("%s: got %+v, %v", name, sig, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
}

// The reader accepts what encoding/json accepts in the same shape.
func FuzzRow(f *testing.F) {
	p := readerOf(f, map[string]savedmodel.TensorInfo{"x": input(savedmodel.Float32, 2), "y": input(savedmodel.Int32)})
	f.Add([]byte(`{"x":[1,2],"y":3}`))
	f.Add([]byte(`{"y":-0,"x":[1e-50,1E5]}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		it, err := p.item(t.Context(), value, Header{})
		if err != nil {
			if !errors.As(err, new(*InputError)) {
				t.Fatal(err)
			}
			return
		}
		defer it.close()
		var want struct {
			X [2]float32
			Y int32
		}
		if err := json.Unmarshal(value, &want); err != nil {
			t.Fatalf("%q: %v", value, err)
		}
		if got, want := show(p.feeds, it.row), fmt.Sprintf("float32%v [%d]", want.X, want.Y); got != want {
			t.Fatalf("%q: %s, want %s", value, got, want)
		}
	})
}
