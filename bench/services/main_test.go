package main

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"inceptor/bench/measure"
)

// Services that run no other model than Inception are left out with the others.
func TestParse(t *testing.T) {
	for _, test := range []struct {
		name, args string
		want       []string // nil: an error
	}{
		{"all", "", names("inception")},
		{"a small model", "-model tiny", []string{"inceptor", "exactly-once", "python", "streams"}},
		{"some", "-only int8,onnxruntime-int8", []string{"int8", "onnxruntime-int8"}},
		{"one that does not run the model", "-model tiny -only int8", nil},
		{"one that is not known", "-only torch", nil},
		{"an unknown model", "-model vgg", nil},
		{"no round", "-rounds 0", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			o, err := parse(strings.Fields(test.args))
			if (err != nil) != (test.want == nil) || err == nil && !slices.Equal(o.only, test.want) {
				t.Errorf("got %v, %v", o.only, err)
			}
		})
	}
}

func TestAgree(t *testing.T) {
	first := `{"precision":"float32","predictions":[{"index":2,"score":0.9}]}`
	for _, test := range []struct {
		name   string
		of     contender
		answer string
		want   string // a part of the error
	}{
		{"the same", contender{tolerance: tolerance}, first, ""},
		{"within the tolerance", contender{tolerance: wideTolerance}, `{"predictions":[{"index":2,"score":0.88}]}`, ""},
		{"beyond it", contender{tolerance: tolerance}, `{"predictions":[{"index":2,"score":0.88}]}`, "class 2 with 0.88"},
		{"another class", contender{tolerance: 1}, `{"predictions":[{"index":1,"score":0.9}]}`, "class 1"},
		{"rows", contender{tolerance: tolerance}, `{"outputs":{"scores":[0.05,0.05,0.9]}}`, ""},
		{"in its precision", contender{tolerance: wideTolerance, precision: "int8"}, `{"precision":"int8","predictions":[{"index":2,"score":0.9}]}`, ""},
		{"not in its precision", contender{tolerance: wideTolerance, precision: "int8"}, first, errPrecision.Error()},
		{"no prediction", contender{tolerance: tolerance}, `{}`, "no predictions"},
		{"not JSON", contender{tolerance: tolerance}, `-`, "answer"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := &bench{services: []*service{{contender: contender{name: "inceptor"}}}}
			if err := b.agree(&service{contender: contender{tolerance: tolerance}}, []measure.Answer{{Value: []byte(first)}}); err != nil {
				t.Fatal(err)
			}
			err := b.agree(&service{contender: test.of}, []measure.Answer{{Value: []byte(test.answer)}})
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if absent := errors.Is(err, errPrecision); absent != (test.name == "not in its precision") {
				t.Errorf("counts as absent: %v", absent)
			}
		})
	}
}
