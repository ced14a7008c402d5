package infer_test

import (
	"fmt"
	"strings"

	"inceptor/model/infer"
)

// Explain tells from a SavedModel's files how its records are answered. It needs no TensorFlow.
func ExampleExplain() {
	e := infer.Explain("../../savedmodel/testdata/tiny", infer.Rows, infer.SpecOverrides{})
	if e.Refused != "" {
		fmt.Println("refused:", e.Refused)
		return
	}
	for _, input := range e.Inputs {
		fmt.Printf("input %s: %v %v from the %s\n", input.Key, input.DType, input.Shape, input.From)
	}
	fmt.Printf("output %s: %d classes, labels: %v\n", e.Scores, e.Classes, e.Labels)

	// This model takes rows of numbers, so it is refused where records are images.
	e = infer.Explain("../../savedmodel/testdata/tiny", infer.Images, infer.SpecOverrides{})
	_, why, _ := strings.Cut(e.Refused, ": ") // without the name of the signature
	fmt.Println(why)
	// Output:
	// input features: float32 [N, 4] from the record
	// output scores: 3 classes, labels: assets/labels.txt
	// input "features" takes rows of 4 numbers, not images: set --input.format tensor-json
}
